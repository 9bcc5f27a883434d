"""Ranking-consistency objective: worse predictions should cost more, whatever the loss's scale and offset.

    F = mean softplus(beta (m (e_b - e_a) / s_e - (l_b - l_a) / s_l)) / beta     over pairs with e_a < e_b

s_e and s_l are the standard deviations of severity and loss over the batch, so that F is unchanged under
a l + b with a > 0 and cannot be lowered by scaling.
"""

from typing import Any

import jax
import jax.numpy as jnp


def grouped_ranking_fitness(
    losses: jax.Array, severities: jax.Array, *, reuse: int = 1, beta: float = 1.0, margin: float = 0.0
) -> jax.Array:
    """Return the objective F over predictions in groups of one label each, a scalar.

    Every prediction is scored once and paired with the `reuse` that follow it in its group, cyclically.

    Args:
      losses: `[L, V]` losses of V predictions for each of L labels.
      severities: `[L, V]` their severities.
      reuse: pairs that each prediction starts, from 1 to V - 1.
      beta: sharpness of the softplus, positive.
      margin: m, the margin asked for per unit of standardised severity.

    Returns:
      F over the pairs of unequal severity; ln 2 / beta for a constant loss at m = 0.
    """
    (loss_a, loss_b), (severity_a, severity_b) = (grouped_pairs(x, reuse) for x in (losses, severities))
    # Differences before the division: fused into one operation, the other order turns ties into differences.
    gap_l, gap_e = (loss_b - loss_a) / _scale(losses), (severity_b - severity_a) / _scale(severities)
    return _objective(gap_l, gap_e, beta, margin)


def grouped_pairs(x: Any, reuse: int) -> tuple[Any, Any]:
    """Return both sides `[reuse L V]` of the pairs that `grouped_ranking_fitness` compares, for values `[L, V]`.

    Arrays of NumPy give arrays of NumPy, those of JAX give those of JAX.
    """
    xp = x.__array_namespace__()
    first = xp.broadcast_to(x[None], (reuse, *x.shape))
    second = xp.stack([xp.roll(x, -k, axis=-1) for k in range(1, reuse + 1)])
    return first.reshape(-1), second.reshape(-1)


def _objective(gap_l: jax.Array, gap_e: jax.Array, beta: float, margin: float) -> jax.Array:
    """Return the mean penalty over pairs of unequal severity, from standardised differences."""
    order = jnp.sign(gap_e)
    x = beta * (margin * jnp.abs(gap_e) - order * gap_l)
    # softplus; jax.nn.softplus also handles infinities, at twice the cost.
    terms = (jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x)))) / beta
    counts = order != 0.0
    return jnp.sum(jnp.where(counts, terms, 0.0)) / jnp.maximum(jnp.sum(counts), 1)


def ranking_accuracy(loss_a: jax.Array, loss_b: jax.Array, severity_a: jax.Array, severity_b: jax.Array) -> jax.Array:
    """Return the share of pairs (of unequal severity) that the loss orders as severity does; ties are errors."""
    order = jnp.sign(severity_b - severity_a)
    counts = order != 0.0
    right = jnp.sign(loss_b - loss_a) == order
    return jnp.sum(right & counts) / jnp.maximum(jnp.sum(counts), 1)


def kendall_tau(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return Kendall's tau-b of two `[N]` vectors from all N (N - 1) / 2 pairs, O(N^2) memory."""
    sign_x = jnp.sign(x[:, None] - x[None, :])
    sign_y = jnp.sign(y[:, None] - y[None, :])
    norm = jnp.sqrt(jnp.sum(jnp.abs(sign_x)) * jnp.sum(jnp.abs(sign_y)))
    return jnp.sum(sign_x * sign_y) / jnp.where(norm > 0.0, norm, 1.0)


def _scale(values: jax.Array) -> jax.Array:
    """Return the standard deviation of all values together, 1 where it is 0, NaN where one is not finite."""
    std = jnp.std(values)
    return jnp.where(std == 0.0, 1.0, std)  # not `>`: an infinite loss must not be scored on another scale
