"""Gradients of a loss network with respect to logits: regularisers and reports.

All take gradients of l / s_l (s_l: standard deviation of the loss over the batch), so that none of them
depends on the scale of the loss.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from edl_jax.loss.networks.kinds import NetworkConfig, g1, hard_label_loss
from edl_jax.synthetic.severity import true_class

# Gradients of l / s_l above this norm count as exploding; cross-entropy's stay below about 1.
EXPLODING_LIMIT = 5.0
_GRID = 64


class Gradients(NamedTuple):
    """Gradients of a batch.

    Attributes:
      norm: `[N]` Euclidean norms of d l / d logits, unscaled.
      wrong_way: `[N]` how fast descent on the logits lowers the true class's margin over the strongest wrong
        class, in units of s_l; 0 where it raises it.
      scale: s_l.
    """

    norm: jax.Array
    wrong_way: jax.Array
    scale: jax.Array


def loss_gradients(loss: Callable[[jax.Array], jax.Array], log_p: jax.Array, labels: jax.Array) -> Gradients:
    """Return the gradients of `loss` at a batch.

    Args:
      loss: function of logits `[N, C]` giving values `[N]`, for these labels.
      log_p: `[N, C]` log-probabilities, used as logits.
      labels: `[N]` integer classes.
    """
    values, pullback = jax.vjp(loss, log_p)
    (gradient,) = pullback(jnp.ones_like(values))
    std = jnp.std(values)
    scale = jnp.where(std > 0.0, std, 1.0)
    is_true = labels[:, None] == jnp.arange(log_p.shape[-1], dtype=labels.dtype)[None, :]
    rival = jnp.argmax(jnp.where(is_true, -jnp.inf, log_p), axis=-1)
    # Descent moves each logit by minus its gradient, so the margin z_t - z_rival falls where this is positive.
    fall = true_class(gradient, labels) - true_class(gradient, rival)
    return Gradients(norm=jnp.linalg.norm(gradient, axis=-1), wrong_way=jnp.maximum(fall, 0.0) / scale, scale=scale)


def network_gradients(config: NetworkConfig, params: Any, log_p: jax.Array, labels: jax.Array) -> Gradients:
    """Return the gradients of an uncalibrated loss network at a batch: see `loss_gradients`."""
    return loss_gradients(
        lambda z: hard_label_loss(config, params, jax.nn.log_softmax(z, axis=-1), labels), log_p, labels
    )


def penalty(
    config: NetworkConfig,
    params: Any,
    log_p: jax.Array,
    labels: jax.Array,
    *,
    wrong_way: float,
    exploding: float,
    roughness: float,
    log_p_min: float,
) -> jax.Array:
    """Return the weighted sum of regularisers, a scalar; a regulariser of weight 0 is not computed.

    Args:
      config: architecture.
      params: parameters of one network.
      log_p: `[N, C]` log-probabilities.
      labels: `[N]` integer classes.
      wrong_way: weight of the mean wrong-way slope (`Gradients.wrong_way`).
      exploding: weight of the mean excess of the gradient's norm over `EXPLODING_LIMIT`.
      roughness: weight of the mean squared second difference of g1 on a grid of ln p, in units of s_l.
      log_p_min: lower end of that grid.
    """
    total = jnp.zeros((), log_p.dtype)
    if wrong_way == 0.0 and exploding == 0.0 and roughness == 0.0:
        return total
    gradients = network_gradients(config, params, log_p, labels)
    if wrong_way > 0.0:
        total += wrong_way * jnp.mean(gradients.wrong_way)
    if exploding > 0.0:
        total += exploding * jnp.mean(jnp.maximum(gradients.norm / gradients.scale - EXPLODING_LIMIT, 0.0))
    if roughness > 0.0:
        values = g1(config, params, jnp.linspace(log_p_min, 0.0, _GRID, dtype=log_p.dtype)) / gradients.scale
        bends = values[2:] - 2.0 * values[1:-1] + values[:-2]
        total += roughness * jnp.mean(jnp.square(bends)) * (_GRID / 10.0) ** 4
    return total
