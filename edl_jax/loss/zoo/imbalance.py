"""Losses for classes of unequal frequency: logit adjustment, balanced softmax, the asymmetric loss.

Formulas with z the logits, p = softmax(z) and t the true class.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edl_jax.core.errors import UserError
from edl_jax.loss.checks import is_known
from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import check, label_mean, log_p_of_labels

_NO_LOG_P = -1e30  # ln p of a class that is absent: finite, so that 0 times it is 0


@from_targets(of_p_t=False)
def logit_adjustment(
    t: Targets, *, class_counts: tuple[float, ...] | ArrayLike | None = None, tau: float = 1.0
) -> jax.Array:
    """Logit-adjusted cross-entropy, `-ln softmax(z + tau ln n)_t`: the logits learn what the frequencies do not say.

    n are the numbers of training examples of the classes; their sum does not matter. Used without the adjustment, as
    they come, the trained logits predict for classes that are equally frequent. Without `class_counts` the classes are
    taken as equally frequent, and the loss is cross-entropy. Soft labels: the label-weighted mean. Follows the
    authors' code, which adds 1e-12 to the frequencies before the logarithm.

    Args:
      class_counts: `[C]`, greater than 0; a tuple can be hashed, an array may be traced.
      tau: strength of the adjustment, at least 0; 1 in the authors' code, 0 is cross-entropy.

    Raises:
      UserError: a count is not a finite number greater than 0, or there are fewer than two.
      ValueError: as `Loss`; there are more or fewer counts than classes.

    References:
      Menon et al., Long-tail learning via logit adjustment, 2021, arXiv 2007.07314.
    """
    check("logit_adjustment: tau", tau, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
    t = _adjusted("logit_adjustment", t, class_counts, tau)
    return label_mean(t, -log_p_of_labels(t))


@from_targets(of_p_t=False)
def balanced_softmax(t: Targets, *, class_counts: tuple[float, ...] | ArrayLike | None = None) -> jax.Array:
    """Balanced softmax, `-ln(n_t e^(z_t) / sum_c n_c e^(z_c))`: `logit_adjustment` with tau = 1.

    Without `class_counts` it is cross-entropy. Soft labels: the label-weighted mean. Follows the authors' code.

    Args:
      class_counts: as in `logit_adjustment`.

    Raises:
      UserError, ValueError: as `logit_adjustment`.

    References:
      Ren et al., Balanced Meta-Softmax for Long-Tailed Visual Recognition, 2020, arXiv 2007.10740.
    """
    t = _adjusted("balanced_softmax", t, class_counts, 1.0)
    return label_mean(t, -log_p_of_labels(t))


@from_targets(of_p_t=False)
def asymmetric(t: Targets, *, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05) -> jax.Array:
    """Asymmetric loss (ASL) of two classes, absent (0) and present (1): easy absences count for less, or for nothing.

    With p the probability of class 1 and `p_m = max(p - clip, 0)`, it is `-(1 - p)^gamma_pos ln p` for label 1 and
    `-p_m^gamma_neg ln(1 - p_m)` for label 0: 0 for an absence predicted with p below `clip`, and bounded for one
    predicted with certainty to be present, which is likely to be a wrong label. Made for several labels an example,
    each class its own pair of logits (0, z), so that p is sigmoid(z). `gamma_pos = gamma_neg = clip = 0` is
    cross-entropy. Soft labels: the label-weighted mean.

    The value is that of the authors' code, which clips probabilities at 1e-8 beside, and which can hold the powers
    constant in the gradient, as its training script does; here they are differentiated.

    Args:
      gamma_pos: exponent for label 1, at least 0; 1 is the default of the authors' code, 0 in its training script.
      gamma_neg: exponent for label 0, at least 0.
      clip: shift of the probability for label 0, in `[0, 1)`.

    Raises:
      TypeError, ValueError: as `Loss`; there are not two classes.

    References:
      Ridnik et al., Asymmetric Loss For Multi-Label Classification, 2021, arXiv 2009.14119.
    """
    for parameter, value in (("gamma_pos", gamma_pos), ("gamma_neg", gamma_neg)):
        check(f"asymmetric: {parameter}", value, "a finite number of at least 0", lambda x: 0.0 <= x < math.inf)
    check("asymmetric: clip", clip, "0 <= clip < 1", lambda x: 0.0 <= x < 1.0)
    if t.log_p.shape[-1] != 2:
        raise ValueError(
            f"asymmetric is a loss of two classes, absent and present, got logits with {t.log_p.shape[-1]}: "
            "give each class a pair of logits of its own, (0, z), as loss.multilabel does"
        )
    log_p = jnp.where(t.present, t.log_p, _NO_LOG_P)
    log_absent, log_present = log_p[..., 0], log_p[..., 1]
    shifted = jnp.exp(log_present) - clip
    counts = shifted > 0.0
    power = jnp.exp(gamma_neg * jnp.log(jnp.where(counts, shifted, 1.0)))  # of p_m, which has no slope at 0
    of_absent = jnp.where(counts, -power * jnp.minimum(jnp.logaddexp(log_absent, jnp.log(clip)), 0.0), 0.0)
    of_present = -jnp.exp(gamma_pos * log_absent) * log_present
    values = jnp.stack([of_absent, of_present], axis=-1)
    return t.sum(t.one_hot * values, where=t.present)


def _adjusted(name: str, t: Targets, class_counts: Any, tau: ArrayLike) -> Targets:
    """Return `t` with the log-probabilities of softmax(z + tau ln class_counts), as it is without counts.

    Raises:
      UserError, ValueError: as `logit_adjustment`.
    """
    if class_counts is None:
        return t
    num_classes = t.log_p.shape[-1]
    _check_counts(name, class_counts, num_classes)
    counts = jnp.asarray(class_counts, t.log_p.dtype).reshape((1,) * t.counts.ndim + (num_classes,))
    absent = t.log_p == -jnp.inf
    adjusted = jnp.where(absent, -jnp.inf, jnp.where(absent, 0.0, t.log_p) + tau * jnp.log(counts))
    return t.with_log_p(jax.nn.log_softmax(adjusted, axis=-1))


def _check_counts(name: str, class_counts: Any, num_classes: int) -> None:
    expected = "a finite number greater than 0 for each class"
    try:
        counts = np.zeros(np.shape(class_counts)) if not is_known(class_counts) else np.asarray(class_counts, float)
    except (TypeError, ValueError):
        counts = np.zeros(())
    if counts.ndim != 1 or counts.size < 2:
        raise UserError(f"{name}: class_counts is {class_counts}, expected {expected}")
    if counts.shape != (num_classes,):
        raise ValueError(
            f"{name}: class_counts has {counts.size} numbers, expected {num_classes}: one for each class of the logits"
        )
    wrong = ~(np.isfinite(counts) & (counts > 0.0))
    if is_known(class_counts) and wrong.any():
        index = int(np.argmax(wrong))
        raise UserError(f"{name}: class_counts has {counts[index]:g} for class {index}, expected {expected}")
