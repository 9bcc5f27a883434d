"""Cross-entropy and its neighbours: label smoothing, Brier, focal and dual focal, PolyLoss.

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
    one_minus_exp,
    uniform_cross_entropy,
)

_NO_LOG_P = -1e30  # ln p of a class that is not there: finite, so that 0 times it is 0


@from_targets(of_p_t=True)
def cross_entropy(t: Targets) -> jax.Array:
    """Cross-entropy, `-sum_c y_c ln p_c`."""
    return label_mean(t, -log_p_of_labels(t))


@from_targets(of_p_t=False)
def label_smoothing(t: Targets, *, alpha: float = 0.1) -> jax.Array:
    """Cross-entropy against labels mixed with the uniform distribution, `(1 - alpha) y + alpha / C`.

    Args:
      alpha: smoothing in `[0, 1]`; classes that do not exist get no share of it.

    References:
      Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, section 7.
    """
    check("label_smoothing: alpha", alpha, "0 <= alpha <= 1", lambda x: 0.0 <= x <= 1.0)
    cross_entropy = label_mean(t, -log_p_of_labels(t))
    return (1.0 - alpha) * cross_entropy + alpha * uniform_cross_entropy(t)


@from_targets(of_p_t=False)
def brier(t: Targets) -> jax.Array:
    """Brier score, `sum_c (p_c - y_c)^2`, for soft labels as well: a square in y, with its minimum at p = y.

    References:
      Brier, Verification of forecasts expressed in terms of probability, 1950.
    """
    return t.sum(jnp.square(jnp.exp(t.log_p) - t.one_hot), where=t.present)


@from_targets(of_p_t=True)
def focal(t: Targets, *, gamma: float = 2.0) -> jax.Array:
    """Focal loss in its softmax form, `-(1 - p_t)^gamma ln p_t`: easy examples count for less.

    Soft labels: the label-weighted mean, `-sum_c y_c (1 - p_c)^gamma ln p_c`. `gamma = 0` is cross-entropy.

    Args:
      gamma: at least 0; 2 in the paper (for detection), 0.5 in later work on CIFAR.

    References:
      Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv 1708.02002, section 3.
    """
    check("focal: gamma", gamma, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
    # The power as exp(gamma ln(1 - p)): its gradient stays finite at p = 1 for gamma < 1.
    weight = jnp.exp(gamma * log_not_p_of_labels(t))
    return label_mean(t, -weight * log_p_of_labels(t))


@from_targets(of_p_t=False)
def dual_focal(t: Targets, *, gamma: float = 5.0) -> jax.Array:
    """Dual focal loss, `-(1 - p_t + p_j)^gamma ln p_t`, p_j the largest probability below p_t, 0 where none is below.

    Made for calibration: a learned example counts for less only as far as it leads the next class. A class above the
    true one does not enter, so that the value jumps where p_t passes another class: piecewise smooth, not continuous.
    Soft labels: the label-weighted mean, over all C^2 pairs of classes. `gamma = 0` is cross-entropy. Follows the
    authors' code, which like this one differentiates the power.

    Args:
      gamma: at least 0; chosen by validation in the paper, 5 for a ResNet-50 on CIFAR.

    References:
      Tao, Dong and Xu, Dual Focal Loss for Calibration, 2023, arXiv 2305.13665.
    """
    check("dual_focal: gamma", gamma, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
    log_p = log_p_of_labels(t)
    if t.y is None:
        other, others = t.log_p, t.present & ~t.is_true
    else:
        other, others = t.log_p[..., None, :], t.present[..., None, :]
    below = others & (other < log_p[..., None])
    log_next = jnp.max(other, axis=-1, where=below, initial=_NO_LOG_P)
    weight = jnp.exp(gamma * jnp.logaddexp(log_not_p_of_labels(t), log_next))
    return label_mean(t, -weight * log_p)


@from_targets(of_p_t=True)
def poly1(t: Targets, *, epsilon: float = 2.0) -> jax.Array:
    """PolyLoss with its first coefficient moved, `-ln p_t + epsilon (1 - p_t)`.

    Soft labels: the label-weighted mean, `sum_c y_c (-ln p_c + epsilon (1 - p_c))`. `epsilon = 0` is cross-entropy.
    `optax.losses.poly_loss_cross_entropy` is the same function for float labels and finite logits; it takes no integer
    labels, computes in the dtype of the logits and is NaN beside a logit of `-inf`, so it is not called here.

    Args:
      epsilon: at least -1, below which the loss would rise with p_t near 1; 2 for image classification in the paper.

    References:
      Leng et al., PolyLoss: A Polynomial Expansion Perspective of Classification Loss Functions, 2022,
      arXiv 2204.12511, section 4.
    """
    check("poly1: epsilon", epsilon, "a finite number of at least -1", lambda x: -1.0 <= x < math.inf)
    log_p = log_p_of_labels(t)
    return label_mean(t, -log_p + epsilon * one_minus_exp(log_p))
