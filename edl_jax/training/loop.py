"""Drivers of one epoch, and exact evaluation.

XLA's CPU backend runs the gradients of convolutions inside `lax.scan` (or any while loop) without its fast
kernels, many times slower than outside (jax issue 12868; `benchmarks/cpu_loop.py` measures it). So there are
two drivers of the same step with the same numbers:

    scan    the whole epoch is one compiled `lax.scan`: nothing to dispatch (GPU, TPU)
    steps   a compiled step in a Python loop: nothing inside a while loop (CPU)
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.errors import require, unknown
from edl_jax.training import compiler
from edl_jax.training.metrics import EvalSums, TrainSums
from edl_jax.training.state import TrainState
from edl_jax.training.step import EvalStep, TrainStep

LOOPS = ("auto", "scan", "steps")
_CHECK_EVERY = 50  # steps between two looks at bad_step


class Watch(Protocol):
    """What the `steps` driver asks and tells while an epoch runs."""

    def due(self, done: int) -> bool:
        """Return whether to wait for the device after `done` steps of the epoch."""
        ...

    def report(self, done: int) -> None:
        """Take note that `done` steps of the epoch are finished."""
        ...


class TrainEpoch(Protocol):
    """A compiled epoch: donates `state`, returns its successor and the epoch's sums, still on the device."""

    def __call__(self, state: TrainState, epoch: int, watch: Watch | None = None) -> tuple[TrainState, TrainSums]:
        """Train for epoch number `epoch`, counted from 0."""
        ...


class EpochProgram(Protocol):
    """An epoch compiled for shapes: what one training needs of its seed and its data is passed in."""

    def __call__(self, key: jax.Array, images: jax.Array, labels: jax.Array) -> TrainEpoch:
        """Return the epochs of one training.

        Args:
          key: PRNG key of the whole training, the same for every epoch.
          images: uint8 [N, H, W, C] on the device.
          labels: int32 [N] on the device.
        """
        ...


class EvalBatch(NamedTuple):
    """A batch of fixed size: images uint8 [B, H, W, C], labels int32 [B], mask bool [B], False for padding."""

    images: jax.Array
    labels: jax.Array
    mask: jax.Array


def choose_loop(loop: str, platform: str) -> str:
    """Return `loop`, with `auto` resolved: `steps` on CPU, `scan` on accelerators.

    Raises:
      UserError: an unknown loop.
    """
    if loop not in LOOPS:
        raise unknown("loop", loop, LOOPS)
    if loop != "auto":
        return loop
    return "steps" if platform == "cpu" else "scan"


def epoch_order(key: jax.Array, epoch: jax.Array, num_examples: int, batch_size: int) -> jax.Array:
    """Return the examples of every step of an epoch: int32 [num_examples // batch_size, batch_size].

    Each epoch is its own permutation of all examples, of which the last incomplete batch is dropped.
    """
    steps = num_examples // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), num_examples)
    return order[: steps * batch_size].reshape(steps, batch_size)


def compile_epoch(
    train_step: TrainStep,
    state: TrainState,
    key: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    batch_size: int,
    loop: str,
) -> TrainEpoch:
    """Compile a training epoch over all examples, as `compile_program`, for one key and one data set."""
    return compile_program(train_step, state, images, labels, batch_size=batch_size, loop=loop)(key, images, labels)


def compile_program(
    train_step: TrainStep,
    state: TrainState,
    images: jax.Array | jax.ShapeDtypeStruct,
    labels: jax.Array | jax.ShapeDtypeStruct,
    *,
    batch_size: int,
    loop: str,
) -> EpochProgram:
    """Compile a training epoch over all examples, for any data of these shapes; nothing is run yet.

    Args:
      train_step: from `make_train_step`.
      state: initial or restored state, or its shapes.
      images: uint8 [N, H, W, C], or its shape.
      labels: int32 [N], or its shape.
      batch_size: examples of a step, at most N; the last incomplete batch of an epoch is dropped.
      loop: `scan` or `steps`.

    Raises:
      UserError: `batch_size` is larger than the data set.
    """
    num_examples = images.shape[0]
    require(
        1 <= batch_size <= num_examples,
        f"batch_size is {batch_size}, expected between 1 and the {num_examples} training examples",
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    build = _compile_scan if loop == "scan" else _compile_steps
    return build(train_step, state, key, images, labels, batch_size)


def make_scan(train_step: TrainStep, batch_size: int) -> Callable[..., tuple[TrainState, TrainSums]]:
    """Return the pure epoch of the `scan` driver: (state, epoch, order_key, step_key, images, labels)."""

    def train_epoch(
        state: TrainState,
        epoch: jax.Array,
        order_key: jax.Array,
        step_key: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> tuple[TrainState, TrainSums]:
        def body(carry: tuple[TrainState, TrainSums], rows: jax.Array) -> tuple[tuple[TrainState, TrainSums], None]:
            return train_step(*carry, step_key, _take(images, rows), _take(labels, rows)), None

        order = epoch_order(order_key, epoch, images.shape[0], batch_size)
        return jax.lax.scan(body, (state, jax.tree.map(jnp.asarray, TrainSums.zeros())), order)[0]

    return train_epoch


def _compile_scan(
    train_step: TrainStep, state: TrainState, key: Any, images: Any, labels: Any, batch_size: int
) -> EpochProgram:
    train_epoch = jax.jit(make_scan(train_step, batch_size), donate_argnums=0)
    compiled = compiler.compile_program(train_epoch.lower(state, np.int32(0), key, key, images, labels))

    def bind(key: jax.Array, images: jax.Array, labels: jax.Array) -> TrainEpoch:
        order_key, step_key = jax.random.split(key)

        def run(state: TrainState, epoch: int, watch: Watch | None = None) -> tuple[TrainState, TrainSums]:
            del watch  # a scan cannot be watched
            return compiled(state, np.int32(epoch), order_key, step_key, images, labels)

        return run

    return bind


def make_batch_step(train_step: TrainStep, steps: int) -> Callable[..., tuple[TrainState, TrainSums]]:
    """Return the pure step of the `steps` driver: (state, sums, order, key, images, labels)."""

    def train_batch(
        state: TrainState,
        sums: TrainSums,
        order: jax.Array,
        key: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> tuple[TrainState, TrainSums]:
        rows = order[state.step % steps]
        return train_step(state, sums, key, _take(images, rows), _take(labels, rows))

    return train_batch


def _compile_steps(
    train_step: TrainStep, state: TrainState, key: Any, images: Any, labels: Any, batch_size: int
) -> EpochProgram:
    num_examples = images.shape[0]
    steps = num_examples // batch_size

    @jax.jit
    def draw_order(key: jax.Array, epoch: jax.Array) -> jax.Array:
        return epoch_order(key, epoch, num_examples, batch_size)

    compiled_order = draw_order.lower(key, np.int32(0)).compile()
    order_shape = jax.ShapeDtypeStruct((steps, batch_size), jnp.int32)
    train_batch = jax.jit(make_batch_step(train_step, steps), donate_argnums=(0, 1))
    compiled = compiler.compile_program(train_batch.lower(state, TrainSums.zeros(), order_shape, key, images, labels))

    def bind(key: jax.Array, images: jax.Array, labels: jax.Array) -> TrainEpoch:
        order_key, step_key = jax.random.split(key)

        def run(state: TrainState, epoch: int, watch: Watch | None = None) -> tuple[TrainState, TrainSums]:
            order = compiled_order(order_key, np.int32(epoch))
            sums = TrainSums.zeros()
            for done in range(1, steps + 1):
                state, sums = compiled(state, sums, order, step_key, images, labels)
                if done % _CHECK_EVERY == 0 if watch is None else watch.due(done):
                    if int(state.bad_step) >= 0:  # waits for the device
                        break
                    if watch is not None:
                        watch.report(done)
            return state, sums

        return run

    return bind


def make_eval_batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> list[EvalBatch]:
    """Return all examples as batches of one size on the device, the last one padded and masked.

    Args:
      images: uint8 [N, H, W, C].
      labels: int32 [N].
      batch_size: examples of a batch.
    """
    batches = []
    for start in range(0, len(images), batch_size):
        chunk, chunk_labels = images[start : start + batch_size], labels[start : start + batch_size]
        missing = batch_size - len(chunk)
        batches.append(
            EvalBatch(
                images=jax.device_put(np.pad(chunk, ((0, missing), (0, 0), (0, 0), (0, 0)))),
                labels=jax.device_put(np.pad(chunk_labels, (0, missing))),
                mask=jax.device_put(np.arange(batch_size) < len(chunk)),
            )
        )
    return batches


def compile_evaluate(
    eval_step: EvalStep, state: TrainState, batch: EvalBatch
) -> Callable[[TrainState, Sequence[EvalBatch]], EvalSums]:
    """Compile evaluation on batches shaped like `batch`; every example counts exactly once.

    A Python loop on every platform: a few dispatches per epoch, and one program for every data set.
    """
    step = jax.jit(eval_step, donate_argnums=1)
    compiled = compiler.compile_program(step.lower(state, EvalSums.zeros(), *batch))

    def evaluate(state: TrainState, batches: Sequence[EvalBatch]) -> EvalSums:
        sums = EvalSums.zeros()
        for batch in batches:
            sums = compiled(state, sums, *batch)
        return sums

    return evaluate


def _take(array: jax.Array, rows: jax.Array) -> jax.Array:
    return array.at[rows].get(mode="promise_in_bounds", unique_indices=True)
