"""How differently two losses train: the distance of their gradients at random predictions, their scale aside."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import jax
import numpy as np

from edl_jax.loss.quick import quick_options
from edl_jax.search.tables import logit_gradient

Item = TypeVar("Item")
_EXAMPLES = 256
_SCALES = (0.3, 5.0)  # of the logits: from nearly even to nearly sure
_CHUNK = 64  # tables at once


def directions(tables: np.ndarray, num_classes: int = 10) -> np.ndarray:
    """Return unit vectors whose distances say how differently losses train.

    A vector holds arcsinh(g / m) for the gradients g in the logits at 256 random predictions, m the median of their
    magnitudes: neither a factor of the loss nor its steepest places decide. Cross-entropy is 0.06 from label
    smoothing and from poly1, 0.47 from gce, 0.78 from Brier.

    Args:
      tables: `[P, 2, K]` slopes.
      num_classes: C.

    Returns:
      float32 `[P, 256 C]`; NaN for a loss with gradients that are not finite.
    """
    rng = np.random.default_rng(0)
    logits = np.geomspace(*_SCALES, _EXAMPLES)[:, None] * rng.standard_normal((_EXAMPLES, num_classes))
    labels = rng.integers(0, num_classes, _EXAMPLES, np.int32)
    found = np.zeros((len(tables), _EXAMPLES * num_classes), np.float32)
    for start in range(0, len(tables), _CHUNK):
        part = tables[start : start + _CHUNK]
        padded = np.pad(part, [(0, _CHUNK - len(part)), (0, 0), (0, 0)])
        found[start : start + _CHUNK] = np.asarray(_gradients()(padded, logits.astype(np.float32), labels))[: len(part)]
    with np.errstate(all="ignore"):
        middle = np.median(np.abs(found), axis=1, keepdims=True)
        bent = np.arcsinh(found / np.where(middle > 0.0, middle, 1.0))
        return bent / np.linalg.norm(bent, axis=1, keepdims=True)


def apart(
    items: Iterable[Item],
    tables: Callable[[Sequence[Item]], np.ndarray],
    count: int,
    distance: float,
    num_classes: int = 10,
) -> list[Item]:
    """Return the first items that train differently from every one returned before.

    Args:
      items: losses in any form, the best first; no more are taken than are looked at.
      tables: some of them -> their tables `[P, 2, K]`.
      count: items, at most.
      distance: of `directions`, which they must exceed; 0 for the first `count` items as they are.
      num_classes: C.
    """
    left, chosen = iter(items), list[Item]()
    if distance == 0.0:
        return list(itertools.islice(left, count))
    vectors = np.zeros((0, _EXAMPLES * num_classes), np.float32)
    while len(chosen) < count and (part := list(itertools.islice(left, _CHUNK))):
        for item, vector in zip(part, directions(tables(part), num_classes), strict=True):
            near = len(vectors) and np.min(np.linalg.norm(vectors - vector, axis=1)) <= distance
            if len(chosen) < count and np.isfinite(vector).all() and not near:
                chosen.append(item)
                vectors = np.concatenate([vectors, vector[None]])
    return chosen


@functools.cache
def _gradients() -> "jax.stages.Wrapped":
    every = jax.vmap(logit_gradient, in_axes=(0, None, None))
    return jax.jit(lambda *args: every(*args).reshape(len(args[0]), -1), compiler_options=quick_options())
