"""Losses that see more than softmax(logits): squentropy and LogitNorm, which weigh the logits themselves.

A common offset of the logits changes their values. Formulas with z the logits, y the label probabilities, t the true
class and C the number of classes that exist.
"""

import math

import jax
import jax.numpy as jnp

from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import check, label_mean, log_p_of_labels, num_classes, raw_logits

_LOGIT_NORM_EPS = 1e-7  # of the authors' code


@from_targets(of_p_t=False)
def squentropy(t: Targets) -> jax.Array:
    """Squentropy, `-ln p_t + 1 / (C - 1) sum_{j != t} z_j^2`: cross-entropy and a square pull on the wrong logits.

    Soft labels: the label-weighted mean, `sum_j (1 - y_j) z_j^2 / (C - 1)` beside cross-entropy when y sums to 1.
    Values beyond the range of float16 are infinite in float16.

    References:
      Hui, Belkin and Wright, Cut your Losses with Squentropy, 2023, arXiv 2302.03952.
    """
    wrong = jnp.where(t.is_true, 0.0, 1.0) if t.y is None else 1.0 - t.y
    square = jnp.sum(wrong * jnp.square(raw_logits(t)), axis=-1)
    return label_mean(t, -log_p_of_labels(t)) + square / jnp.maximum(num_classes(t) - 1.0, 1.0)


@from_targets(of_p_t=False)
def logit_norm(t: Targets, *, tau: float = 0.04) -> jax.Array:
    """Cross-entropy of normalised logits, `z / (tau (||z|| + 1e-7))`: a longer logit vector lowers nothing.

    Bounded, as no two logits differ by more than `sqrt(2) / tau` afterwards. Its gradient falls as `1 / ||z||`: at
    logits of zero it is about 1e7 / tau, so start from a last layer that is not all zero. Soft labels: the
    label-weighted mean.

    Args:
      tau: temperature, greater than 0; 0.04 is common, the authors' code runs 0.01 as well.

    References:
      Wei et al., Mitigating Neural Network Overconfidence with Logit Normalization, 2022, arXiv 2205.09310.
    """
    check("logit_norm: tau", tau, "a finite number greater than 0", lambda x: 0.0 < x < math.inf)
    z = raw_logits(t)
    square = jnp.sum(jnp.square(z), axis=-1, keepdims=True)
    norm = jnp.sqrt(jnp.where(square == 0.0, 1.0, square))  # the square root has no gradient at 0
    norm = jnp.where(square == 0.0, 0.0, norm) + _LOGIT_NORM_EPS
    scaled = jnp.where(t.log_p == -jnp.inf, -jnp.inf, z / (tau * norm))
    t = t.with_log_p(jax.nn.log_softmax(scaled, axis=-1))
    return label_mean(t, -log_p_of_labels(t))
