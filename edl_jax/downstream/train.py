"""One run of stage 2, from an open run directory to its result."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from edl_jax import training
from edl_jax.core.errors import DivergedError
from edl_jax.core.runs import Run
from edl_jax.downstream import profile
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.result import conclude, finished_result
from edl_jax.downstream.task import Task
from edl_jax.downstream.trainer import Trainer, Trainers
from edl_jax.training.epoch import TrainEpoch
from edl_jax.training.progress import Progress
from edl_jax.training.tensorboard import Scalars


class Extras(NamedTuple):
    """What a run writes beside its numbers, which it does not change.

    Attributes:
      figures: draw figures at the end.
      tensorboard: write the scalars of each epoch for TensorBoard.
      profile: write a trace of the profiler after the first epoch.
      figure_format: of the figures: png, pdf or svg.
    """

    figures: bool = True
    tensorboard: bool = False
    profile: bool = False
    figure_format: str = "png"


def run_one(
    directory: Run,
    config: DownstreamConfig,
    task: Task,
    trainers: Trainers,
    extras: Extras,
    *,
    start: float,
    note: str = "",
) -> dict[str, Any]:
    """Train the epochs that are left, write the result, and close the directory.

    Args:
      directory: open run directory; where the run has finished, its result is returned.
      config: what to run.
      task: from `prepare_task`.
      trainers: compiles, or has compiled.
      extras: what to write beside.
      start: `time.perf_counter()` at which the run began.
      note: added to the line that a person sees.
    """
    try:
        result = finished_result(directory.path)
        if result is None:
            result = _train(directory, config, task, trainers.get(config, task), extras, start, note)
        directory.finish(result)
        return result
    finally:
        directory.close()


class _Session(NamedTuple):
    """What the epochs of a run share."""

    directory: Run
    config: DownstreamConfig
    task: Task
    trainer: Trainer
    train_epoch: TrainEpoch
    evaluated: dict[str, Sequence[training.EvalBatch]]  # by the prefix of their metrics
    progress: Progress


def _train(
    directory: Run, config: DownstreamConfig, task: Task, trainer: Trainer, extras: Extras, start: float, note: str
) -> dict[str, Any]:
    """Train the epochs that are left: a line of metrics, then a checkpoint, after each."""
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    state, done = trainer.init(init_key), 0
    stored = directory.restore(state)
    if stored is None:
        directory.save(0, state)  # so that a run which diverges at once also has a good checkpoint
    else:
        done, state = stored
    measured = ("seconds", "train_seconds", "images_per_second", "test_accuracy", "test_ece")
    directory.rewind("epoch", done, needs=(*measured, "val_accuracy") if config.val_size else measured)
    rows = directory.metrics()
    earlier_seconds = sum(row["seconds"] for row in rows)

    val_batches = trainer.batches(task.val_images, task.val_labels)
    evaluated = {"val": val_batches, "test": trainer.test_batches} if val_batches else {"test": trainer.test_batches}
    num_evaluated = len(task.val_images) + len(task.dataset.test_images)
    progress = Progress(
        f"{config.arch} on {config.dataset} with {config.loss_title} ({jax.default_backend()}){note}",
        steps=task.steps,
        epochs=config.epochs,
        done_epochs=done,
        eval_share=num_evaluated / (task.steps * config.batch_size),
    )
    examples = (task.images, task.labels)
    if task.loop != "stream":
        examples = jax.device_put((np.asarray(task.images), task.labels))
    train_epoch = trainer.epochs(train_key, *examples)
    scalars = Scalars(directory.path / "tensorboard", rows) if extras.tensorboard else None
    session = _Session(directory, config, task, trainer, train_epoch, evaluated, progress)
    try:
        for epoch in range(done, config.epochs):
            state, row = _epoch(session, state, epoch)
            directory.log(row)
            if scalars is not None:
                scalars.add(row)
            if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
                directory.save(epoch + 1, state)
            progress.finish_epoch(row["seconds"], {name: row[f"{name}_accuracy"] for name in ("train", *evaluated)})
            if extras.profile and epoch == done:
                _profile(session, state)
    finally:
        progress.close()
        if scalars is not None:
            scalars.close()
    drawn = extras.figure_format if extras.figures else None
    result = conclude(directory.path, directory.metrics(), config, task, trainer, state, figure_format=drawn)
    return {**result, "wall_seconds": round(earlier_seconds + time.perf_counter() - start, 2)}


def _profile(session: _Session, state: training.TrainState) -> None:
    """Trace some steps, and print where the time goes."""
    config, task = session.config, session.task
    folder = session.directory.path / "profile"
    traced, seconds = profile.trace(folder, session.train_epoch, state, loop=task.loop, steps=task.steps)
    shown = profile.lines(
        folder,
        traced,
        images_per_second=traced * config.batch_size / seconds,
        batch_size=config.batch_size,
        step_flops=session.trainer.flops(),
        precision=task.precision,
    )
    session.progress.note("\n".join(shown))


def _epoch(session: _Session, state: training.TrainState, epoch: int) -> tuple[training.TrainState, dict[str, Any]]:
    """Train and evaluate one epoch (counted from 0); return the new state and its line of metrics.

    The host fetches twice: after training, which is timed without evaluation, and after evaluation.
    """
    directory, config, task, trainer, train_epoch, evaluated, progress = session
    progress.start_epoch()
    start = time.perf_counter()
    state, train_sums = train_epoch(state, epoch, progress)
    bad_step, train_sums = jax.device_get((state.bad_step, train_sums))  # waits for the device
    train_seconds = time.perf_counter() - start
    if bad_step >= 0:
        raise _diverged(directory, config, epoch, int(bad_step), float(trainer.lr(np.int32(bad_step))))
    train = train_sums.means()
    last_step = (epoch + 1) * task.steps
    sums = {name: trainer.evaluate(state.averaged, batches) for name, batches in evaluated.items()}
    sums, lr = jax.device_get((sums, trainer.lr(np.int32(last_step - 1))))
    row = {
        "epoch": epoch + 1,
        "step": last_step,
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        **{f"{part}_{name}": value for part, found in sums.items() for name, value in found.means().items()},
        "lr": float(lr),
        "images_per_second": round(task.steps * config.batch_size / train_seconds, 1),
        "train_seconds": round(train_seconds, 4),
        "seconds": round(time.perf_counter() - start, 3),
    }
    return state, row


def _diverged(directory: Run, config: DownstreamConfig, epoch: int, step: int, lr: float) -> DivergedError:
    kept = epoch - epoch % config.checkpoint_every
    return DivergedError(
        f"training with loss {config.loss_title} became non-finite at step {step} (epoch {epoch + 1}, lr {lr:.4g}): "
        f"the last good checkpoint is that of epoch {kept} in {directory.path / 'checkpoints'}; "
        f"lower --lr (now {config.numbers.lr:g}) or raise --warmup-epochs (now {config.warmup:g})"
    )
