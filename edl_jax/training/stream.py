"""The driver of an epoch for images that stay on the host: a compiled step in a Python loop, each batch sent to it.

Threads read the next batches meanwhile, from memory or from mapped files, so that a set may be larger than the device's
memory and than the host's. The order of the examples is that of the other drivers.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.backend import compiler
from edl_jax.data import ImageView
from edl_jax.data.prefetch import prefetch
from edl_jax.training.epoch import Begun, BindEpoch, TrainEpoch, Watch, compile_order, run_steps
from edl_jax.training.metrics import TrainSums
from edl_jax.training.state import TrainState
from edl_jax.training.step import TrainStep

_AHEAD = 8  # batches


def compile_stream(
    train_step: TrainStep, state: TrainState, key: Any, images: Any, labels: Any, batch_size: int
) -> BindEpoch:
    """Compile an epoch that takes images and labels which are not on the device; see `loop.compile_epochs`."""
    num_examples = images.shape[0]
    draw_order = compile_order(key, num_examples, batch_size)
    batch = (
        jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), images.dtype),
        jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    )
    train_batch = jax.jit(train_step, donate_argnums=(0, 1))
    compiled = compiler.compile_lowered(train_batch.lower(state, TrainSums.zeros(), key, *batch))

    def bind(key: jax.Array, images: ImageView | np.ndarray | jax.Array, labels: np.ndarray | jax.Array) -> TrainEpoch:
        order_key, step_key = jax.random.split(key)
        labels = np.asarray(labels, np.int32)

        def run(
            state: TrainState, epoch: int, watch: Watch | None = None, begun: Begun | None = None
        ) -> tuple[TrainState, TrainSums]:
            order = np.asarray(draw_order(order_key, epoch))[begun.done if begun else 0 :]

            def read(step: int) -> tuple[np.ndarray, np.ndarray]:
                return np.asarray(images[order[step]]), labels[order[step]]

            def sent(batches: Iterator[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[jax.Array, ...]]:
                for batch in batches:
                    yield step_key, *jax.device_put(batch)

            with closing(prefetch(read, len(order), ahead=_AHEAD)) as batches:
                return run_steps(compiled, sent(batches), state, watch, begun)

        return run

    return bind
