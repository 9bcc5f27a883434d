"""Losses of two parts made for wrong labels: an active one that pulls p_t up, a passive one that pushes others down.

The active part is normalised cross-entropy or normalised focal loss (Ma et al., 2020); the passive part is a
normalised negative loss (ANL) or the asymmetric square error (JAL). Formulas with p = softmax(logits), y the label
probabilities, t the true class and C the number of classes that exist.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import check, label_mean, log_not_p_of_labels, log_p_of_labels, num_classes


@from_targets(of_p_t=False)
def anl_ce(t: Targets, *, alpha: float = 5.0, beta: float = 5.0, min_prob: float = 1e-7) -> jax.Array:
    """Active-negative loss of cross-entropy, `alpha` `nce` + `beta` normalised negative cross-entropy.

    The second is `1 - (A + ln p_t) / sum_c (A + ln p_c)` with `A = -ln min_prob` and p cut off at `min_prob`: from 0
    to 1, and without gradient through a p below. Symmetric: the C labels of a prediction sum to
    `alpha + beta (C - 1)`. Soft labels: the label-weighted mean. The authors train with a penalty on the parameters of
    the model beside, `delta sum |w|`, which is no part of a loss of logits: give it to the optimizer. Follows their
    code.

    Args:
      alpha: weight of `nce`, at least 0. The authors' code has (alpha, beta) = (5, 5) for CIFAR-10, (10, 1) for
        CIFAR-100, (1, 1) for MNIST, (20, 1) for WebVision.
      beta: weight of the negative part, at least 0.
      min_prob: the smallest probability told from 0, in `(0, 1)`.

    References:
      Ye et al., Active Negative Loss Functions for Learning with Noisy Labels, NeurIPS 2023, extended in
      arXiv 2412.02373, and the authors' code.
    """
    _check_weights("anl_ce", alpha, beta)
    _check_min_prob("anl_ce", min_prob)
    every = _every_class(t)
    log_p = log_p_of_labels(every)
    negative = jnp.where(t.present, jnp.maximum(log_p - jnp.log(min_prob), 0.0), 0.0)
    return alpha * _share(every, -log_p) + beta * (1.0 - _share(every, negative))


@from_targets(of_p_t=False)
def anl_fl(
    t: Targets, *, alpha: float = 5.0, beta: float = 5.0, gamma: float = 0.5, min_prob: float = 1e-7
) -> jax.Array:
    """Active-negative loss of focal loss, `alpha` normalised focal loss + `beta` normalised negative focal loss.

    With `f(p) = -(1 - p)^gamma ln p` these are `f(p_t) / sum_c f(p_c)` and
    `1 - (A - f(p_t)) / sum_c (A - f(p_c))`, `A = f(min_prob)` and p cut off at `min_prob`. Symmetric, as `anl_ce`,
    which it is at `gamma = 0`; the penalty on the parameters is left out as there. The values are those of the
    authors' code, which holds `(1 - p)^gamma` constant in the gradient; here it is differentiated. Soft labels: the
    label-weighted mean.

    Args:
      alpha: weight of the normalised focal loss, as in `anl_ce`.
      beta: weight of the negative part, as in `anl_ce`.
      gamma: at least 0; 0.5 in the authors' code.
      min_prob: the smallest probability told from 0, in `(0, 1)`.

    References:
      Ye et al., Active Negative Loss Functions for Learning with Noisy Labels, NeurIPS 2023, extended in
      arXiv 2412.02373, and the authors' code.
    """
    _check_weights("anl_fl", alpha, beta)
    _check_gamma("anl_fl", gamma)
    _check_min_prob("anl_fl", min_prob)
    every = _every_class(t)
    focal, log_min = _focal(every, gamma), jnp.log(min_prob)
    largest = -jnp.exp(gamma * jnp.log1p(-jnp.asarray(min_prob, focal.dtype))) * log_min
    cut_off = ~t.present | (t.log_p <= log_min)
    negative = jnp.where(cut_off, 0.0, largest - focal)
    return alpha * _share(every, focal) + beta * (1.0 - _share(every, negative))


@from_targets(of_p_t=False)
def amse(t: Targets, *, a: float = 30.0) -> jax.Array:
    """Asymmetric mean square error, `(1 / C) sum_c (p_c - a y_c)^2`; `brier` / C at `a = 1`.

    For integer labels `(a^2 - 2 a p_t + sum_c p_c^2) / C`: nearly a line in p_t, as `mae` is, when a is large. The
    least value, at p_t = 1 for a of at least 1, is `(a - 1)^2 / C` and not 0.
    Soft labels: the same distance, not affine in y. The paper's passive part of `jal_ce` and `jal_fl`; follows the
    authors' code, with its exponent of 2.

    Args:
      a: what p_t is drawn to, greater than 0. The authors' code has 30 for CIFAR-10 and WebVision, 20 for CIFAR-100,
        5 for Clothing1M.

    References:
      Wang et al., Joint Asymmetric Loss for Learning with Noisy Labels, 2025, arXiv 2507.17692, and the authors' code.
    """
    _check_a("amse", a)
    return _square_error(t, a)


@from_targets(of_p_t=False)
def jal_ce(t: Targets, *, alpha: float = 1.0, beta: float = 1.0, a: float = 30.0) -> jax.Array:
    """Joint asymmetric loss of cross-entropy, `alpha` `nce` + `beta` `amse`.

    Soft labels: the label-weighted mean of the first, the distance of the second. Follows the authors' code.

    Args:
      alpha: weight of `nce`, at least 0. The authors' code has (alpha, beta, a) = (1, 1, 30) for CIFAR-10,
        (5, 1, 20) for CIFAR-100, (50, 1, 30) for WebVision, (5, 0.1, 5) for Clothing1M.
      beta: weight of `amse`, at least 0.
      a: as in `amse`.

    References:
      Wang et al., Joint Asymmetric Loss for Learning with Noisy Labels, 2025, arXiv 2507.17692, and the authors' code.
    """
    _check_weights("jal_ce", alpha, beta)
    _check_a("jal_ce", a)
    every = _every_class(t)
    return alpha * _share(every, -log_p_of_labels(every)) + beta * _square_error(t, a)


@from_targets(of_p_t=False)
def jal_fl(t: Targets, *, alpha: float = 1.0, beta: float = 1.0, gamma: float = 0.5, a: float = 30.0) -> jax.Array:
    """Joint asymmetric loss of focal loss, `alpha` normalised focal loss + `beta` `amse`.

    The first is `f(p_t) / sum_c f(p_c)` with `f(p) = -(1 - p)^gamma ln p`, as in `anl_fl`, differentiated as there.
    Soft labels: as in `jal_ce`.

    Args:
      alpha: weight of the normalised focal loss, as in `jal_ce`.
      beta: weight of `amse`, as in `jal_ce`.
      gamma: at least 0; 0.5 in the authors' code.
      a: as in `amse`.

    References:
      Wang et al., Joint Asymmetric Loss for Learning with Noisy Labels, 2025, arXiv 2507.17692, and the authors' code.
    """
    _check_weights("jal_fl", alpha, beta)
    _check_gamma("jal_fl", gamma)
    _check_a("jal_fl", a)
    every = _every_class(t)
    return alpha * _share(every, _focal(every, gamma)) + beta * _square_error(t, a)


def _every_class(t: Targets) -> Targets:
    """Return `t` with label probabilities, whichever form they have: what is `of_labels` is then of every class."""
    return t._replace(y=t.one_hot, classes=None, log_p_t=None)


def _share(t: Targets, values: jax.Array) -> jax.Array:
    """Return `[...]`: the labels' part in the sum of `values` `[..., C]`, all at least 0; 0 where all are 0."""
    total = t.sum(values, where=t.present)
    return label_mean(t, values) / jnp.where(total == 0.0, 1.0, total)


def _focal(t: Targets, gamma: ArrayLike) -> jax.Array:
    """Return the focal loss `[..., C]` of every class as the label, 0 for one that is absent."""
    return -jnp.exp(gamma * log_not_p_of_labels(t)) * log_p_of_labels(t)


def _square_error(t: Targets, a: ArrayLike) -> jax.Array:
    return t.sum(jnp.square(jnp.exp(t.log_p) - a * t.one_hot), where=t.present) / num_classes(t)


def _check_weights(name: str, alpha: ArrayLike, beta: ArrayLike) -> None:
    for parameter, value in (("alpha", alpha), ("beta", beta)):
        check(f"{name}: {parameter}", value, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)


def _check_gamma(name: str, gamma: ArrayLike) -> None:
    check(f"{name}: gamma", gamma, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)


def _check_min_prob(name: str, min_prob: ArrayLike) -> None:
    check(f"{name}: min_prob", min_prob, "0 < min_prob < 1", lambda x: 0.0 < x < 1.0)


def _check_a(name: str, a: ArrayLike) -> None:
    check(f"{name}: a", a, "a finite number greater than 0", lambda x: 0.0 < x < math.inf)
