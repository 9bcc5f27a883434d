"""Losses that a search over formulas found: Baikal, absolute cross-entropy, sparse label smoothing.

Formulas with p = softmax(logits), y the label probabilities, t the true class and C the number of classes that exist.
"""

import math

import jax
import jax.numpy as jnp

from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import (
    check,
    label_mean,
    log_not_p_of_labels,
    log_p_of_labels,
    num_classes,
    uniform_cross_entropy,
)

_BAIKAL_LOG_P = math.log(1e-7)


@from_targets(of_p_t=False)
def baikal(t: Targets) -> jax.Array:
    """Baikal, `-(1 / C) sum_c (ln p_c - y_c / p_c)`: an over-confident prediction pays as well.

    With the wrong classes equal, the minimum is at `p_t = 1 / sqrt(C)`. `1 / p` is kept down to p = 1e-7, where the
    authors clip, and goes on as its tangent in ln p below, so that no gap between logits overflows or stops the
    gradient. Affine in y, so soft labels are the label-weighted mean. Values beyond the range of float16 are infinite
    in float16.

    References:
      Gonzalez and Miikkulainen, Improved Training Speed, Accuracy, and Data Utilization Through Loss Function
      Optimization, 2020, arXiv 1905.11528.
    """
    log_p = log_p_of_labels(t)
    inverse = jnp.exp(-jnp.maximum(log_p, _BAIKAL_LOG_P)) * (1.0 + jnp.maximum(_BAIKAL_LOG_P - log_p, 0.0))
    return uniform_cross_entropy(t) + label_mean(t, inverse) / num_classes(t)


@from_targets(of_p_t=True)
def ace(t: Targets, *, phi0: float = 1.0, phi1: float = 1.1) -> jax.Array:
    """Absolute cross-entropy, `phi0 |ln(phi1 p_t)|`, with a kink and its minimum at `p_t = 1 / phi1`.

    Label smoothing by other means: with `phi1 = 1 / (1 - alpha + alpha / C)` the minimum is where
    `label_smoothing` with `alpha` has it. Soft labels: the label-weighted mean.

    Args:
      phi0: scale, greater than 0.
      phi1: inverse of the p_t aimed at, greater than 0; the default aims at 0.909. From 1 down there is no kink and
        the loss differs from cross-entropy by a scale and an offset.

    References:
      Raymond et al., Learning Symbolic Model-Agnostic Loss Functions via Meta-Learning, 2023, arXiv 2209.08907.
    """
    check("ace: phi0", phi0, "a finite number greater than 0", lambda x: 0.0 < x < math.inf)
    check("ace: phi1", phi1, "a finite number greater than 0", lambda x: 0.0 < x < math.inf)
    return label_mean(t, phi0 * jnp.abs(log_p_of_labels(t) + jnp.log(phi1)))


@from_targets(of_p_t=False)
def sparse_lsr(t: Targets, *, alpha: float = 0.1) -> jax.Array:
    """Sparse label smoothing, `-(1 - a + a / C) ln p_t - a (C - 1) / C ln((1 - p_t) / (C - 1))`, a = `alpha`.

    Label smoothing as a function of p_t alone: equal to it when the wrong classes share 1 - p_t equally. (The
    authors' released code adds the second term, which breaks that equality; the sign here is the one that keeps it.)
    ln(1 - p_t) is taken from the wrong classes' logits, so that it is exact where p_t rounds to 1. Soft labels: the
    label-weighted mean.

    Args:
      alpha: smoothing in `[0, 1]`.

    References:
      Raymond et al., Learning Symbolic Model-Agnostic Loss Functions via Meta-Learning, 2023, arXiv 2209.08907.
    """
    check("sparse_lsr: alpha", alpha, "0 <= alpha <= 1", lambda x: 0.0 <= x <= 1.0)
    log_p, count = log_p_of_labels(t), num_classes(t)
    count = count if t.y is None else count[..., None]
    share = log_not_p_of_labels(t) - jnp.log(jnp.maximum(count - 1.0, 1.0))
    wrong = alpha * (count - 1.0) / count
    return label_mean(t, -(1.0 - wrong) * log_p - wrong * share)
