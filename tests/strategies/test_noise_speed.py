"""Chaotic noise costs no more than Gaussian noise; `benchmarks/noise.py` measures how much."""

import statistics
import time

import jax
import jax.numpy as jnp
import pytest

from edl_jax.strategies import maps

SHAPE, STEPS, ROUNDS = (128, 353), 10, 5


def timer(step, state):
    """Return a function that runs STEPS steps (key, state) -> (state, noise) and returns its seconds."""

    @jax.jit
    def run(key, state):
        def body(carry, key):
            state, z = step(key, carry[0])
            return (state, 0.5 * carry[1] + z), None

        return jax.lax.scan(body, (state, jnp.zeros(SHAPE)), jax.random.split(key, STEPS))[0]

    def seconds():
        start = time.perf_counter()
        jax.block_until_ready(run(jax.random.key(0), state))
        return time.perf_counter() - start

    seconds()
    return seconds


@pytest.fixture(scope="module")
def normal():
    return timer(lambda key, state: (state, jax.random.normal(key, SHAPE)), ())


@pytest.mark.slow
@pytest.mark.parametrize("name", maps.names())
def test_noise_is_as_cheap_as_gaussian(name, normal):
    """The bound is lenient: a shared machine may time anything."""
    chaotic = maps.get(name)

    def step(key, state):
        state = chaotic.advance(key, state)
        return state, chaotic.noise(state)

    chaos = timer(step, chaotic.init(jax.random.key(1), SHAPE))
    ratios = [chaos() / normal() for _ in range(ROUNDS)]
    assert statistics.median(ratios) < 1.5
