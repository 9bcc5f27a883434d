"""What a loss looks like: its pull on the true class beside cross-entropy's, and the group that it belongs to.

The pull is -dl/dz_t, the force on the true class's logit z_t, where the other classes are equally probable: for
cross-entropy it is 1 - p_t. Here it is read at equal steps of the gap between logits, from p_t = 0.001 to 0.9999.
A multiple of cross-entropy's pull, found by least squares, is the `scale`: what the loss does to the learning rate.
With r the pull over that multiple of cross-entropy's, point by point, the groups of EvoMAL's paper (arXiv 2209.08907)
are, the first that holds:

1. implicit label smoothing: pulls up to a p_t between 1 / C and 0.999 and pushes from there on (r below -0.01, and
   nowhere above 0.01 again), so that the loss is least below p_t = 1 (label smoothing, ACE, Baikal).
2. focal-like: r at p_t = 0.99 is less than half of r at 0.5, while r at 0.01 is at least half of it: what is easy
   counts less, what is hard does not (focal; not Brier and the like, which forget what is hard as well).
3. entropy-like: `r_squared` is at least 0.9 (cross-entropy, Poly-1).
4. other: all else (Brier, MAE), a loss that pushes more than it pulls, and one whose pull is not finite.
"""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jax.typing import ArrayLike

from edl_jax.core.errors import require
from edl_jax.loss.quick import quick_options
from edl_jax.search.tables import logit_gradient

ENTROPY, FOCAL, SMOOTHING, OTHER = "entropy-like", "focal-like", "implicit label smoothing", "other"
GROUPS: tuple[str, ...] = (ENTROPY, FOCAL, SMOOTHING, OTHER)
"""The names of the groups."""

LEAST_R_SQUARED = 0.9
"""Of what is entropy-like: the pull is a multiple of cross-entropy's but for a third of it, in the mean square."""
SURE = 0.999
"""The p_t below which the loss must be least for implicit label smoothing."""
_EASY, _MIDDLE, _HARD, _HALF = 0.99, 0.5, 0.01, 0.5
_NOTHING = 0.01  # of r: what interpolation in a table leaves of a pull of 0 is a fifth of it

_POINTS = 201
_LOGIT_P = np.linspace(np.log(1e-3 / (1.0 - 1e-3)), np.log((1.0 - 1e-4) / 1e-4), _POINTS)
_P = 1.0 / (1.0 + np.exp(-_LOGIT_P))
_REFERENCE = 1.0 / (1.0 + np.exp(_LOGIT_P))

_DRAWN = (-12.0, 10.0)  # ln(p_t / (1 - p_t))


class Shape(NamedTuple):
    """What a loss looks like, from its pull.

    Attributes:
      group: one of `GROUPS`.
      scale: the factor on the learning rate: the multiple of cross-entropy's pull that is nearest; NaN where the pull
        is not finite.
      r_squared: share of the squared pull that this multiple is, from 0 to 1; NaN where the pull is not finite.
      minimum: p_t at which the loss is least, for implicit label smoothing; else None, as it is least at p_t = 1 or
        nowhere.
    """

    group: str
    scale: float
    r_squared: float
    minimum: float | None


def pull(table: ArrayLike, logit_p_t: ArrayLike, num_classes: int) -> np.ndarray:
    """Return the pull `[N]` float64 on the true class's logit, the other classes equally probable.

    Args:
      table: `[2, K]` slopes, as `tables` has them.
      logit_p_t: `[N]` ln(p_t / (1 - p_t)).
      num_classes: C.

    Raises:
      UserError: fewer than two classes.
    """
    require(num_classes >= 2, f"num_classes is {num_classes}, expected at least 2")
    logit_p_t = np.asarray(logit_p_t, np.float64)
    logits = np.zeros((len(logit_p_t), num_classes))
    logits[:, 0] = logit_p_t + np.log(num_classes - 1)
    with jax.enable_x64(True):
        gradient = _program()(np.asarray(table, np.float32), logits, np.zeros(len(logits), np.int32))
        return -np.asarray(gradient)[:, 0]


def profile(table: ArrayLike, num_classes: int, points: int = 401) -> tuple[np.ndarray, np.ndarray]:
    """Return (gap, pull), `[points]` float64 each, for a figure.

    Args:
      table: `[2, K]` slopes.
      num_classes: C.
      points: number of points.

    Returns:
      The logit of the true class minus that of the others, ascending, and the pull there.
    """
    logit_p_t = np.linspace(*_DRAWN, points)
    return logit_p_t + np.log(num_classes - 1), pull(table, logit_p_t, num_classes)


def describe(table: ArrayLike, num_classes: int) -> Shape:
    """Return group, scale, R^2 and minimum of a loss, by the rules that stand above.

    Args:
      table: `[2, K]` slopes.
      num_classes: C, at least 2.

    Raises:
      UserError: fewer than two classes.
    """
    found = pull(table, _LOGIT_P, num_classes)
    if not np.isfinite(found).all():
        return Shape(OTHER, np.nan, np.nan, None)
    size = float(np.max(np.abs(found)))
    if size == 0.0:
        return Shape(OTHER, 0.0, 0.0, None)
    found = found / size  # squares of large slopes would overflow
    product, square = float(found @ _REFERENCE), float(_REFERENCE @ _REFERENCE)
    scale, r_squared = product / square, min(product**2 / (square * float(found @ found)), 1.0)
    if scale <= 0.0:
        return Shape(OTHER, scale * size, r_squared, None)
    ratio = found / (scale * _REFERENCE)
    minimum = _minimum(ratio, num_classes)
    if minimum is not None:
        group = SMOOTHING
    elif _is_focal(ratio):
        group = FOCAL
    else:
        group = ENTROPY if r_squared >= LEAST_R_SQUARED else OTHER
    return Shape(group, scale * size, r_squared, minimum)


def group(table: ArrayLike, num_classes: int) -> str:
    """Return which of `GROUPS` a loss belongs to; see `describe`."""
    return describe(table, num_classes).group


def _minimum(ratio: np.ndarray, num_classes: int) -> float | None:
    """Return the p_t between 1 / C and `SURE` up to which `[N]` pulls and from which on it pushes, if there is one."""
    pushes = np.flatnonzero(ratio < -_NOTHING)
    if not len(pushes) or np.any(ratio[pushes[0] :] > _NOTHING):
        return None
    pulls = np.flatnonzero(ratio[: pushes[0]] > 0.0)
    if not len(pulls):
        return None
    between = slice(pulls[-1], pulls[-1] + 2)
    place = np.interp(0.0, -ratio[between], _LOGIT_P[between])
    p_t = float(1.0 / (1.0 + np.exp(-place)))
    return p_t if 1.0 / num_classes < p_t < SURE else None


def _is_focal(ratio: np.ndarray) -> bool:
    """Return whether `[N]` falls towards p_t = 1 and does not towards 0."""
    easy, middle, hard = np.interp([_EASY, _MIDDLE, _HARD], _P, ratio)
    return bool(middle > 0.0 and easy < _HALF * middle and hard >= _HALF * middle)


@functools.cache
def _program() -> "jax.stages.Wrapped":
    return jax.jit(logit_gradient, compiler_options=quick_options())
