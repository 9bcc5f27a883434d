"""Exact evaluation: every example counts once, whatever the size of a batch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from edl_jax.training import compiler
from edl_jax.training.metrics import EvalSums
from edl_jax.training.state import TrainState
from edl_jax.training.step import EvalStep


class EvalBatch(NamedTuple):
    """A batch of fixed size: images uint8 [B, H, W, C], labels int32 [B], mask bool [B], False for padding."""

    images: jax.Array
    labels: jax.Array
    mask: jax.Array


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
