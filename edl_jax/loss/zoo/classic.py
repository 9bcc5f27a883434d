"""Cross-entropy and its neighbours: label smoothing, Brier, focal, PolyLoss.

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
    return jnp.sum(jnp.square(jnp.exp(t.log_p) - t.one_hot), axis=-1, where=t.present)


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
