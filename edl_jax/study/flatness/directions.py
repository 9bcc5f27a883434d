"""Directions in the space of weights that do not depend on how large the weights are (Li et al. 2018, 1712.09913).

Behind a normalisation a filter of twice the size gives the same network, in which a step of the same length does half
as much. So a random direction is scaled, filter by filter, to the length of the filter itself: 1 is then as far as from
the weights to 0. What is no filter, biases and the scales of normalisations, is left as it is, as in the paper's code.
"""

from typing import Any

import jax
import jax.numpy as jnp


def filter_normalised(key: jax.Array, params: Any) -> Any:
    """Return a random direction like `params`, each filter as long as that of `params`.

    A filter is a slice of the last axis of a leaf of two or more dimensions: what makes one output. Other leaves get 0.

    Args:
      key: PRNG key.
      params: pytree of floating-point arrays.
    """
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [_like(k, leaf) for k, leaf in zip(keys, leaves, strict=True)])


def _like(key: jax.Array, leaf: jax.Array) -> jax.Array:
    if leaf.ndim < 2:
        return jnp.zeros_like(leaf)
    drawn = jax.random.normal(key, leaf.shape, leaf.dtype)
    axes = tuple(range(leaf.ndim - 1))
    lengths = [jnp.sqrt(jnp.sum(jnp.square(x), axis=axes, keepdims=True)) for x in (leaf, drawn)]
    return drawn * (lengths[0] / jnp.maximum(lengths[1], jnp.finfo(leaf.dtype).tiny))


def rademacher(key: jax.Array, params: Any) -> Any:
    """Return random signs like `params`, -1 and 1."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.rademacher(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)
