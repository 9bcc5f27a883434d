"""Stage 2: train an image classifier with a loss, learned or classic.

    python run.py downstream --arch resnet18 --dataset cifar10 --loss edl

`run` is what the command calls. Nothing here knows which loss it is: learned losses get cross-entropy's
learning rate, schedule and weight decay.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax import training
from edl_jax.downstream_config import DownstreamConfig
from edl_jax.downstream_task import Task, initial_state, make_optimizer, prepare_task
from edl_jax.errors import DivergedError
from edl_jax.runs import Run
from edl_jax.training.loop import TrainEpoch
from edl_jax.training.progress import Progress

_EVAL_BATCH = 1000
_TRAIN_EVAL_SIZE = 10_000  # training images of the final evaluation

__all__ = ["DownstreamConfig", "run"]


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
    task = prepare_task(config, data_dir, cache_dir)
    directory = Run.open("downstream", config, out=out, resume=resume, overwrite=overwrite)
    try:
        result = _finished(directory)
        if result is None:
            result = _train(directory, config, task, start)
        directory.finish(result)
        return result
    finally:
        directory.close()


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
    task: Task,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    state: training.TrainState,
) -> _Program:
    test_images, test_labels = task.dataset.test_images, task.dataset.test_labels
    # One size for the test set and for the final look at the training set: one program.
    eval_batch_size = min(_EVAL_BATCH, max(len(test_images), len(task.images)))
    test_batches = training.make_eval_batches(test_images, test_labels, eval_batch_size)
    prepare = training.make_prepare(task.dataset, jnp.dtype(task.precision))
    start = time.perf_counter()
    train_epoch = training.compile_epoch(
        training.make_train_step(task.model, task.loss_fn, optimizer, prepare, task.augment),
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


def _train(directory: Run, config: DownstreamConfig, task: Task, start: float) -> dict[str, Any]:
    """Train the epochs that are left: a line of metrics, then a checkpoint, after each."""
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    optimizer = make_optimizer(config, task)

    @jax.jit
    def init(key: jax.Array) -> training.TrainState:
        return initial_state(key, config, task)

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
    task: Task,
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
    rows: list[dict[str, Any]], config: DownstreamConfig, task: Task, program: _Program, state: training.TrainState
) -> dict[str, Any]:
    """Return the result of a finished training whose lines of metrics are `rows`."""
    size = min(_TRAIN_EVAL_SIZE, len(task.images))

    def train_means(labels: np.ndarray) -> dict[str, float]:
        batches = training.make_eval_batches(task.images[:size], labels[:size], program.eval_batch_size)
        return jax.device_get(program.evaluate(state, batches)).means()

    train = train_means(task.labels)
    clean = train_means(task.true_labels) if config.label_noise > 0.0 else train
    best = max(rows, key=lambda row: row["test_accuracy"])
    return {
        "loss": config.loss,
        "arch": config.arch,
        "dataset": config.dataset,
        "train_accuracy": train["accuracy"],
        "train_nll": train["nll"],
        "train_accuracy_true_labels": clean["accuracy"],
        "generalization_gap": train["accuracy"] - rows[-1]["test_accuracy"],
        **{name: rows[-1][name] for name in ("test_accuracy", "test_nll", "test_ece")},
        "best_epoch": best["epoch"],
        "best_test_accuracy": best["test_accuracy"],
        "epochs": config.epochs,
        "train_size": len(task.images),
        "wrong_labels": float(np.mean(task.labels != task.true_labels)),
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
        f"lower --lr (now {config.numbers.lr:g}) or raise --warmup-epochs (now {config.warmup_epochs:g})"
    )
