"""Losses made for wrong labels: MAE, generalised, reverse, symmetric, normalised and Taylor cross-entropy.

Formulas with p = softmax(logits), y the label probabilities, t the true class and C the number of classes that exist.
"Symmetric" means that the values of the C possible labels of one prediction sum to a constant, so that label noise
that is uniform over the wrong classes moves no minimum (Ghosh et al., 2017).
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.core.errors import require
from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import check, label_mean, log_p_of_labels, num_classes, one_minus_exp, uniform_cross_entropy


@from_targets(of_p_t=True)
def mae(t: Targets) -> jax.Array:
    """Mean absolute error as half the L1 distance, `1/2 sum_c |p_c - y_c|`; for integer labels `1 - p_t`.

    Bounded by 1 and symmetric: the C labels of a prediction sum to C - 1. Soft labels: the same distance (total
    variation), with a kink wherever p_c = y_c.

    References:
      Ghosh et al., Robust Loss Functions under Label Noise for Deep Neural Networks, 2017, arXiv 1712.09482 (twice
      this value); Ma et al., 2020, arXiv 2006.13554 (this value).
    """
    if t.y is None:
        return one_minus_exp(log_p_of_labels(t))
    return 0.5 * t.sum(jnp.abs(jnp.exp(t.log_p) - t.y), where=t.present)


@from_targets(of_p_t=True)
def gce(t: Targets, *, q: float = 0.7, k: float | None = None) -> jax.Array:
    """Generalised cross-entropy, `(1 - p_t^q) / q`: cross-entropy as q -> 0, `1 - p_t` at q = 1; at most 1 / q.

    Truncated when `k` is given: constant, and without gradient, for `p_t <= k`. Soft labels: the label-weighted
    mean, `sum_c y_c (1 - p_c^q) / q`.

    Args:
      q: in `(0, 1]`.
      k: None, or the p_t in `(0, 1)` below which the loss is cut off; 0.5 in the paper.

    References:
      Zhang and Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, 2018,
      arXiv 1805.07836, sections 3.2 and 3.3.
    """
    check("gce: q", q, "0 < q <= 1", lambda x: 0.0 < x <= 1.0)
    if k is not None:
        check("gce: k", k, "None or 0 < k < 1", lambda x: 0.0 < x < 1.0)
    log_p = log_p_of_labels(t)
    if k is not None:
        log_p = jnp.maximum(log_p, jnp.log(k))
    return label_mean(t, one_minus_exp(q * log_p) / q)


@from_targets(of_p_t=True)
def reverse_cross_entropy(t: Targets, *, clip: float = 1e-4) -> jax.Array:
    """Reverse cross-entropy, `-sum_c p_c ln y_c` with ln 0 read as `A = ln clip`: `-A (1 - p_t)`.

    MAE times `-A` (9.21 by default). Soft labels: the label-weighted mean, `-A (1 - sum_c y_c p_c)`.

    Args:
      clip: what stands for a label probability of 0, in `(0, 1)`; 1e-4 in the authors' code.

    References:
      Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, 2019, arXiv 1908.06112.
    """
    _check_clip("reverse_cross_entropy", clip)
    return _reverse(t, clip)


@from_targets(of_p_t=True)
def sce(t: Targets, *, alpha: float = 0.1, beta: float = 1.0, clip: float = 1e-4) -> jax.Array:
    """Symmetric cross-entropy, `alpha` cross-entropy + `beta` reverse cross-entropy.

    Soft labels: the label-weighted mean.

    Args:
      alpha: weight of cross-entropy, at least 0. The authors' code has (alpha, beta) = (0.1, 1) for CIFAR-10,
        (6, 0.1) for CIFAR-100, (0.01, 1) for MNIST.
      beta: weight of reverse cross-entropy, at least 0.
      clip: as in `reverse_cross_entropy`.

    References:
      Wang et al., Symmetric Cross Entropy for Robust Learning with Noisy Labels, 2019, arXiv 1908.06112.
    """
    _check_weights("sce", alpha, beta)
    _check_clip("sce", clip)
    return alpha * label_mean(t, -log_p_of_labels(t)) + beta * _reverse(t, clip)


@from_targets(of_p_t=False)
def nce(t: Targets) -> jax.Array:
    """Normalised cross-entropy, `ln p_t / sum_c ln p_c`, in `[0, 1]` and symmetric: the C labels sum to 1.

    Soft labels: the label-weighted mean. 0 where a single class exists.

    References:
      Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, 2020, arXiv 2006.13554.
    """
    return _normalised(t)


@from_targets(of_p_t=False)
def nce_rce(t: Targets, *, alpha: float = 1.0, beta: float = 1.0, clip: float = 1e-4) -> jax.Array:
    """Active-passive loss, `alpha` normalised cross-entropy + `beta` reverse cross-entropy.

    Soft labels: the label-weighted mean.

    Args:
      alpha: weight of `nce`, at least 0. The authors' code has (alpha, beta) = (1, 1) for CIFAR-10, (10, 0.1) for
        CIFAR-100, (1, 10) for MNIST.
      beta: weight of `reverse_cross_entropy`, at least 0.
      clip: as in `reverse_cross_entropy`.

    References:
      Ma et al., Normalized Loss Functions for Deep Learning with Noisy Labels, 2020, arXiv 2006.13554.
    """
    _check_weights("nce_rce", alpha, beta)
    _check_clip("nce_rce", clip)
    return alpha * _normalised(t) + beta * _reverse(t, clip)


@from_targets(of_p_t=True)
def taylor_cross_entropy(t: Targets, *, order: int = 2) -> jax.Array:
    """Taylor series of cross-entropy at p_t = 1, cut off: `sum_{j = 1 ... order} (1 - p_t)^j / j`.

    `1 - p_t` at order 1, cross-entropy as the order grows; bounded by `1 + 1/2 + ... + 1/order`. Soft labels: the
    label-weighted mean.

    Args:
      order: terms kept, a Python integer of at least 1.

    References:
      Feng et al., Can Cross Entropy Loss Be Robust to Label Noise?, IJCAI 2020, doi 10.24963/ijcai.2020/305.
    """
    valid = isinstance(order, int) and not isinstance(order, bool) and order >= 1
    require(valid, f"taylor_cross_entropy: order is {order}, expected an integer of at least 1")
    not_p = one_minus_exp(log_p_of_labels(t))
    values = jnp.zeros_like(not_p)
    for j in range(order, 0, -1):  # Horner
        values = not_p * (1.0 / j + values)
    return label_mean(t, values)


def _reverse(t: Targets, clip: ArrayLike) -> jax.Array:
    return -jnp.log(clip) * label_mean(t, one_minus_exp(log_p_of_labels(t)))


def _normalised(t: Targets) -> jax.Array:
    alone = num_classes(t) < 2  # the sum of ln p_c is 0 there alone
    total = jnp.where(alone, 1.0, num_classes(t) * uniform_cross_entropy(t))
    return jnp.where(alone, 0.0, label_mean(t, -log_p_of_labels(t)) / total)


def _check_clip(name: str, clip: ArrayLike) -> None:
    check(f"{name}: clip", clip, "0 < clip < 1", lambda x: 0.0 < x < 1.0)


def _check_weights(name: str, alpha: ArrayLike, beta: ArrayLike) -> None:
    for parameter, value in (("alpha", alpha), ("beta", beta)):
        check(f"{name}: {parameter}", value, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
