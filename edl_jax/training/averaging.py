"""Exponential moving average of weights (Polyak and Juditsky 1992; as in Inception, 1512.00567, section 8).

An average is a pytree like what it averages: the parameters, or `state.variables` to have the statistics of batch
normalisation averaged with them. What evaluates with it replaces both:

    average = ema_init(state.variables)
    average = ema_update(average, state.variables, 0.999, step)      # after every step, inside jit
    averaged = state.replace(**average)
"""

from typing import Any

import jax
import jax.numpy as jnp


def ema_init(params: Any) -> Any:
    """Return the average before the first step: a float32 copy of `params` (integers and booleans as they are)."""
    # A copy, for the original may be donated.
    return jax.tree.map(lambda leaf: jnp.array(leaf, _dtype(leaf), copy=True), params)


def ema_update(average: Any, params: Any, decay: float, step: jax.typing.ArrayLike) -> Any:
    """Return `d * average + (1 - d) * params`, leaf by leaf, in float32.

    `d = min(decay, (1 + step) / (10 + step))`, as TensorFlow's ExponentialMovingAverage has it, so that the initial
    values are soon forgotten. Integers and booleans are not averaged: the newest is kept.

    Args:
      average: from `ema_init`, or from the update before.
      params: pytree of the same structure and shapes.
      decay: weight of the past, in [0, 1).
      step: [] number of updates before this one: 0 in the first.
    """
    step = jnp.asarray(step, jnp.float32)
    rate = jnp.minimum(decay, (1.0 + step) / (10.0 + step))

    def update(old: jax.Array, new: jax.Array) -> jax.Array:
        if not jnp.issubdtype(old.dtype, jnp.floating):
            return new
        # Not d * old + (1 - d) * new: this form leaves a value that does not change exactly as it is.
        return old + (1.0 - rate) * (jnp.asarray(new, jnp.float32) - old)

    return jax.tree.map(update, average, params)


def _dtype(leaf: jax.Array) -> Any:
    dtype = jnp.result_type(leaf)
    return jnp.float32 if jnp.issubdtype(dtype, jnp.floating) else dtype
