"""The compiled functions of stage 2, which runs of different seeds share."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax import data, training
from edl_jax.core import status
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.task import Task, initial_state, make_optimizer
from edl_jax.loss.threads import Threads
from edl_jax.training.epoch import BindEpoch

_EVAL_BATCH = 1000


class Trainer(NamedTuple):
    """Compiled functions. What depends on the seed is passed in: keys, images and labels.

    Attributes:
      init: key -> state before the first step.
      epochs: (key, images, labels) -> epochs of one training.
      evaluate: (state, batches, enough) -> sums.
      report: () -> the full evaluation (variables, batches) -> report, compiled when it is first asked for.
      lr: step -> learning rate.
      flops: () -> floating-point operations of a training step, as XLA counts them.
      eval_batch_size: images of a batch that `evaluate` and `report` take.
      resident: whether what is evaluated every epoch stays on the device.
      test_batches: the test set.
      compile_seconds: time that compilation took.
    """

    init: Callable[[jax.Array], training.TrainState]
    epochs: BindEpoch
    evaluate: training.Evaluate
    report: Callable[[], Callable[[Mapping[str, Any], Sequence[training.EvalBatch]], training.Report]]
    lr: Callable[[np.int32], jax.Array]
    flops: Callable[[], float]
    eval_batch_size: int
    resident: bool
    test_batches: Sequence[training.EvalBatch]
    compile_seconds: float

    def batches(self, images: data.ImageView, labels: np.ndarray) -> Sequence[training.EvalBatch]:
        """Return examples as the batches that `evaluate` and `report` take."""
        return training.make_eval_batches(images, labels, self.eval_batch_size, resident=self.resident)


class Trainers:
    """Gives the trainer of a task: compiled once for tasks of one config that differ in their seed."""

    def __init__(self) -> None:
        self._last: tuple[Any, Trainer] | None = None

    def get(self, config: DownstreamConfig, task: Task) -> Trainer:
        """Return the trainer; tasks of a size that was met before take it as it is."""
        shape = task.images.shape
        if self._last is not None and self._last[0] == shape:
            return self._last[1]._replace(compile_seconds=0.0)
        trainer = compile_trainer(config, task)
        self._last = (shape, trainer)
        return trainer


def compile_trainer(config: DownstreamConfig, task: Task) -> Trainer:
    """Compile what a run needs; nothing is run yet."""
    optimizer: optax.GradientTransformation = make_optimizer(config, task.schedule)

    @jax.jit
    def init(key: jax.Array) -> training.TrainState:
        return initial_state(key, config, task.model, task.images.shape[1:], optimizer)

    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(init, key)
    images = jax.ShapeDtypeStruct(task.images.shape, task.images.dtype)
    labels = jax.ShapeDtypeStruct(task.labels.shape, task.labels.dtype)
    prepare = training.make_prepare(task.dataset, jnp.dtype(task.precision))
    train_step = training.make_train_step(task.model, task.loss_fn, optimizer, prepare, task.augment, ema=config.ema)
    # One size for all that is evaluated, the training images of the end included: one program.
    size = min(_EVAL_BATCH, max(len(task.dataset.test_images), len(task.images)))
    resident = task.loop != "stream"
    test_batches = training.make_eval_batches(
        task.dataset.test_images, task.dataset.test_labels, size, resident=resident
    )

    status.say("compiling")
    start = time.perf_counter()
    with Threads() as threads:  # all of it, since an interrupt reaches this thread only while it waits
        threads.submit(lambda: init.lower(key).compile())  # a call finds it, or fails as this did
        compiling = threads.submit(
            training.compile_epochs, train_step, state, images, labels, batch_size=config.batch_size, loop=task.loop
        )
        evaluating = threads.submit(
            training.compile_evaluate, training.make_eval_step(task.model, prepare), state, test_batches[0]
        )
        epochs, evaluate = compiling.result(), evaluating.result()
    seconds = time.perf_counter() - start

    @functools.cache
    def report() -> Callable[[Mapping[str, Any], Sequence[training.EvalBatch]], training.Report]:
        return training.compile_report(task.model, prepare, state.variables, test_batches[0])

    def flops() -> float:
        batch = (
            jax.ShapeDtypeStruct((config.batch_size, *images.shape[1:]), images.dtype),
            jax.ShapeDtypeStruct((config.batch_size,), labels.dtype),
        )
        # Of the program as written: in the compiled one, calls of libraries are not counted.
        lowered = jax.jit(train_step).lower(state, training.TrainSums.zeros(), key, *batch)
        return float((lowered.cost_analysis() or {}).get("flops", 0.0))

    lr = jax.jit(task.schedule)
    return Trainer(init, epochs, evaluate, report, lr, flops, size, resident, test_batches, seconds)
