"""Strategies in evosax's interface, and how to run them."""

import functools

import jax
import jax.numpy as jnp

from edl_jax.strategies import ChaoticES, StrategyConfig, create

OURS = ("ChaoticES", "chaotic_es", "gaussian_es")
CHOSEN = ("chaotic_es", "snes")


@functools.cache
def build(name, num_dims=2, population_size=8, **settings):
    """Return (algorithm, params): a registered strategy, or ChaoticES from its two required arguments.

    An algorithm is a static argument of its own jitted methods: each instance is compiled anew, so share them.
    """
    solution = jnp.zeros(num_dims)
    if name == "ChaoticES":
        algorithm = ChaoticES(population_size, solution)
        return algorithm, algorithm.default_params
    return create(name, solution, StrategyConfig(population_size=population_size, **settings))


def sphere(population):
    """Return the fitness `[population_size]` of flat members, the square of their length."""
    return jnp.sum(jnp.square(population), axis=-1)


def strongly_typed(state):
    """Return the state with explicit dtypes; evosax's own start weakly typed."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state)
