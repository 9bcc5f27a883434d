"""Chaotic maps: measured on long orbits that `ask` really emits, in float32."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from edl_jax.errors import UserError
from edl_jax.strategies import ChaoticES, logistic, maps

STEPS, WINDOW, ORBITS = 20_000, 400, 512
ARCSINE = stats.beta(0.5, 0.5)


@pytest.fixture(scope="module")
def emitted():
    """Return (sums over all steps, noise `[WINDOW, ORBITS]` of the last steps) of populations asked for at std 1."""
    algorithm = ChaoticES(16, jnp.zeros(ORBITS // 16))
    params = algorithm.default_params

    def ask(state, key):
        population, state = algorithm.ask(key, state, params)
        return state, population.ravel()

    def accumulate(carry, key):
        state, previous, sums = carry
        state, z = ask(state, key)
        x = 0.5 + z / math.sqrt(8.0)
        slope = jnp.log(jnp.maximum(jnp.abs(4.0 - 8.0 * x), 1e-7))  # x = 1/2 exactly, once in 10^7
        return (state, z, sums + jnp.stack([slope, z, z * z, z * previous])), None

    @jax.jit
    def run(key):
        state = algorithm.init(key, jnp.zeros(ORBITS // 16), params)
        keys = jax.random.split(key, STEPS)
        start = state, jnp.zeros(ORBITS), jnp.zeros((4, ORBITS))
        (state, _, sums), _ = jax.lax.scan(accumulate, start, keys[WINDOW:])
        return sums / (STEPS - WINDOW), jax.lax.scan(ask, state, keys[:WINDOW])[1]

    sums, noise = run(jax.random.key(0))
    return np.asarray(sums, np.float64), np.asarray(noise)


def test_lyapunov_exponent_of_emitted_orbits(emitted):
    exponents = emitted[0][0]
    assert np.mean(exponents) == pytest.approx(math.log(2.0), rel=0.05)
    assert np.all(np.abs(exponents - math.log(2.0)) < 0.1)  # every orbit, not their mean alone


def test_noise_has_zero_mean_and_unit_variance(emitted):
    _, mean, square, product = emitted[0]
    assert abs(np.mean(mean)) <= 0.01
    assert abs(np.mean(square) - np.mean(mean) ** 2 - 1.0) <= 0.02
    assert abs(np.mean(product)) <= 0.005  # lag 1: uncorrelated at r = 4, though not independent
    assert np.all(np.abs(square - 1.0) < 0.1)


def test_no_orbit_dies_or_merges(emitted):
    noise = emitted[1]
    assert np.all(np.isfinite(noise))
    assert np.all(np.std(noise, axis=0) > 0.5)  # a dead orbit would be constant
    assert len(np.unique(noise[-1])) >= 0.99 * ORBITS
    x = np.float32(0.5) + noise / np.float32(math.sqrt(8.0))
    # Independent draws of the law, through the same float32 arithmetic as the populations.
    drawn = ARCSINE.rvs(x.size, random_state=0).astype(np.float32)
    drawn = np.float32(0.5) + (drawn - np.float32(0.5)) * np.float32(math.sqrt(8.0)) / np.float32(math.sqrt(8.0))
    assert len(np.unique(x)) >= 0.9 * len(np.unique(drawn))


def test_orbits_are_independent_of_each_other(emitted):
    correlation = np.corrcoef(emitted[1][::4].T)
    off_diagonal = correlation[~np.eye(ORBITS, dtype=bool)]
    assert np.max(np.abs(off_diagonal)) < 0.65  # 131,000 pairs of 100 values: 6 standard deviations
    assert np.std(off_diagonal) == pytest.approx(0.1, rel=0.1)


def test_emitted_noise_follows_the_arcsine_law(emitted):
    x = 0.5 + emitted[1][::20].ravel().astype(np.float64) / math.sqrt(8.0)
    assert stats.kstest(x, ARCSINE.cdf).pvalue > 1e-4


def test_states_start_in_the_invariant_law():
    x = np.asarray(logistic().init(jax.random.key(1), (20_000,)), np.float64)
    assert stats.kstest(x, ARCSINE.cdf).pvalue > 1e-4
    assert len(np.unique(x)) > 19_500


def test_logistic_4_has_closed_form_constants():
    chaotic = logistic(4.0)
    law = (chaotic.mean, chaotic.std**2, chaotic.lyapunov)
    np.testing.assert_allclose(law, (ARCSINE.mean(), ARCSINE.var(), math.log(2.0)), rtol=1e-12)
    x = jnp.array([0.0, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(chaotic.step(x), [0.0, 0.75, 1.0, 0.0])
    np.testing.assert_allclose(chaotic.noise(x), (np.asarray(x) - 0.5) * math.sqrt(8.0), rtol=1e-6)


def orbits(r, count=2_000, steps=2_000):
    """Return (mean, std, Lyapunov exponent) of float64 orbits, started elsewhere than the library's."""
    x = np.random.default_rng(123).uniform(0.1, 0.9, count)
    xs, slopes = [], []
    for step in range(steps):
        x = r * x * (1.0 - x)
        if step >= 500:
            xs.append(x.copy())
            slopes.append(np.log(np.abs(r * (1.0 - 2.0 * x))))
    return np.mean(xs), np.std(xs), np.mean(slopes)


@pytest.mark.parametrize("r", [3.99, 3.9])
def test_constants_elsewhere_are_those_of_float64_orbits(r):
    chaotic = logistic(r)
    mean, std, lyapunov = orbits(r)
    assert chaotic.mean == pytest.approx(mean, abs=1e-3)
    assert chaotic.std == pytest.approx(std, abs=1e-3)
    assert chaotic.lyapunov == pytest.approx(lyapunov, rel=0.01)


def test_emitted_noise_is_standard_at_another_r():
    chaotic = logistic(3.99)

    @jax.jit
    def run(key):
        def step(carry, key):
            x, sums = carry
            x = chaotic.advance(key, x)
            z = chaotic.noise(x)
            return (x, sums + jnp.stack([z, z * z])), None

        x = chaotic.init(key, (2_000,))
        (x, sums), _ = jax.lax.scan(step, (x, jnp.zeros((2, 2_000))), jax.random.split(key, 2_000))
        return x, jnp.mean(sums, axis=1) / 2_000

    x, (mean, square) = run(jax.random.key(2))
    assert abs(float(mean)) <= 0.01
    assert abs(float(square) - 1.0) <= 0.02
    assert len(np.unique(x)) > 1_950


@pytest.mark.parametrize("r", [3.83, 3.5, 3.2, 0.5])
def test_periodic_windows_are_refused(r):
    with pytest.raises(UserError, match=f"r = {r} lies in a periodic window") as caught:
        logistic(r)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("r", [0.0, -1.0, 4.0001, float("nan"), float("inf")])
def test_r_outside_its_range(r):
    with pytest.raises(UserError, match=f"r is {r}, expected 0 < r <= 4"):
        logistic(r)


def test_unknown_map():
    with pytest.raises(UserError, match="unknown chaotic map 'logistc': did you mean logistic"):
        maps.get("logistc")
