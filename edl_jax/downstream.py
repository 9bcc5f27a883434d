"""Stage 2: train an image classifier with a loss, learned or classic.

    python run.py downstream --arch resnet18 --dataset cifar10 --loss edl

`run` is what the command calls. Nothing here knows which loss it is: learned losses get cross-entropy's
learning rate, schedule and weight decay.
"""

import dataclasses
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax import data, loss, models, training
from edl_jax.errors import DivergedError, UserError, require, unknown
from edl_jax.runs import Run
from edl_jax.training.loop import LOOPS, TrainEpoch
from edl_jax.training.progress import Progress
from edl_jax.training.step import LossFn

PRECISIONS = ("auto", "float32", "bfloat16")
_EVAL_BATCH = 1000
_TRAIN_EVAL_SIZE = 10_000  # training images of the final clean evaluation


@dataclasses.dataclass(frozen=True)
class DownstreamConfig:
    """Train an image classifier with a loss. The defaults are those of preset `paper`."""

    arch: str = "resnet18"
    """Model: lenet5, mlp, resnet8, resnet20, resnet32, resnet44, resnet56, resnet110, resnet18, resnet34, resnet50."""
    dataset: str = "cifar10"
    """Data set: cifar10, cifar100, digits, fashion_mnist or mnist."""
    loss: str = "edl"
    """Loss: edl, edl_optimum, cross_entropy, focal, gce or another of edl_jax.loss.names(), or an artifact's path."""
    epochs: int = 200
    """Passes over the training images."""
    batch_size: int = 128
    """Images of a step; the last incomplete batch of an epoch is dropped."""
    lr: float = 0.1
    """Largest learning rate, decayed to 0 along a cosine."""
    momentum: float = 0.9
    """Nesterov momentum."""
    weight_decay: float = 5e-4
    """Coupled weight decay, on all parameters."""
    warmup_epochs: float = 5.0
    """Epochs in which the learning rate rises from 0, fewer than epochs."""
    augment: bool = True
    """Whether to crop and flip at random as is usual for the data set."""
    train_size: int | None = None
    """Number of training images, drawn by the seed with each class's share kept (None: all)."""
    seed: int = 0
    """Seed of everything random."""
    precision: str = "auto"
    """Precision of the computation: float32, bfloat16 or auto (bfloat16 on GPU and TPU)."""
    loop: str = "auto"
    """How an epoch runs: one scan, jitted steps, or auto (steps on CPU)."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints; the last epoch always makes one."""

    def __post_init__(self) -> None:
        if self.arch not in models.names():
            raise unknown("arch", self.arch, models.names())
        if self.dataset not in data.names():
            raise unknown("dataset", self.dataset, data.names())
        for name, choices in (("precision", PRECISIONS), ("loop", LOOPS)):
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), choices)
        for name, least in (("epochs", 1), ("batch_size", 1), ("checkpoint_every", 1), ("seed", 0)):
            value = getattr(self, name)
            require(least <= value < 2**31, f"{name} is {value}, expected at least {least}")
        if self.train_size is not None:
            require(
                self.train_size >= self.batch_size,
                f"train_size is {self.train_size}, expected at least batch_size ({self.batch_size})",
            )
        require(0.0 < self.lr < math.inf, f"lr is {self.lr}, expected a positive number")
        require(0.0 <= self.momentum < 1.0, f"momentum is {self.momentum}, expected at least 0 and below 1")
        require(
            0.0 <= self.weight_decay < math.inf,
            f"weight_decay is {self.weight_decay}, expected 0 or a positive number",
        )
        require(
            0.0 <= self.warmup_epochs < self.epochs,
            f"warmup_epochs is {self.warmup_epochs}, expected at least 0 and below epochs ({self.epochs})",
        )


def run(
    config: DownstreamConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train, evaluate after every epoch, and write the run directory.

    Args:
      config: what to run.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/downstream-<time>`).
      resume: continue the run in `out` from its newest checkpoint; a finished run returns its result.
      overwrite: replace the run in `out`.

    Returns:
      The content of result.json.

    Raises:
      UserError: a setting that cannot be used, absent data, or a run directory that may not be written.
      DivergedError: the loss or the parameters became non-finite.
    """
    start = time.perf_counter()
    task = _prepare_task(config, data_dir, cache_dir)
    directory = Run.open("downstream", config, out=out, resume=resume, overwrite=overwrite)
    try:
        result = _finished(directory)
        if result is None:
            result = _train(directory, config, task, start)
        directory.finish(result)
        return result
    finally:
        directory.close()


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """Everything that is settled before the run directory is written."""

    dataset: data.Dataset
    images: np.ndarray  # [N, H, W, C] uint8, the training images in use
    labels: np.ndarray  # [N] int32
    model: nn.Module
    loss_fn: LossFn
    precision: str
    loop: str
    schedule: optax.Schedule
    steps: int  # of an epoch


def _prepare_task(
    config: DownstreamConfig,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> _Task:
    """Check what can be checked without training, and load the data."""
    loss_fn = loss.get(config.loss)
    dataset = data.load(config.dataset, data_dir, cache_dir)
    num_classes = dataset.num_classes
    try:
        logits = jax.ShapeDtypeStruct((2, num_classes), jnp.float32)
        jax.eval_shape(loss_fn, logits, jax.ShapeDtypeStruct((2,), jnp.int32))
    except ValueError as error:
        raise UserError(f"loss {config.loss} does not fit {config.dataset}: {error}") from error
    images, labels = training.train_subset(dataset, config.train_size, config.seed)
    require(
        config.batch_size <= len(images),
        f"batch_size is {config.batch_size}, expected at most the {len(images)} training images of {config.dataset}",
    )
    platform = jax.default_backend()
    precision = config.precision
    if precision == "auto":
        precision = "float32" if platform == "cpu" else "bfloat16"
    steps = len(images) // config.batch_size
    return _Task(
        dataset=dataset,
        images=images,
        labels=labels,
        model=models.create(config.arch, num_classes, jnp.dtype(precision)),
        loss_fn=loss_fn,
        precision=precision,
        loop=training.choose_loop(config.loop, platform),
        schedule=training.warmup_cosine(config.lr, steps * config.epochs, round(steps * config.warmup_epochs)),
        steps=steps,
    )


def _finished(directory: Run) -> dict[str, Any] | None:
    """Return the result of a run that was resumed although it had finished."""
    path = directory.path / "result.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


class _Program(NamedTuple):
    """Compiled functions of a run."""

    train_epoch: TrainEpoch
    evaluate: Callable[[training.TrainState, Sequence[training.EvalBatch]], training.EvalSums]
    lr: Callable[[np.int32], jax.Array]  # of a step
    eval_batch_size: int
    test_batches: list[training.EvalBatch]
    compile_seconds: float


def _compile(
    config: DownstreamConfig,
    task: _Task,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    state: training.TrainState,
) -> _Program:
    test_images, test_labels = task.dataset.test_images, task.dataset.test_labels
    # One size for the test set and for the final look at the training set: one program.
    eval_batch_size = min(_EVAL_BATCH, max(len(test_images), len(task.images)))
    test_batches = training.make_eval_batches(test_images, test_labels, eval_batch_size)
    prepare = training.make_prepare(task.dataset, jnp.dtype(task.precision), augment=config.augment)
    start = time.perf_counter()
    train_epoch = training.compile_epoch(
        training.make_train_step(task.model, task.loss_fn, optimizer, prepare),
        state,
        key,
        jax.device_put(task.images),
        jax.device_put(task.labels),
        batch_size=config.batch_size,
        loop=task.loop,
    )
    evaluate = training.compile_evaluate(training.make_eval_step(task.model, prepare), state, test_batches[0])
    seconds = time.perf_counter() - start
    return _Program(train_epoch, evaluate, jax.jit(task.schedule), eval_batch_size, test_batches, seconds)


def _train(directory: Run, config: DownstreamConfig, task: _Task, start: float) -> dict[str, Any]:
    """Train the epochs that are left: a line of metrics, then a checkpoint, after each."""
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    optimizer = training.sgd(task.schedule, momentum=config.momentum, weight_decay=config.weight_decay)

    @jax.jit
    def init(key: jax.Array) -> training.TrainState:
        return training.create_state(key, task.model, task.images.shape[1:], optimizer)

    state, done = init(init_key), 0
    stored = directory.restore(state)
    if stored is None:
        directory.save(0, state)  # so that a run which diverges at once also has a good checkpoint
    else:
        done, state = stored
    directory.rewind("epoch", done)
    earlier_seconds = sum(row["seconds"] for row in directory.metrics())

    program = _compile(config, task, optimizer, train_key, state)
    progress = Progress(
        f"{config.arch} on {config.dataset} with {Path(config.loss).stem} ({jax.default_backend()})",
        steps=task.steps,
        epochs=config.epochs,
        done_epochs=done,
        eval_share=len(task.dataset.test_images) / (task.steps * config.batch_size),
    )
    try:
        for epoch in range(done, config.epochs):
            state, row = _epoch(directory, config, task, program, progress, state, epoch)
            directory.log(row)
            if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
                directory.save(epoch + 1, state)
            progress.finish_epoch(row["seconds"], {name: row[f"{name}_accuracy"] for name in ("train", "test")})
    finally:
        progress.close()
    result = _conclude(directory.metrics(), config, task, program, state)
    return {**result, "wall_seconds": round(earlier_seconds + time.perf_counter() - start, 2)}


def _epoch(
    directory: Run,
    config: DownstreamConfig,
    task: _Task,
    program: _Program,
    progress: Progress,
    state: training.TrainState,
    epoch: int,
) -> tuple[training.TrainState, dict[str, Any]]:
    """Train and evaluate one epoch (counted from 0); return the new state and its line of metrics."""
    progress.start_epoch()
    start = time.perf_counter()
    state, train_sums = program.train_epoch(state, epoch, progress)
    bad_step = int(state.bad_step)  # waits for the device
    train_seconds = time.perf_counter() - start
    if bad_step >= 0:
        raise _diverged(directory, config, epoch, bad_step, float(program.lr(np.int32(bad_step))))
    train = jax.device_get(train_sums).means()
    test = jax.device_get(program.evaluate(state, program.test_batches)).means()
    last_step = (epoch + 1) * task.steps
    row = {
        "epoch": epoch + 1,
        "step": last_step,
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        **{f"test_{name}": value for name, value in test.items()},
        "lr": float(program.lr(np.int32(last_step - 1))),
        "images_per_second": round(task.steps * config.batch_size / train_seconds, 1),
        "seconds": round(time.perf_counter() - start, 3),
    }
    return state, row


def _conclude(
    rows: list[dict[str, Any]], config: DownstreamConfig, task: _Task, program: _Program, state: training.TrainState
) -> dict[str, Any]:
    """Return the result of a finished training whose lines of metrics are `rows`."""
    size = min(_TRAIN_EVAL_SIZE, len(task.images))
    batches = training.make_eval_batches(task.images[:size], task.labels[:size], program.eval_batch_size)
    train = jax.device_get(program.evaluate(state, batches)).means()
    best = max(rows, key=lambda row: row["test_accuracy"])
    return {
        "loss": config.loss,
        "arch": config.arch,
        "dataset": config.dataset,
        "train_accuracy": train["accuracy"],
        "train_nll": train["nll"],
        **{name: rows[-1][name] for name in ("test_accuracy", "test_nll", "test_ece")},
        "best_epoch": best["epoch"],
        "best_test_accuracy": best["test_accuracy"],
        "epochs": config.epochs,
        "train_size": len(task.images),
        "num_params": training.count_params(state.params),
        "precision": task.precision,
        "loop": task.loop,
        "images_per_second": statistics.median(row["images_per_second"] for row in rows),
        "compile_seconds": round(program.compile_seconds, 2),
    }


def _diverged(directory: Run, config: DownstreamConfig, epoch: int, step: int, lr: float) -> DivergedError:
    kept = epoch - epoch % config.checkpoint_every
    return DivergedError(
        f"training with loss {config.loss} became non-finite at step {step} (epoch {epoch + 1}, lr {lr:.4g}): "
        f"the last good checkpoint is that of epoch {kept} in {directory.path / 'checkpoints'}; "
        f"lower --lr (now {config.lr:g}) or raise --warmup-epochs (now {config.warmup_epochs:g})"
    )
