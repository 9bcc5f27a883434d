"""One run of stage 2, from an open run directory to its result."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from edl_jax import training
from edl_jax.core.errors import DivergedError
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.downstream import midway, profile
from edl_jax.downstream.classifier import write_signature
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.midway import Midway
from edl_jax.downstream.result import conclude, draw, finished_result
from edl_jax.downstream.task import Task
from edl_jax.downstream.trainer import Trainer, Trainers
from edl_jax.training.epoch import Begun, TrainEpoch
from edl_jax.training.progress import Progress
from edl_jax.training.tensorboard import Scalars


class Extras(NamedTuple):
    """What a run writes beside its numbers, which it does not change.

    Attributes:
      figures: draw figures at the end.
      tensorboard: write the scalars of each epoch for TensorBoard.
      profile: write a trace of the profiler after the first epoch.
      figure_format: of the figures: png, pdf or svg.
      temperature: report temperature scaling as well.
    """

    figures: bool = True
    tensorboard: bool = False
    profile: bool = False
    figure_format: str = "png"
    temperature: bool = False


def run_one(
    directory: Run,
    config: DownstreamConfig,
    task: Task,
    trainers: Trainers,
    extras: Extras,
    stop: Stop,
    *,
    start: float,
    note: str = "",
) -> dict[str, Any]:
    """Train the epochs that are left, write the result, close the directory, and draw the figures that are not there.

    Args:
      directory: open run directory; where the run has finished, its result is returned.
      config: what to run.
      task: from `prepare_task`.
      trainers: compiles, or has compiled.
      extras: what to write beside.
      stop: is looked at after every step.
      start: `time.perf_counter()` at which the run began.
      note: added to the line that a person sees.

    Raises:
      Stopped: `stop` was asked; `--resume` goes on after the last step.
    """
    try:
        result = finished_result(directory.path)
        if result is None:
            write_signature(directory.path, task)  # before training, so that any checkpoint can be used
            session = _Session(directory, config, task, trainers.get(config, task), extras, stop, note)
            with stop.deferring():
                state, earlier_seconds = _train(session)
            rows, temperature = directory.metrics(), extras.temperature
            result = conclude(directory.path, rows, config, task, session.trainer, state, temperature=temperature)
            stop.check(f"its training{note}")
            result["wall_seconds"] = round(earlier_seconds + time.perf_counter() - start, 2)
        directory.finish(result)
        if extras.figures:
            draw(directory.path, config, task.dataset.label_names, extras.figure_format)
        return result
    finally:
        directory.close()


class _Session(NamedTuple):
    """What training is given."""

    directory: Run
    config: DownstreamConfig
    task: Task
    trainer: Trainer
    extras: Extras
    stop: Stop
    note: str

    def check(self, step: int) -> None:
        """Raise `Stopped` where the run is to stop; what the steps up to `step` have done is stored."""
        self.stop.check(f"step {step} of {self.task.steps * self.config.epochs}{self.note}")

    def store(self, epoch: int, state: training.TrainState) -> None:
        """Save the checkpoint of a whole epoch, counted from 1, which outdates that of a part of it; then `check`."""
        self.directory.save(epoch, state)
        midway.remove(self.directory.path)
        self.check(epoch * self.task.steps)


class _Epochs(NamedTuple):
    """What the epochs of a session share."""

    train_epoch: TrainEpoch
    evaluated: dict[str, Sequence[training.EvalBatch]]  # by the prefix of their metrics
    progress: Progress


class _Start(NamedTuple):
    """Where training begins or goes on."""

    state: training.TrainState
    epoch: int  # counted from 0
    begun: Begun | None = None  # of that epoch
    seconds: float = 0.0  # that this part took


def _train(session: _Session) -> tuple[training.TrainState, float]:
    """Train the epochs that are left: a line of metrics, then a checkpoint, after each.

    Returns:
      The last state, and the seconds that earlier sessions took for what they have stored.
    """
    directory, config, task, trainer, extras, stop, note = session
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    state, first, begun, seconds = _restored(session, trainer.init(init_key))
    measured = ("seconds", "train_seconds", "images_per_second", "test_accuracy", "test_ece")
    directory.rewind("epoch", first, needs=(*measured, "val_accuracy") if config.val_size else measured)
    rows = directory.metrics()
    earlier_seconds = sum(row["seconds"] for row in rows) + seconds

    val_batches = trainer.batches(task.val_images, task.val_labels)
    evaluated = {"val": val_batches, "test": trainer.test_batches} if val_batches else {"test": trainer.test_batches}
    num_evaluated = len(task.val_images) + len(task.dataset.test_images)
    done_steps = first * task.steps + (begun.done if begun else 0)
    progress = Progress(
        f"{config.arch} on {config.dataset} with {config.loss_title} ({jax.default_backend()}){note}",
        steps=task.steps,
        epochs=config.epochs,
        done_steps=done_steps,
        eval_share=num_evaluated / (task.steps * config.batch_size),
        stop=stop,
    )
    examples = (task.images, task.labels)
    if task.loop != "stream":
        examples = jax.device_put((np.asarray(task.images), task.labels))
    epochs = _Epochs(trainer.epochs(train_key, *examples), evaluated, progress)
    scalars = Scalars(directory.path / "tensorboard", rows) if extras.tensorboard else None
    try:
        session.check(done_steps)
        for epoch in range(first, config.epochs):
            state, row = _epoch(session, epochs, _Start(state, epoch, begun, seconds))
            begun, seconds = None, 0.0
            directory.log(row)
            if scalars is not None:
                scalars.add(row)
            progress.finish_epoch(row["seconds"], {name: row[f"{name}_accuracy"] for name in ("train", *evaluated)})
            if stop.requested or (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
                session.store(epoch + 1, state)
            if extras.profile and epoch == first:
                _profile(session, epochs, state)
    finally:
        progress.close()
        if scalars is not None:
            scalars.close()
    return state, earlier_seconds


def _restored(session: _Session, state: training.TrainState) -> _Start:
    """Return where a run goes on: in the epoch that was stopped, after the newest checkpoint, or at `state`."""
    directory, task, epoch = session.directory, session.task, 0
    stored = directory.restore(state)
    if stored is None:
        directory.save(0, state)  # so that a run which diverges at once also has a good checkpoint
    else:
        epoch, state = stored
    whole = task.steps if task.loop == "scan" else 1
    stopped = midway.restore(directory.path, state, step=epoch * task.steps, whole=whole)
    return _Start(state, epoch) if stopped is None else _Start(*stopped.place(task.steps))


def _profile(session: _Session, epochs: _Epochs, state: training.TrainState) -> None:
    """Trace some steps, and print where the time goes."""
    config, task = session.config, session.task
    folder = session.directory.path / "profile"
    traced, seconds = profile.trace(folder, epochs.train_epoch, state, loop=task.loop, steps=task.steps)
    shown = profile.lines(
        folder,
        traced,
        images_per_second=traced * config.batch_size / seconds,
        batch_size=config.batch_size,
        step_flops=session.trainer.flops(),
        precision=task.precision,
    )
    epochs.progress.note("\n".join(shown))


def _epoch(session: _Session, epochs: _Epochs, start: _Start) -> tuple[training.TrainState, dict[str, Any]]:
    """Train and evaluate one epoch, or what is left of it; return the new state and its line of metrics.

    The host fetches twice: after training, which is timed without evaluation, and after evaluation.
    """
    directory, config, task, trainer, _, stop, _ = session
    train_epoch, evaluated, progress = epochs
    state, epoch, begun, earlier_seconds = start
    progress.start_epoch(begun.done if begun else 0)
    since = time.perf_counter() - earlier_seconds
    if begun is not None and begun.done == task.steps:
        train_sums = begun.sums
    else:
        state, train_sums = train_epoch(state, epoch, progress, begun)
    bad_step, step, train_sums = jax.device_get((state.bad_step, state.step, train_sums))  # waits for the device
    train_seconds = time.perf_counter() - since
    if bad_step >= 0:
        raise _diverged(directory, config, epoch, int(bad_step), float(trainer.lr(np.int32(bad_step))))
    last_step = (epoch + 1) * task.steps
    sums = {}
    if not stop.requested:
        sums = {
            name: trainer.evaluate(state.averaged, batches, lambda: stop.requested)
            for name, batches in evaluated.items()
        }
        sums, lr = jax.device_get((sums, trainer.lr(np.int32(last_step - 1))))
    if stop.requested:  # before the evaluation, or in it: it is made again
        midway.save(directory.path, Midway(state, train_sums, np.array(train_seconds, np.float32)))
        session.check(int(step))
    train = train_sums.means()
    row = {
        "epoch": epoch + 1,
        "step": last_step,
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        **{f"{part}_{name}": value for part, found in sums.items() for name, value in found.means().items()},
        "lr": float(lr),
        "images_per_second": round(task.steps * config.batch_size / train_seconds, 1),
        "train_seconds": round(train_seconds, 4),
        "seconds": round(time.perf_counter() - since, 3),
    }
    return state, row


def _diverged(directory: Run, config: DownstreamConfig, epoch: int, step: int, lr: float) -> DivergedError:
    kept = directory.checkpoints.steps()[-1]  # a stop may have stored a later one than was due
    return DivergedError(
        f"training with loss {config.loss_title} became non-finite at step {step} (epoch {epoch + 1}, lr {lr:.4g}): "
        f"the last good checkpoint is that of epoch {kept} in {directory.path / 'checkpoints'}; "
        f"lower --lr (now {config.numbers.lr:g}) or raise --warmup-epochs (now {config.warmup:g})"
    )
