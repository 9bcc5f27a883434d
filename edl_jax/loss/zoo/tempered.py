"""Bi-tempered logistic loss: cross-entropy with a tempered logarithm (bounded) and a tempered softmax (heavy tails).

`log_t x = (x^(1 - t) - 1) / (1 - t)` and its inverse `exp_t x = [1 + (1 - t) x]_+^(1 / (1 - t))`, ln and exp at t = 1,
are computed from ln q alone, as `expm1_over` and `log1p_over`, so that no gap between logits loses its value or slope.
"""

import math

import jax
import jax.numpy as jnp

from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import check, expm1_over, label_mean, log1p_over, log_p_of_labels

# Exact to rounding in float64 after 9 steps for t2 in [1, 50], 2 to 30,000 classes and gaps up to 1e4 (normal logits of
# every scale, staircases, ramps, some classes ahead of all others); t2 = 3 takes the most.
_NEWTON_STEPS = 10


@from_targets(of_p_t=False)
def bi_tempered(t: Targets, *, t1: float = 0.8, t2: float = 1.2) -> jax.Array:
    """Bi-tempered logistic loss, `sum_c y_c (log_t1 y_c - log_t1 q_c) - (y_c^(2 - t1) - q_c^(2 - t1)) / (2 - t1)`.

    `q_c = exp_t2(z_c - lambda(z))`, the tempered softmax, with lambda such that q sums to 1. Bounded by `1 / (1 - t1)`
    for t1 < 1, against mislabelled examples far off; for t2 > 1 the tails of q fall as a power of the gap, against
    those near the boundary, and its gradient fades as slowly: as `(1 + 0.2 gap)^-2` for C = 2 and the defaults.
    (t1, t2) = (1, 1) is cross-entropy, less the entropy of the labels.

    Soft labels: this formula, a Bregman divergence between y and q: 0 at q = y, and not affine in y. lambda is found
    to full precision (not by the five fixed-point steps of the paper) and differentiated implicitly, so forward
    and reverse mode of any order work.

    Args:
      t1: in `[0, 1]`; may be traced, as t2.
      t2: finite, at least 1; in single precision lambda overflows from `(t2 - 1) ln C` = 88 on. (0.8, 1.2) is a
        common choice.

    References:
      Amid et al., Robust Bi-Tempered Logistic Loss Based on Bregman Divergences, 2019, arXiv 1906.03361.
    """
    check("bi_tempered: t1", t1, "0 <= t1 <= 1", lambda x: 0.0 <= x <= 1.0)
    check("bi_tempered: t2", t2, "a finite number of at least 1", lambda x: 1.0 <= x < math.inf)
    dtype = t.log_p.dtype
    power = 1.0 - jnp.asarray(t1, dtype)
    t = t.with_log_p(_log_tempered_softmax(t, jnp.asarray(t2, dtype)))
    cross = label_mean(t, -expm1_over(power, log_p_of_labels(t)))
    mass = jnp.sum(jnp.exp((1.0 + power) * t.log_p), axis=-1, where=t.present) / (1.0 + power)
    return cross + mass + _of_labels(t, power)


def _of_labels(t: Targets, power: jax.Array) -> jax.Array:
    """Return `sum_c y_c log_t1 y_c - y_c^(2 - t1) / (2 - t1)`, power = 1 - t1; a scalar for integer labels."""
    order = 1.0 + power
    if t.y is None:
        return -1.0 / order
    some = t.y > 0.0
    log_y = jnp.log(jnp.where(some, t.y, 1.0))
    return jnp.sum(t.y * expm1_over(power, log_y) - jnp.exp(order * log_y) / order, axis=-1, where=some)


def _log_tempered_softmax(t: Targets, t2: jax.Array) -> jax.Array:
    """Return `[..., C]` ln q, 0 for absent classes."""
    x = jnp.where(t.present, t.log_p - _normaliser(t.log_p, t2)[..., None], 0.0)
    return log1p_over(1.0 - t2, x)


@jax.custom_jvp
@jax.jit  # outside jit the loop would be compiled anew by every call
def _normaliser(z: jax.Array, t2: jax.Array) -> jax.Array:
    """Return lambda `[...]` with `sum_c exp_t2(z_c - lambda) = 1` for z `[..., C]`, `-inf` where a class is absent.

    Newton's method on `S^(1 - t2) = 1`, S the sum, from lambda = max z: it comes from below, so that no argument is
    ever positive, and the first step is exact when the classes are equal or t2 = 1.
    """

    def step(_: int, value: jax.Array) -> jax.Array:
        log_e = _log_exp(z, value, t2)
        present = z != -jnp.inf
        total = jnp.sum(jnp.exp(log_e), axis=-1, where=present)
        slope = jnp.sum(jnp.exp(t2 * log_e), axis=-1, where=present)
        return value + expm1_over(1.0 - t2, jnp.log(total)) * total**t2 / slope

    return jax.lax.fori_loop(0, _NEWTON_STEPS, step, jnp.max(z, axis=-1))


@_normaliser.defjvp
def _normaliser_jvp(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Differentiate sum q = 1: `d lambda = sum_c w_c (dz_c + d_c dt2)`, `w = q^t2 / sum q^t2`.

    `d_c dt2` is how far t2 moves ln q_c at fixed z_c - lambda, as a change of z_c.
    """
    (z, t2), (dz, dt2) = primals, tangents
    value = _normaliser(z, t2)
    present = z != -jnp.inf
    x = jnp.where(present, z - value[..., None], 0.0)
    log_q, moved = jax.jvp(lambda t: log1p_over(1.0 - t, x), (t2,), (dt2,))
    weights = jax.nn.softmax(jnp.where(present, t2 * log_q, -jnp.inf), axis=-1)
    return value, jnp.sum(weights * (jnp.where(present, dz, 0.0) + (1.0 + (1.0 - t2) * x) * moved), axis=-1)


def _log_exp(z: jax.Array, value: jax.Array, t2: jax.Array) -> jax.Array:
    """Return ln exp_t2(z - value) `[..., C]`, 0 where a class is absent."""
    return log1p_over(1.0 - t2, jnp.where(z == -jnp.inf, 0.0, z - value[..., None]))
