"""What the classic losses share: the label-weighted mean, ln(1 - p), powers, raw logits, checks of hyper-parameters.

A loss of p_t alone has the same definition for both forms of labels. `log_p_of_labels` gives ln p_t, `[...]`, for
integer labels and ln p_c, `[..., C]`, for probabilities; the loss maps it element by element; `label_mean` brings
the result to `[...]`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.core.errors import require
from edl_jax.loss.contract import Targets

_NO_OTHERS = -1e30  # ln(1 - p) when no other class exists: finite, so that 0 times it is 0


def log_p_of_labels(t: Targets) -> jax.Array:
    """Return ln p of the true class `[...]` (integer labels) or of every class `[..., C]` (probabilities)."""
    if t.log_p_t is not None:
        return t.log_p_t
    if t.classes is not None:
        return t.sum(jnp.where(t.is_true, t.log_p, 0.0))
    # 0 ln 0 = 0: an absent class carries no label mass and must leave no NaN in the gradient.
    return jnp.where(t.present, t.log_p, 0.0)


def log_not_p_of_labels(t: Targets) -> jax.Array:
    """Return ln(1 - p), laid out as `log_p_of_labels`, exact where p rounds to 1 (`_NO_OTHERS` without other classes).

    Only a p above a half can come near 1, so it alone needs a sum over the others.
    """
    if t.classes is not None:
        return _log_sum(t, t.present & ~t.is_true)
    above_half = t.log_p > math.log(0.5)
    rest = _log_sum(t, t.present & ~above_half)
    at_most_half = jnp.where(t.present & ~above_half, t.log_p, -1.0)
    return jnp.where(above_half, rest[..., None], jnp.log1p(-jnp.exp(at_most_half)))


def one_minus_exp(x: jax.Array) -> jax.Array:
    """Return 1 - e^x for x <= 0, exact in value near 0 and in slope far below: the slope of expm1 is expm1 + 1."""
    return jnp.where(x > -0.5, -jnp.expm1(x), 1.0 - jnp.exp(x))


def expm1_over(s: jax.Array, x: jax.Array) -> jax.Array:
    """Return (e^(s x) - 1) / s, x at s = 0, with derivatives in s (a scalar) and x there as well: a power, less 1."""
    u = s * x
    small = jnp.abs(u) < _series_below(u)
    # The quotient cancels in its derivative in s near s = 0. The inner `where`s keep what the branch that is not taken
    # divides by 0, or overflows to, out of the gradient.
    quotient = -one_minus_exp(jnp.where(small, 1.0, u)) / jnp.where(small, 1.0, s)
    u = jnp.where(small, u, 0.0)
    return jnp.where(small, x * (1.0 + u * (0.5 + u / 6.0)), quotient)


def log1p_over(s: jax.Array, x: jax.Array) -> jax.Array:
    """Return ln(1 + s x) / s, x at s = 0: the inverse of `expm1_over` in x, with derivatives as there."""
    u = s * x
    small = jnp.abs(u) < _series_below(u)
    quotient = jnp.log1p(jnp.where(small, 1.0, u)) / jnp.where(small, 1.0, s)
    u = jnp.where(small, u, 0.0)
    return jnp.where(small, x * (1.0 - u * (0.5 - u / 3.0)), quotient)


def look_up(column: Any, index: jax.Array) -> jax.Array:
    """Return entries `[...]` of a column `[K]` at an index `[...]` int32 in range.

    They are sharded as the index: on a mesh with Explicit axis types a gather has to be told.
    """
    sharding = jax.typeof(index).sharding
    if all(axis is None for axis in sharding.spec):
        return jnp.take(jnp.asarray(column), index, mode="clip")
    return jnp.asarray(column).at[index].get(mode="clip", out_sharding=sharding)


def label_mean(t: Targets, values: jax.Array) -> jax.Array:
    """Return `[...]`: values of the true class as they are, values of every class weighted by the labels."""
    if t.classes is not None:
        return values
    assert t.y is not None
    return t.sum(t.y * values, where=t.present)


def uniform_cross_entropy(t: Targets) -> jax.Array:
    """Return `[...]`: the mean of -ln p_c over the classes that exist."""
    return -t.sum(jnp.where(t.present, t.log_p, 0.0)) / num_classes(t)


def num_classes(t: Targets) -> jax.Array:
    """Return `[...]`: how many classes exist, at least 1, in the dtype of `log_p`."""
    return jnp.maximum(t.sum(t.present.astype(jnp.int32)), 1).astype(t.log_p.dtype)


def raw_logits(t: Targets) -> jax.Array:
    """Return the logits `[..., C]`; 0 for absent classes and examples that do not count."""
    return jnp.where(t.present & t.counts[..., None], t.logits, 0.0)


def check(name: str, value: Any, expected: str, holds: Callable[[float], bool]) -> None:
    """Raise UserError unless the hyper-parameter `name` (`"focal: gamma"`) is a number for which `holds`.

    A traced value cannot be checked and passes.
    """
    if isinstance(value, jax.core.Tracer):
        return
    try:
        valid = not isinstance(value, str) and holds(float(value))
    except (TypeError, ValueError):
        valid = False
    require(valid, f"{name} is {value}, expected {expected}")


def _series_below(x: jax.Array) -> float:
    """Return the size from which on three terms of a series are exact to rounding."""
    return float(jnp.finfo(x.dtype).eps) ** (1.0 / 3.0)


def _log_sum(t: Targets, where: jax.Array) -> jax.Array:
    """Return ln of the sum of p over the classes `[..., C]` of a mask, `_NO_OTHERS` where it has none."""
    top = t.max(jnp.where(where, t.log_p, _NO_OTHERS))
    total = t.sum(jnp.exp(jnp.where(where, t.log_p - top[..., None], _NO_OTHERS)))
    none = total == 0.0  # not `<`: a NaN must stay visible
    return jnp.where(none, _NO_OTHERS, jnp.log(jnp.where(none, 1.0, total)) + top)
