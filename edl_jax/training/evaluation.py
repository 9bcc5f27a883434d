"""Exact evaluation: every example counts once, whatever the size of a batch."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, overload

import jax
import numpy as np

from edl_jax.backend import compiler
from edl_jax.data import ImageView
from edl_jax.training.metrics import EvalSums
from edl_jax.training.state import TrainState
from edl_jax.training.step import EvalStep

Images = np.ndarray | ImageView


class EvalBatch(NamedTuple):
    """A batch of fixed size: images uint8 [B, H, W, C], labels int32 [B], mask bool [B], False for padding."""

    images: jax.Array
    labels: jax.Array
    mask: jax.Array


class Evaluate(Protocol):
    """A compiled evaluation."""

    def __call__(
        self, state: TrainState, batches: Sequence[EvalBatch], enough: Callable[[], bool] | None = None
    ) -> EvalSums:
        """Return the sums over all examples, still on the device.

        Args:
          state: to evaluate.
          batches: of the size that was compiled for.
          enough: asked after each batch, once that is done; the sums of an evaluation that it ends are in part.
        """
        ...


class StreamedBatches(Sequence[EvalBatch]):
    """Batches that are read and sent to the device each time that they are asked for; see `make_eval_batches`."""

    def __init__(self, images: Images, labels: np.ndarray, batch_size: int) -> None:
        self._images, self._labels, self._batch_size = images, labels, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._labels) / self._batch_size)

    @overload
    def __getitem__(self, index: int) -> EvalBatch: ...
    @overload
    def __getitem__(self, index: slice) -> "Sequence[EvalBatch]": ...
    def __getitem__(self, index: int | slice) -> "EvalBatch | Sequence[EvalBatch]":
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        start = range(len(self))[index] * self._batch_size
        chunk = np.asarray(self._images[start : start + self._batch_size])
        missing = self._batch_size - len(chunk)
        return EvalBatch(
            images=jax.device_put(np.pad(chunk, ((0, missing), (0, 0), (0, 0), (0, 0)))),
            labels=jax.device_put(np.pad(self._labels[start : start + self._batch_size], (0, missing))),
            mask=jax.device_put(np.arange(self._batch_size) < len(chunk)),
        )


def make_eval_batches(
    images: Images, labels: np.ndarray, batch_size: int, *, resident: bool = True
) -> Sequence[EvalBatch]:
    """Return all examples as batches of one size, the last one padded and masked.

    Args:
      images: uint8 [N, H, W, C].
      labels: int32 [N].
      batch_size: examples of a batch.
      resident: whether all batches stay on the device; else each is sent there whenever it is asked for.
    """
    batches = StreamedBatches(images, labels, batch_size)
    return list(batches) if resident else batches


def compile_evaluate(eval_step: EvalStep, state: TrainState, batch: EvalBatch) -> Evaluate:
    """Compile evaluation on batches shaped like `batch`; every example counts exactly once.

    A Python loop on every platform: a few dispatches per epoch, and one program for every data set.
    """
    step = jax.jit(eval_step, donate_argnums=1)
    compiled = compiler.compile_lowered(step.lower(state, EvalSums.zeros(), *batch))

    def evaluate(state: TrainState, batches: Sequence[EvalBatch], enough: Callable[[], bool] | None = None) -> EvalSums:
        sums = EvalSums.zeros()
        for batch in batches:
            sums = compiled(state, sums, *batch)
            if enough is not None or isinstance(batches, StreamedBatches):
                jax.block_until_ready(sums)  # else the host would run ahead, and the whole set lie on the device
            if enough is not None and enough():
                break
        return sums

    return evaluate
