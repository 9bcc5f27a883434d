"""Drivers of one epoch.

XLA's CPU backend runs the gradients of convolutions inside `lax.scan` (or any while loop) without its fast
kernels, many times slower than outside (jax issue 12868; `benchmarks/cpu_loop.py` measures it). So there are
drivers of the same step with the same numbers:

    scan    the whole epoch is one compiled `lax.scan`: nothing to dispatch (GPU, TPU)
    steps   a compiled step in a Python loop: nothing inside a while loop (CPU)
    stream  the same, for images that do not fit on the device (`edl_jax.training.stream`)
"""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.backend import compiler
from edl_jax.core.errors import choose, require
from edl_jax.training.epoch import Begun, BindEpoch, TrainEpoch, Watch, compile_order, epoch_order, run_steps
from edl_jax.training.metrics import TrainSums
from edl_jax.training.state import TrainState
from edl_jax.training.step import TrainStep
from edl_jax.training.stream import compile_stream

LOOPS = ("auto", "scan", "steps", "stream")
_DEVICE_SHARE = 0.5  # of the memory, for images; the rest is for training


def choose_loop(loop: str, platform: str, num_bytes: int = 0, device_bytes: int | None = None) -> str:
    """Return `loop`, with `auto` resolved: `steps` on CPU, `scan` on accelerators, `stream` for what does not fit.

    Args:
      loop: `auto` or another of `LOOPS`.
      platform: of the device, as `jax.default_backend()`.
      num_bytes: of all images, training and test.
      device_bytes: memory of the device, of which half may hold images; None where it is not known.

    Raises:
      UserError: an unknown loop.
    """
    loop = choose("loop", loop, LOOPS)
    if loop != "auto":
        return loop
    if device_bytes is not None and num_bytes > _DEVICE_SHARE * device_bytes:
        return "stream"
    return "steps" if platform == "cpu" else "scan"


def compile_epoch(
    train_step: TrainStep,
    state: TrainState,
    key: jax.Array,
    images: Any,
    labels: Any,
    *,
    batch_size: int,
    loop: str,
) -> TrainEpoch:
    """Compile a training epoch over all examples, as `compile_epochs`, for one key and one data set."""
    return compile_epochs(train_step, state, images, labels, batch_size=batch_size, loop=loop)(key, images, labels)


def compile_epochs(
    train_step: TrainStep,
    state: TrainState,
    images: jax.Array | jax.ShapeDtypeStruct,
    labels: jax.Array | jax.ShapeDtypeStruct,
    *,
    batch_size: int,
    loop: str,
) -> BindEpoch:
    """Compile a training epoch over all examples, for any data of these shapes; nothing is run yet.

    Args:
      train_step: from `make_train_step`.
      state: initial or restored state, or its shapes.
      images: uint8 [N, H, W, C], or its shape.
      labels: int32 [N], or its shape.
      batch_size: examples of a step, at most N; the last incomplete batch of an epoch is dropped.
      loop: `scan`, `steps` or `stream`.

    Raises:
      UserError: `batch_size` is larger than the data set.
    """
    num_examples = images.shape[0]
    require(
        1 <= batch_size <= num_examples,
        f"batch_size is {batch_size}, expected between 1 and the {num_examples} training examples",
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    build = {"scan": _compile_scan, "steps": _compile_steps, "stream": compile_stream}
    return build[loop](train_step, state, key, images, labels, batch_size)


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
) -> BindEpoch:
    train_epoch = jax.jit(make_scan(train_step, batch_size), donate_argnums=0)
    compiled = compiler.compile_lowered(train_epoch.lower(state, np.int32(0), key, key, images, labels))

    def bind(key: jax.Array, images: jax.Array, labels: jax.Array) -> TrainEpoch:
        order_key, step_key = jax.random.split(key)

        def run(
            state: TrainState, epoch: int, watch: Watch | None = None, begun: Begun | None = None
        ) -> tuple[TrainState, TrainSums]:
            del watch  # a scan cannot be watched
            assert begun is None, "a scan is a whole epoch"
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
) -> BindEpoch:
    steps = images.shape[0] // batch_size
    draw_order = compile_order(key, images.shape[0], batch_size)
    order_shape = jax.ShapeDtypeStruct((steps, batch_size), jnp.int32)
    train_batch = jax.jit(make_batch_step(train_step, steps), donate_argnums=(0, 1))
    compiled = compiler.compile_lowered(train_batch.lower(state, TrainSums.zeros(), order_shape, key, images, labels))

    def bind(key: jax.Array, images: jax.Array, labels: jax.Array) -> TrainEpoch:
        order_key, step_key = jax.random.split(key)

        def run(
            state: TrainState, epoch: int, watch: Watch | None = None, begun: Begun | None = None
        ) -> tuple[TrainState, TrainSums]:
            given = (draw_order(order_key, epoch), step_key, images, labels)
            left = steps - (begun.done if begun else 0)
            return run_steps(compiled, itertools.repeat(given, left), state, watch, begun)

        return run

    return bind


def _take(array: jax.Array, rows: jax.Array) -> jax.Array:
    return array.at[rows].get(mode="promise_in_bounds", unique_indices=True)
