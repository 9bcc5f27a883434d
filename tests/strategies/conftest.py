"""Strategies in evosax's interface, and how to run them."""

import contextlib
import functools
import logging

import jax
import jax.numpy as jnp
import pytest

from edl_jax.strategies import ChaoticES, StrategyConfig, create, names

OURS = ("ChaoticES", "chaotic_es", "gaussian_es")


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


@pytest.fixture(params=["ChaoticES", *names()])
def strategy(request):
    """Return a strategy's name; evosax's own algorithms may promote ranks, ours may not."""
    with jax.numpy_rank_promotion("raise" if request.param in OURS else "allow"):
        yield request.param


@pytest.fixture
def compilations():
    """Return a context manager that yields the list of names of functions compiled inside it."""

    @contextlib.contextmanager
    def record():
        names: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record):
                message = record.getMessage()
                if message.startswith("Compiling jit("):
                    names.append(message.removeprefix("Compiling jit(").split(")")[0])

        logger, handler = logging.getLogger("jax._src.interpreters.pxla"), Handler()
        logger.addHandler(handler)
        try:
            with jax.log_compiles():
                yield names
        finally:
            logger.removeHandler(handler)

    return record
