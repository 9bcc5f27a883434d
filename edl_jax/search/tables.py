"""Candidates of a search as tables: what any loss of the form sum_c g(y_c, p_c) is to the logits.

A hard label lets y take two values only, so that such a loss is two functions of u = ln p, and its gradient in the
logits needs their slopes d(u) = dg/du alone:

    dz_k = d_k - p_k sum_c d_c

A candidate is a table `[2, K]` float32 of these slopes on one grid: row 0 of the classes that are not the true one,
row 1 of the true class. Whoever made it (tree, genome, Taylor polynomial, network), one compiled program trains with
it.

The K points are equally spaced in s = ln(p / (1 - p)): equal steps of ln p where p is small, equal ratios of 1 - p
where it is nearly 1, and one formula for the place of a probability. Between two points slopes are linear in s. With
steps of h = 0.039 that leaves an error of h^2 / 8 of their second derivative in s, 0.02 % of a slope that grows as p
or as 1 / (1 - p); in a cell that holds a kink or a pole the value is one between those of its two ends. Beyond the
ends, p = 4e-11 (where what is protected by 1e-7 has died) and 1 - p = 1e-7 (where float32 ends), slopes are those of
the ends.

As the probabilities sum to 1, adding a multiple of p to g changes no gradient. Every table is made with the multiple
for which the median of d / p of row 0 over p in [0.1, 0.9] is 0: the same loss is the same table, however it is
written.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

SIZE = 1024
"""K, points of a table."""
_LOW, _HIGH = -24.0, float(np.log(1e7))
_STEP = (_HIGH - _LOW) / (SIZE - 1)
LOGIT_P: np.ndarray = np.linspace(_LOW, _HIGH, SIZE)
"""`[K]` float64: s = ln(p / (1 - p)) of the points, equally spaced."""
EXACT_LOG_P: np.ndarray = -np.logaddexp(0.0, -LOGIT_P)
"""`[K]` float64: u = ln p of the points, ascending."""
LOG_P: np.ndarray = EXACT_LOG_P.astype(np.float32)
"""`[K]` float32: u = ln p of the points, ascending."""

_MIDDLE = np.flatnonzero(np.abs(LOGIT_P) < np.log(9.0))
_P = np.exp(EXACT_LOG_P)

TOLERANCE = 2.0**-13
"""Relative difference of two slopes up to which they are equal; for small ones times `_SMALL`."""
_SMALL = 2.0**-6


def logit_gradient(table: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the gradient in the logits `[..., C]` of the loss of each example: not divided by their number.

    Under `jax.vmap` over tables it is one gather: no search for a place in the grid.

    Args:
      table: `[2, K]` slopes.
      logits: `[..., C]`, in the dtype of the result; NaN gives NaN.
      labels: `[...]` integer classes.
    """
    shifted = logits - jnp.max(logits, axis=-1, keepdims=True)
    size = jnp.exp(shifted)
    total = jnp.sum(size, axis=-1, keepdims=True)
    p = size / total
    place = jnp.clip((shifted - jnp.log(total - size) - _LOW) / _STEP, 0.0, SIZE - 1.0)
    cell = jnp.minimum(place.astype(jnp.int32), SIZE - 2)
    is_true = labels[..., None] == jax.lax.broadcasted_iota(labels.dtype, logits.shape, logits.ndim - 1)
    index = jnp.where(is_true, cell + SIZE, cell)
    slopes = table.astype(logits.dtype).reshape(-1)
    low, high = (jnp.take(slopes, i, mode="clip") for i in (index, index + 1))
    d = low + (place - cell.astype(place.dtype)) * (high - low)
    return d - p * jnp.sum(d, axis=-1, keepdims=True)


def table_of_slopes(slopes: ArrayLike) -> np.ndarray:
    """Return tables `[..., 2, K]` float32 from slopes `[..., 2, K]` float64 at `EXACT_LOG_P`.

    Slopes may be infinite or NaN, and are so in the table where they exceed float32: such a candidate ends as worst.
    """
    slopes = np.asarray(slopes, np.float64)
    with np.errstate(all="ignore"):
        ratios = slopes[..., 0, _MIDDLE] / _P[_MIDDLE]
        # One element, not the mean of two: exactly equivariant under what is added. A pole or a NaN does not move it.
        middle = np.sort(ratios, axis=-1)[..., len(_MIDDLE) // 2, None, None]
        return (slopes - np.where(np.isfinite(middle), middle, 0.0) * _P).astype(np.float32)


def same(first: ArrayLike, second: ArrayLike) -> np.ndarray:
    """Return `[...]` bool: whether tables `[..., 2, K]` are one candidate, entry by entry.

    Two slopes are equal where they differ by at most `TOLERANCE` (0.012 %) of their size, and by 1.9e-6 near 0. NaN
    equals NaN, an infinity itself. The scale of a loss counts: it is a learning rate.
    """
    a, b = _scaled(first), _scaled(second)
    with np.errstate(invalid="ignore"):
        equal = (np.abs(a - b) <= TOLERANCE) | (a == b) | (np.isnan(a) & np.isnan(b))
    return equal.all(axis=(-1, -2))


def signatures(tables: ArrayLike) -> list[str]:
    """Return a key for each table `[P, 2, K]`, equal only for tables that are the `same`.

    Slopes are rounded to multiples of the tolerance. Tables of one loss, computed in double precision along two ways,
    differ by some 1e-16: they fall on two sides of a rounding in one of a million pairs, and are then two candidates.
    """
    cells = np.nan_to_num(np.rint(_scaled(tables) / TOLERANCE), nan=2.0**30, posinf=2.0**29, neginf=-(2.0**29))
    return [hashlib.blake2b(cell.tobytes(), digest_size=16).hexdigest() for cell in cells.astype(np.int32)]


def doubled(size: int, unit: int) -> int:
    """Return `unit`, doubled until it is at least `size`: what arrays are padded to, so that few sizes are compiled."""
    while unit < size:
        unit *= 2
    return unit


def _scaled(tables: ArrayLike) -> np.ndarray:
    """Return slopes on a scale that is linear near 0 and logarithmic beyond."""
    return np.arcsinh(np.asarray(tables, np.float64) / _SMALL)
