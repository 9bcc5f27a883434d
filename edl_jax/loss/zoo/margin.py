"""Losses of the margin z_t - z_j: the multi-class hinges, the smoothed 0-1 loss, additive margin.

Formulas with z the logits, p = softmax(z), y the label probabilities and t the true class. They see differences of
logits alone, so ln p stands for z.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import check, label_mean, log_not_p_of_labels, log_p_of_labels, one_minus_exp


@from_targets(of_p_t=False)
def crammer_singer(t: Targets, *, margin: float = 1.0) -> jax.Array:
    """Multi-class hinge of the best rival, `max(0, margin + max_{j != t} z_j - z_t)`; no gradient beyond the margin.

    Soft labels: the label-weighted mean, from the two largest logits. 0 where a single class exists.
    `optax.losses.multiclass_hinge_loss` is the same function for integer labels, margin 1 and finite logits; it takes
    no label probabilities and is NaN beside a logit of `-inf`, so it is not called here.

    Args:
      margin: at least 0; 0 is the multi-class perceptron.

    References:
      Crammer and Singer, On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines, 2001, JMLR 2,
      265-292.
    """
    check("crammer_singer: margin", margin, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
    return label_mean(t, jnp.maximum(margin + _best_rival(t) - log_p_of_labels(t), 0.0))


@from_targets(of_p_t=False)
def weston_watkins(t: Targets, *, margin: float = 1.0) -> jax.Array:
    """Multi-class hinge summed over the rivals, `sum_{j != t} max(0, margin + z_j - z_t)`; 0 for a single class.

    Soft labels: the label-weighted mean, over all C^2 pairs of classes. Values beyond the range of
    float16 are infinite in float16.

    Args:
      margin: at least 0.

    References:
      Weston and Watkins, Support Vector Machines for Multi-Class Pattern Recognition, 1999, ESANN, 219-224.
    """
    check("weston_watkins: margin", margin, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
    if t.y is None:
        rival, others = t.log_p, t.present & ~t.is_true
    else:
        same = jnp.expand_dims(jnp.eye(t.log_p.shape[-1], dtype=bool), tuple(range(t.counts.ndim)))
        rival, others = t.log_p[..., None, :], t.present[..., None, :] & ~same
    ahead = jnp.maximum(margin + rival - log_p_of_labels(t)[..., None], 0.0)
    return label_mean(t, jnp.sum(ahead, axis=-1, where=others))


@from_targets(of_p_t=False)
def zero_one(t: Targets, *, steepness: float = 5.0) -> jax.Array:
    """Smoothed 0-1 loss, `1 - softmax(steepness z)_t`: the expected 0-1 loss of a class drawn from that softmax.

    For C = 2 the sigmoid of Nguyen and Sanner; `mae` of integer labels at steepness 1, the 0-1 loss as it grows.
    Bounded by 1 and symmetric: the C labels of a prediction sum to C - 1. Its gradient fades as `e^(-steepness gap)`
    on both sides, so start it from a trained model. Soft labels: the label-weighted mean.

    Args:
      steepness: greater than 0.

    References:
      Nguyen and Sanner, Algorithms for Direct 0-1 Loss Optimization in Binary Classification, 2013, ICML,
      PMLR 28(3), 1085-1093.
    """
    check("zero_one: steepness", steepness, "a finite number greater than 0", lambda x: 0.0 < x < math.inf)
    t = _scaled(t, steepness)
    return label_mean(t, one_minus_exp(log_p_of_labels(t)))


@from_targets(of_p_t=False)
def additive_margin(t: Targets, *, scale: float = 30.0, margin: float = 0.35) -> jax.Array:
    """Additive-margin softmax on cosine logits: cross-entropy of `scale (z_j - margin [j = t])`.

    The logits are meant to be cosines between a feature and the classes' weights, in [-1, 1]; nothing here makes them
    so. Computed as `ln(1 + e^(scale margin) (1 - p_t) / p_t)`, p = softmax(scale z), which is exact at any gap.
    Soft labels: the label-weighted mean. Values beyond the range of float16 are infinite in float16.

    Args:
      scale: greater than 0; 30, with margin 0.35, in the authors' README.
      margin: at least 0; 0 is cross-entropy of `scale z`.

    References:
      Wang et al., Additive Margin Softmax for Face Verification, 2018, arXiv 1801.05599.
    """
    check("additive_margin: scale", scale, "a finite number greater than 0", lambda x: 0.0 < x < math.inf)
    check("additive_margin: margin", margin, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
    t = _scaled(t, scale)
    behind = scale * margin + log_not_p_of_labels(t) - log_p_of_labels(t)
    return label_mean(t, jax.nn.softplus(behind))


def _best_rival(t: Targets) -> jax.Array:
    """Return the largest ln p of the other classes, laid out as `log_p_of_labels`; `-inf` where there are none."""
    if t.classes is not None:
        return jnp.max(t.log_p, axis=-1, where=~t.is_true, initial=-jnp.inf)
    top = jax.nn.one_hot(jnp.argmax(t.log_p, axis=-1), t.log_p.shape[-1], dtype=bool)
    second = jnp.max(t.log_p, axis=-1, where=~top, initial=-jnp.inf)
    return jnp.where(top, second[..., None], jnp.max(t.log_p, axis=-1, keepdims=True))


def _scaled(t: Targets, scale: ArrayLike) -> Targets:
    """Return `t` with the log-probabilities of softmax(scale z)."""
    absent = t.log_p == -jnp.inf
    scaled = jnp.where(absent, -jnp.inf, scale * jnp.where(absent, 0.0, t.log_p))
    return t.with_log_p(jax.nn.log_softmax(scaled, axis=-1))
