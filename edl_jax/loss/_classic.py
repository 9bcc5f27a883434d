"""Classic losses: cross-entropy, label smoothing, Brier.

Formulas with p = softmax(logits), y the label probabilities and C the number of classes that exist.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.errors import require
from edl_jax.loss._base import Targets, targets


def cross_entropy(logits: ArrayLike, labels: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None) -> jax.Array:
    """Cross-entropy, `-sum_c y_c ln p_c`. See `Loss` for arguments, shapes, dtypes and errors."""
    t = targets(logits, labels, axis, where)
    return t.finish(_cross_entropy(t))


def label_smoothing(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """Cross-entropy against labels mixed with the uniform distribution, `(1 - alpha) y + alpha / C`.

    See `Loss` for the other arguments, shapes, dtypes and errors.

    Args:
      alpha: smoothing in `[0, 1]`; classes that do not exist get no share of it.

    References:
      Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, section 7.
    """
    if isinstance(alpha, (int, float)):  # a traced alpha cannot be checked
        require(0.0 <= float(alpha) <= 1.0, f"label_smoothing: alpha is {alpha}, expected 0 <= alpha <= 1")
    t = targets(logits, labels, axis, where)
    num_classes = jnp.maximum(jnp.sum(t.present, axis=-1), 1)
    uniform = -jnp.sum(jnp.where(t.present, t.log_p, 0.0), axis=-1) / num_classes
    return t.finish((1.0 - alpha) * _cross_entropy(t) + alpha * uniform)


def brier(logits: ArrayLike, labels: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None) -> jax.Array:
    """Brier score, `sum_c (p_c - y_c)^2`. See `Loss` for arguments, shapes, dtypes and errors.

    References:
      Brier, Verification of forecasts expressed in terms of probability, 1950.
    """
    t = targets(logits, labels, axis, where)
    return t.finish(jnp.sum(jnp.square(jnp.exp(t.log_p) - t.one_hot), axis=-1, where=t.present))


def _cross_entropy(t: Targets) -> jax.Array:
    if t.classes is not None:
        return -jnp.take_along_axis(t.log_p, t.classes[..., None], axis=-1).squeeze(-1)
    assert t.y is not None
    # 0 ln 0 = 0: an absent class carries no label mass and must leave no NaN in the gradient.
    return -jnp.sum(t.y * jnp.where(t.present, t.log_p, 0.0), axis=-1, where=t.present)
