"""The optimum of the ranking objective against brute force, closed forms and its own limits."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from known_losses import only
from scipy import integrate, optimize

from edl_jax.core.errors import UserError
from edl_jax.synthetic import SEVERITIES, MixtureConfig, optimum
from edl_jax.synthetic.ranking import grouped_ranking_fitness

OBJECTIVES = [(1.0, 0.0), (10.0, 0.0), (1.0, 1.0), (10.0, 1.0), (5.0, 0.4), (3.0, 4.0)]


def weighted_std(x, mass):
    return np.sqrt(mass @ np.square(x - mass @ x))


def r_squared(x, y):
    return np.corrcoef(x, y)[0, 1] ** 2


def all_pairs(losses, severities, mass, beta, margin):
    """Return F by its formula, pair by pair; pairs of equal severity do not count."""
    s_e, s_l = weighted_std(severities, mass), weighted_std(losses, mass)
    total = weight = 0.0
    for i, e_i in enumerate(severities):
        for j, e_j in enumerate(severities):
            if e_i < e_j:
                x = margin * (e_j - e_i) / s_e - (losses[j] - losses[i]) / s_l
                total += mass[i] * mass[j] * np.logaddexp(0.0, beta * x) / beta
                weight += mass[i] * mass[j]
    return total / weight


@functools.cache
def log_uniform_error():
    """Return the severities 1 - p_t of log-uniform p_t at exact quantiles, reduced to bins."""
    quantile = (np.arange(1 << 14) + 0.5) / (1 << 14)
    return optimum.reduce(-np.expm1(-9.0 * quantile), 256)


@functools.cache
def solved(beta, margin):
    return optimum.minimise(log_uniform_error(), beta=beta, margin=margin)


@pytest.mark.parametrize(("beta", "margin"), OBJECTIVES)
def test_no_local_search_from_any_start_ends_lower(beta, margin):
    rng = np.random.default_rng(1)
    severity, mass = np.array([0.0, 0.1, 0.15, 0.6, 1.0]), np.array([0.3, 0.1, 0.25, 0.3, 0.05])
    atoms = optimum.Bins(severity, mass, np.ones(5), 0.0, 1.0)
    values, fitness, gap = optimum.minimise(atoms, beta=beta, margin=margin)
    np.testing.assert_allclose(fitness, all_pairs(values, severity, mass, beta, margin), rtol=1e-10)
    formula = functools.partial(all_pairs, severities=severity, mass=mass, beta=beta, margin=margin)
    found = [optimize.minimize(formula, rng.standard_normal(5), tol=1e-10) for _ in range(8)]
    best = min(found, key=lambda result: result.fun)
    np.testing.assert_allclose(fitness, best.fun, rtol=1e-7)
    assert gap <= 1e-7 * fitness
    by_search = (best.x - mass @ best.x) / weighted_std(best.x, mass)
    np.testing.assert_allclose(values, by_search, atol=2e-3)


@pytest.mark.parametrize(("beta", "margin"), OBJECTIVES)
def test_the_solution_is_certified_increasing_and_standardised(beta, margin):
    values, fitness, gap = solved(beta, margin)
    assert gap <= 1e-6 * fitness
    assert np.all(np.diff(values) >= 0.0)
    assert values[-1] > values[0]
    mass = log_uniform_error().mass
    np.testing.assert_allclose([mass @ values, weighted_std(values, mass)], [0.0, 1.0], atol=1e-12)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    objective=st.sampled_from(OBJECTIVES),
    seed=st.integers(0, 2**31),
    size=st.floats(1e-3, 3.0),
    increasing=st.booleans(),
)
def test_no_other_loss_scores_lower(objective, seed, size, increasing):
    beta, margin = objective
    values, fitness, gap = solved(beta, margin)
    rng = np.random.default_rng(seed)
    if increasing:
        steps = np.diff(values, prepend=values[0])
        other = np.cumsum(steps * np.exp(size * rng.standard_normal(steps.size)))
    else:
        other = values + size * rng.standard_normal(values.size)
    assert optimum.objective(log_uniform_error(), other, beta=beta, margin=margin) >= fitness - gap - 1e-12


def test_a_small_change_costs_little_and_a_large_one_much():
    values, fitness, _ = solved(1.0, 0.0)
    grid = log_uniform_error()
    error, backwards = (optimum.objective(grid, x) for x in (grid.severity, -values))
    assert fitness < optimum.objective(grid, -np.log1p(-grid.severity)) < 1.001 * fitness  # cross-entropy
    assert 1.3 * fitness < error < np.log(2.0) < backwards


@pytest.mark.parametrize("beta", [0.01, 0.5])
def test_at_margin_0_and_small_beta_it_is_the_distribution_function(beta):
    values, _, _ = solved(beta, 0.0)
    assert r_squared(values, log_uniform_error().quantile) > 1.0 - 5e-5


def test_at_margin_0_and_beta_1_it_is_very_nearly_the_distribution_function():
    values, fitness, _ = solved(1.0, 0.0)
    assert 0.9990 < r_squared(values, log_uniform_error().quantile) < 0.9997
    # The objective of the distribution function itself, by quadrature: |q - q'| has density 2 (1 - t).
    of_rank, _ = integrate.quad(lambda t: 2.0 * (1.0 - t) * np.logaddexp(0.0, -np.sqrt(12.0) * t), 0.0, 1.0)
    np.testing.assert_allclose(optimum.objective(log_uniform_error(), log_uniform_error().quantile), of_rank, rtol=1e-4)
    assert 0.999 * of_rank < fitness < of_rank


def test_at_margin_0_and_large_beta_its_values_have_a_parabolic_density():
    """Epanechnikov's density minimises the integral of its square at a given variance."""
    values, _, _ = solved(30.0, 0.0)
    parabolic = 2.0 * np.sin(np.arcsin(2.0 * log_uniform_error().quantile - 1.0) / 3.0)
    assert r_squared(values, parabolic) > 0.9999
    assert r_squared(values, log_uniform_error().quantile) < 0.995


@pytest.mark.parametrize(("beta", "least"), [(10.0, 0.99), (100.0, 0.9998)])
def test_at_margin_1_and_large_beta_it_is_the_severity(beta, least):
    values, _, _ = solved(beta, 1.0)
    grid = log_uniform_error()
    e = (grid.severity - grid.mass @ grid.severity) / weighted_std(grid.severity, grid.mass)
    assert np.square(grid.mass @ (values * e)) > least


@pytest.mark.parametrize("severity", SEVERITIES)
def test_at_margin_0_only_the_order_of_severities_counts(severity):
    grid = optimum.reduce(optimum.draw_severities(jax.random.key(3), MixtureConfig(), severity, 10), 256)
    values, fitness, _ = optimum.minimise(grid)
    np.testing.assert_allclose(fitness, solved(1.0, 0.0)[1], rtol=1e-3)
    expected = np.interp(grid.quantile, log_uniform_error().quantile, solved(1.0, 0.0)[0])
    np.testing.assert_allclose(values, expected, atol=0.02)


@pytest.fixture(scope="module")
def cross_entropy_optimum():
    return optimum.solve(only(log_uniform=1.0), "error", 10)


def test_log_uniform_p_t_gives_cross_entropy(cross_entropy_optimum):
    best = cross_entropy_optimum
    p = np.exp(np.linspace(-9.0, 0.0, 1000))
    values = best.loss_of_severity(1.0 - p)
    assert r_squared(values, -np.log(p)) > 0.999
    assert np.all(np.diff(values) < 0.0)
    np.testing.assert_allclose([values[-1], best.values[0]], 0.0, atol=1e-3)
    np.testing.assert_allclose(np.std(values), 1.0, atol=0.01)
    assert (best.severity, best.beta, best.margin) == ("error", 1.0, 0.0)


def test_beyond_the_mixture_the_loss_goes_on_rising(cross_entropy_optimum):
    best = cross_entropy_optimum
    end = best.e[-1]
    rise = np.diff(best.loss_of_severity([end - 1e-5, end, end + 1e-5]))
    np.testing.assert_allclose(rise[1], rise[0], rtol=0.5)
    assert rise[1] > 0.0
    assert best.loss_of_severity(best.e[0] - 0.1) < 0.0


@pytest.mark.parametrize(("beta", "margin"), [(1.0, 0.0), (10.0, 1.0)])
def test_fitness_on_pairs_is_the_objective_that_networks_are_scored_with(beta, margin):
    rng = np.random.default_rng(0)
    a, b = -np.expm1(-9.0 * rng.uniform(size=(2, 20_000)))
    b = np.where(np.arange(b.size) % 5 == 0, a, b)  # ties of severity do not count
    best = optimum.from_severities(np.append(a, b), "error", beta=beta, margin=margin)
    groups = np.stack([a, b], axis=1)  # of two: each is paired with the other
    losses = np.float32(best.loss_of_severity(groups))
    expected = jax.jit(grouped_ranking_fitness)(losses, np.float32(groups), beta=beta, margin=margin)
    fitness = best.fitness_on(a, b)
    np.testing.assert_allclose(fitness, expected, rtol=1e-4)
    np.testing.assert_allclose(fitness, best.fitness, rtol=0.02)
    assert best.fitness_on(a, a) == 0.0


def test_a_loss_that_sees_more_than_severity_scores_worse():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(size=(2, 50_000))
    best = optimum.from_severities(np.append(a, b), "error")
    groups = np.stack([a, b], axis=1)
    noisy = np.float32(best.loss_of_severity(groups) + 0.1 * rng.standard_normal(groups.shape))
    assert jax.jit(grouped_ranking_fitness)(noisy, np.float32(groups)) > best.fitness_on(a, b) * 1.001


def test_equal_severities_are_one_value_and_do_not_count():
    rng = np.random.default_rng(0)
    sample = np.where(rng.uniform(size=1500) < 0.4, 0.25, np.round(rng.uniform(size=1500), 3))
    grid = optimum.reduce(sample, 64)
    assert len(grid.mass) <= 65
    atom = np.argmax(grid.mass)
    np.testing.assert_allclose(
        [grid.mass[atom], grid.tied[atom]], [np.mean(np.abs(sample - 0.25) < 0.005), 1.0], atol=0.02
    )
    values = np.interp(sample, grid.severity, grid.quantile)
    levels, counts = np.unique(sample, return_counts=True)
    exact = all_pairs(np.interp(levels, grid.severity, grid.quantile), levels, counts / 1500, 1.0, 0.0)
    assert np.std(values) > 0.0
    np.testing.assert_allclose(optimum.objective(grid, grid.quantile), exact, rtol=2e-3)


@pytest.mark.parametrize("bins", [32, 128])
def test_the_grid_converges(bins):
    sample = np.random.default_rng(0).exponential(size=1 << 14)
    coarse, fine = (optimum.from_severities(sample, "nll", beta=10.0, margin=1.0, bins=k) for k in (bins, 512))
    np.testing.assert_allclose(coarse.fitness, fine.fitness, rtol=10.0 / bins**2)


def test_a_two_valued_severity():
    best = optimum.from_severities(np.repeat([0.0, 1.0], [300, 100]), "error")
    np.testing.assert_allclose(best.fitness, np.log1p(np.exp(-1.0 / np.sqrt(0.1875))), rtol=1e-9)
    np.testing.assert_allclose(best.loss_of_severity([0.0, 1.0]), [0.0, 1.0 / np.sqrt(0.1875)])


def test_solving_follows_from_the_key():
    mixture = only(log_uniform=1.0)
    first, again, other = (optimum.solve(mixture, "brier", 10, key=jax.random.key(k)).fitness for k in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"severity": "eror"}, "unknown severity 'eror': did you mean error"),
        ({"beta": 0.0}, "beta is 0.0, expected a finite number above 0"),
        ({"margin": -1.0}, "margin is -1.0, expected a finite number, 0 or more"),
        ({"bins": 1}, "bins is 1, expected at least 2"),
        ({"num_classes": 1}, "num_classes is 1, expected at least 2"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(UserError, match=message):
        optimum.solve(only(log_uniform=1.0), **change)


def test_nothing_to_rank():
    with pytest.raises(UserError, match=r"every prediction of this mixture has error 0\.5: there is nothing to rank"):
        optimum.from_severities(np.full(100, 0.5), "error")
