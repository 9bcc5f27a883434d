"""Log-gamma variates by tabulated quantiles against SciPy's gamma distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from edl_jax.synthetic import log_gamma

CONCENTRATIONS = (1 / 99, 1 / 9, 1.0, 4.0, 10.0, 200.0)
COUNT = 100_000
# The smallest and largest uniform number that `sample` draws.
U_MIN, U_MAX = 1e-7, 1.0 - 2.0**-24


def cdf(a, log_x):
    """Return P(ln gamma <= log_x), precise where e^log_x underflows."""
    with np.errstate(over="ignore"):
        series = np.exp(a * np.minimum(log_x, 0.0) - special.gammaln(a + 1.0))
        return np.where(log_x < -40.0, series, special.gammainc(a, np.exp(log_x)))


def interpolated(a, probability):
    """Return what `sample` makes of a uniform number, in float64."""
    position = (special.logit(probability) + log_gamma._LIMIT) / log_gamma._STEP
    table = log_gamma.quantile_table((a,))[0].astype(np.float64)
    return np.interp(position, np.arange(table.size), table)


@pytest.fixture(scope="module")
def draws():
    """Return `[6, 100000]` variates, all concentrations in one call."""
    which = jnp.tile(jnp.arange(len(CONCENTRATIONS), dtype=jnp.int32)[:, None], (1, COUNT))
    values = log_gamma.sample(jax.random.key(0), CONCENTRATIONS, which)
    assert values.dtype == jnp.float32
    return np.asarray(values, np.float64)


@pytest.mark.parametrize("a", CONCENTRATIONS)
def test_law(draws, a):
    values = draws[CONCENTRATIONS.index(a)]
    assert stats.kstest(values, lambda x: cdf(a, x)).pvalue > 1e-4
    # And not by a generous test: a neighbouring concentration is rejected.
    assert stats.kstest(values, lambda x: cdf(1.05 * a, x)).pvalue < 1e-4


@pytest.mark.parametrize("a", CONCENTRATIONS)
def test_mean_and_variance(draws, a):
    values = draws[CONCENTRATIONS.index(a)]
    variance = special.polygamma(1, a)
    assert abs(values.mean() - special.digamma(a)) < 4.0 * np.sqrt(variance / COUNT)
    fourth = special.polygamma(3, a) + 3.0 * variance**2
    assert abs(values.var() - variance) < 4.0 * np.sqrt((fourth - variance**2) / COUNT)


@pytest.mark.parametrize("a", [1e-3, *CONCENTRATIONS, 1e6])
def test_the_distribution_function_is_off_by_less_than_a_thousandth(a):
    probability = np.concatenate([np.geomspace(U_MIN, 0.5, 4_000), 1.0 - np.geomspace(2.0**-24, 0.5, 4_000)])
    found = cdf(a, interpolated(a, probability))
    assert np.max(np.abs(found - probability)) < 2e-4
    # Relative to the tail's own probability: extreme predictions are neither lost nor made up.
    tail = np.minimum(probability, 1.0 - probability)
    assert np.max(np.abs(found - probability) / tail) < 0.005


@pytest.mark.parametrize("a", [1e-3, *CONCENTRATIONS, 1e6])
def test_tails_are_finite_and_ordered(a):
    table = log_gamma.quantile_table((a,))
    assert table.dtype == np.float32
    assert np.all(np.isfinite(table))
    assert np.all(np.diff(table) >= 0.0)
    extremes = interpolated(a, np.array([U_MIN, U_MAX]))
    upper = np.log(special.gammainccinv(a, 1.0 - U_MAX))
    np.testing.assert_allclose(cdf(a, extremes[0]), U_MIN, rtol=0.02)
    np.testing.assert_allclose(extremes[1], upper, rtol=1e-3, atol=1e-3)


def test_the_smallest_variates_keep_their_logarithm(draws):
    """A gamma variate of concentration 1/99 underflows float32 most of the time; its logarithm does not."""
    values = draws[0]
    assert np.mean(values < np.log(np.finfo(np.float32).tiny)) > 0.3
    assert np.all(np.isfinite(values))


def test_draws_follow_from_the_key():
    which = jnp.zeros((3, 5), jnp.int32)
    first, again, other = (log_gamma.sample(jax.random.key(k), (2.0, 3.0), which) for k in (0, 0, 1))
    assert first.shape == (3, 5)
    np.testing.assert_array_equal(first, again)
    assert jnp.all(first != other)
