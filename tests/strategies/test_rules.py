"""Rules of std and alpha: neutral under random fitness, and right on a sphere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_cases import sphere

from edl_jax.strategies import ChaoticES, maps
from edl_jax.strategies.rules import ALPHA_RULES, STD_RULES, success_surplus


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7, 10])
def test_success_has_no_surplus_by_chance(count):
    """Over every rank that the mean can take among its mutants, S - E0[S] averages to zero."""
    fitness = np.array([[rank + 0.5, *range(1, count + 1)] for rank in range(count + 1)], np.float32)
    surplus = jax.jit(jax.vmap(success_surplus))(fitness)
    assert np.mean(surplus) == pytest.approx(0.0, abs=1e-6)
    success = np.arange(count + 1) > count / 5.0
    np.testing.assert_allclose(surplus, success - success.mean(), atol=1e-6)


def test_success_counts_survivors_alone():
    inf = np.inf
    surplus = jax.jit(success_surplus)
    whole = surplus(np.float32([2.5, 1.0, 3.0, 4.0, 2.0]))
    assert float(surplus(np.float32([2.5, inf, 1.0, 3.0, inf, 4.0, 2.0]))) == float(whole) > 0.0
    for fitness in ([inf, 1.0, 2.0], [1.0, inf, inf], [inf, inf, inf]):
        assert float(surplus(np.float32(fitness))) == 0.0


def history(std_rule, fitness, population_size=6, num_dims=4, **arguments):
    """Return (algorithm, std, path and population of every generation) for a given fitness `[generations, n]`."""
    algorithm = ChaoticES(population_size, jnp.zeros(num_dims), std_rule=std_rule, **arguments)
    params = algorithm.default_params.replace(std_decay=0.5, std_limit=0.2, std_rate=0.8)
    state = algorithm.init(jax.random.key(0), jnp.zeros(num_dims), params)
    states, deviations = [state], []
    for generation, row in enumerate(fitness):
        population, asked = algorithm.ask(jax.random.key(generation), state, params)
        deviations.append(np.asarray(population - asked.mean[None, :], np.float64))
        state, _ = algorithm.tell(jax.random.key(9), population, jnp.asarray(row, jnp.float32), asked, params)
        states.append(state)
    return states, deviations


def random_fitness(generations, population_size):
    return np.random.default_rng(0).normal(size=(generations, population_size))


def test_constant_and_exponential():
    for rule, expected in {"constant": [1.0] * 5, "exponential": [1.0, 0.5, 0.25, 0.2, 0.2]}.items():
        states, _ = history(rule, random_fitness(4, 6))
        np.testing.assert_allclose([state.std for state in states], expected)
        assert states[0].path == ()


def test_one_fifth_is_the_formula():
    fitness = random_fitness(12, 6)
    fitness[:6, 0] = -9.0  # the mean beats everyone
    states, _ = history("one_fifth", fitness)
    log_std = 0.0
    for row, state in zip(fitness, states[1:], strict=True):
        success = float(np.sum(row[1:] < row[0]) > 1)  # more than a fifth of 5
        log_std += 0.8 * (success - 4.0 / 6.0) / (1.0 + 4.0 / 10.0)
        assert np.log(state.std) == pytest.approx(log_std, abs=1e-5)
    assert np.all(np.diff([float(state.std) for state in states[:7]]) < 0.0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_csa_is_the_formula(mirrored):
    """Against float64, with failed members and from the path that the state starts with."""
    fitness = random_fitness(8, 6)
    fitness[2, 1] = fitness[2, 4] = fitness[5, 0] = np.nan
    states, deviations = history("csa", fitness, mirrored=mirrored)
    weights = np.log(3.5) - np.log(np.arange(1, 4))
    weights = np.pad(weights / weights.sum(), (0, 3))
    mu_eff = 1.0 / np.sum(weights**2)
    c = (mu_eff + 2.0) / (4.0 + mu_eff + 5.0)
    d = 1.0 + c
    path, log_std = np.asarray(states[0].path, np.float64), 0.0
    np.testing.assert_array_equal(np.abs(path), 1.0)
    for row, z, state in zip(fitness, deviations, states[1:], strict=True):
        order = np.argsort(row)[: np.sum(np.isfinite(row))]  # NaN last
        w = weights[: order.size] / weights[: order.size].sum() - 1.0 / order.size
        variance = np.sum(np.var(z[order], axis=0, ddof=1))
        y = (w @ z[order]) * np.sqrt(4.0 / (np.sum(w**2) * variance))
        path = (1.0 - c) * path + np.sqrt(c * (2.0 - c)) * y
        log_std += 0.8 * c / (2.0 * d) * (path @ path / 4.0 - 1.0)
        np.testing.assert_allclose(state.path, path, rtol=1e-4, atol=1e-4)
        assert np.log(state.std) == pytest.approx(log_std, abs=1e-4)


def test_a_generation_changes_std_by_a_factor_e_at_most():
    """From wherever it is, and never to 0 or infinity."""
    algorithm = ChaoticES(6, jnp.zeros(2), std_rule="one_fifth")
    params = algorithm.default_params.replace(std_rate=1e6)
    cases = (-9.0, 1.0, np.exp(-1.0)), (9.0, 1.0, np.exp(1.0)), (-9.0, 1e-12, 1e-12), (9.0, 1e12, 1e12)
    for worst, start, expected in cases:
        state = algorithm.init(jax.random.key(0), jnp.zeros(2), params.replace(std_init=start))
        population, state = algorithm.ask(jax.random.key(1), state, params)
        fitness = jnp.arange(6.0).at[0].set(worst)
        state, _ = algorithm.tell(jax.random.key(2), population, fitness, state, params)
        assert float(state.std) == pytest.approx(expected, rel=1e-4)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def random_search(algorithm, params, seeds, generations):
    """Return (mean `[seeds, num_dims]`, std `[seeds]`, alpha `[seeds]`) after generations of random fitness."""

    def run(key):
        state = algorithm.init(key, jnp.zeros(algorithm.num_dims), params)

        def step(state, key):
            ask_key, fitness_key, tell_key = jax.random.split(key, 3)
            population, state = algorithm.ask(ask_key, state, params)
            fitness = jax.random.uniform(fitness_key, (algorithm.population_size,))
            return algorithm.tell(tell_key, population, fitness, state, params)[0], None

        state, _ = jax.lax.scan(step, state, jax.random.split(key, generations))
        return state.mean, state.std, state.alpha

    return jax.vmap(run)(jax.random.split(jax.random.key(5), seeds))


def z_score(values):
    """Return the mean in units of its standard error."""
    values = np.asarray(values, np.float64).ravel()
    return np.mean(values) / (np.std(values) / np.sqrt(values.size))


def check_neutral(std_rule, seeds=1_000, generations=40, **arguments):
    """Without a signal the mean makes an unbiased walk, std keeps to its rule and log std does not drift."""
    decay = 0.97
    algorithm = ChaoticES(8, jnp.zeros(8), std_rule=std_rule, **arguments)
    params = algorithm.default_params.replace(std_init=0.5, std_decay=decay, alpha_rate=0.01)
    mean, std, alpha = random_search(algorithm, params, seeds, generations)
    moved, log_std = np.asarray(mean, np.float64).ravel(), np.log(np.asarray(std, np.float64) / 0.5)
    assert abs(z_score(moved)) < 4.0
    if std_rule in ("constant", "exponential"):
        expected = generations * np.log(decay) if std_rule == "exponential" else 0.0
        np.testing.assert_allclose(log_std, expected, atol=1e-4)
        stds = 0.5 * (decay ** np.arange(generations) if std_rule == "exponential" else np.ones(generations))
        weights = np.asarray(params.weights, np.float64)
        walk = np.sum(stds**2) * np.sum((weights - 1.0 / weights.size) ** 2)
        if not arguments.get("mirrored"):
            assert np.var(moved) == pytest.approx(walk, rel=0.05)
    else:
        assert np.std(log_std) > 0.1
        assert abs(z_score(log_std)) < 4.0
    if arguments.get("alpha_rule") == "adaptive":
        assert np.std(alpha) > 0.01
        assert abs(z_score(np.asarray(alpha) - 0.5)) < 4.0


NEUTRAL = [
    pytest.param("constant", {"alpha": 0.0}, marks=pytest.mark.slow),
    pytest.param("exponential", {"alpha": 0.5}, marks=pytest.mark.slow),
    ("one_fifth", {"alpha": 1.0}),
    ("csa", {"alpha": 0.5, "alpha_rule": "adaptive", "mirrored": True}),
]


@pytest.mark.parametrize(("std_rule", "arguments"), NEUTRAL)
def test_random_fitness_moves_nothing(std_rule, arguments):
    check_neutral(std_rule, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("chaotic_map", maps.names())
@pytest.mark.parametrize("std_rule", STD_RULES)
def test_random_fitness_moves_nothing_with_any_map(std_rule, chaotic_map):
    check_neutral(std_rule, chaotic_map=maps.get(chaotic_map))


@pytest.mark.slow
@pytest.mark.parametrize("chaotic_map", maps.names())
@pytest.mark.parametrize("control", sorted(set(maps.CONTROLS) - {"none"}))
def test_random_fitness_moves_nothing_with_any_control(chaotic_map, control):
    check_neutral("csa", chaotic_map=maps.get(chaotic_map, control=control))


@pytest.mark.slow
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("alpha_rule", ALPHA_RULES)
@pytest.mark.parametrize("std_rule", STD_RULES)
def test_random_fitness_moves_nothing_under_any_pair_of_rules(std_rule, alpha_rule, mirrored):
    check_neutral(std_rule, alpha=0.5, alpha_rule=alpha_rule, mirrored=mirrored)


@pytest.mark.parametrize(
    ("std_rule", "alpha", "steps"),
    [
        ("csa", 1.0, (4.0, 16.0)),
        ("one_fifth", 1.0, (0.5, 2.5)),
        pytest.param("csa", 0.0, (4.0, 16.0), marks=pytest.mark.slow),
    ],
)
def test_std_finds_the_scale_of_a_sphere(std_rule, alpha, steps):
    """From a std 100 times too large or too small: the same step relative to the distance, and a steady rate."""
    num_dims, generations = 20, 400
    algorithm = ChaoticES(12, jnp.zeros(num_dims), std_rule=std_rule, alpha=alpha)
    params = algorithm.default_params

    def step(state, key):
        population, state = algorithm.ask(key, state, params)
        state, _ = algorithm.tell(key, population, sphere(population), state, params)
        return state, (jnp.linalg.norm(state.mean), state.std)

    @jax.jit
    @jax.vmap
    def run(std, key):
        state = algorithm.init(key, jnp.ones(num_dims), params.replace(std_init=std))
        return jax.lax.scan(step, state, jax.random.split(key, generations))[1]

    stds = jnp.repeat(jnp.array([100.0, 1.0, 0.01]), 4)
    distance, std = (np.asarray(x, np.float64) for x in run(stds, jax.random.split(jax.random.key(0), 12)))
    relative = np.exp(np.mean(np.log(num_dims * std / distance)[:, 120:], axis=1)).reshape(3, 4).mean(axis=1)
    assert np.all((relative > steps[0]) & (relative < steps[1]))
    assert np.max(relative) < 1.5 * np.min(relative)
    log_distance = np.log(distance).reshape(3, 4, generations).mean(axis=1)
    early = log_distance[:, 260] - log_distance[:, 120]
    late = log_distance[:, 399] - log_distance[:, 259]
    assert np.all((early < -2.5) & (late < -2.5))  # log-linear: as fast far down as at the start
    np.testing.assert_allclose(late, early, rtol=0.5)


@functools.cache
def schedule(alpha, alpha_rule):
    return ChaoticES(16, jnp.zeros(100), alpha=alpha, alpha_rule=alpha_rule)


def alphas(algorithm, generations, std=1.0, start=0.0, **settings):
    """Return alpha of every generation on the sphere; the members' noise has unit variance in all of them."""
    params = algorithm.default_params.replace(std_init=std, **settings)
    state = algorithm.init(jax.random.key(0), jnp.full(100, start), params)
    found = [float(state.alpha)]
    for generation in range(generations):
        population, state = algorithm.ask(jax.random.key(generation), state, params)
        noise = (np.asarray(population)[1:] - np.asarray(state.mean)) / float(state.std)
        assert np.var(noise) == pytest.approx(1.0, abs=0.15)
        state, _ = algorithm.tell(jax.random.key(1), population, sphere(population), state, params)
        found.append(float(state.alpha))
    return found


def test_linear_alpha_reaches_its_end_and_stays():
    found = alphas(schedule(0.0, "linear"), 6, alpha_end=1.0, alpha_horizon=3)
    np.testing.assert_allclose(found, [0.0, 1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0], rtol=1e-5)


def test_adaptive_alpha_follows_progress():
    """Mutants beat the mean: chaos falls to alpha_end. None does, at the optimum: it rises to 1."""
    algorithm = schedule(0.5, "adaptive")
    falling = alphas(algorithm, 8, std=0.01, start=1.0, alpha_end=0.3, alpha_rate=0.3)
    assert np.all(np.diff(falling) <= 0.0)
    assert falling[-1] == pytest.approx(0.3)
    rising = alphas(algorithm, 4, std=1.0, start=0.0, alpha_end=0.3, alpha_rate=0.3)
    np.testing.assert_allclose(rising[:3], [0.5, 0.5 + 0.3 * 12 / 16, 0.5 + 0.3 * 24 / 16], rtol=1e-5)
    assert rising[-1] == 1.0
