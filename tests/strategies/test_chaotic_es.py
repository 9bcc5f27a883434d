"""ChaoticES: its contract with evosax, failed members, and that chaos changes the noise alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_cases import OURS, build, sphere

from edl_jax.errors import UserError
from edl_jax.strategies import ChaoticES

ALPHAS = [0.0, 0.5, 1.0]


def test_two_arguments_are_enough():
    algorithm = ChaoticES(8, jnp.zeros(2))
    assert ChaoticES(population_size=8, solution=jnp.zeros(2)).num_dims == algorithm.num_dims == 2
    assert algorithm.alpha == 1.0
    assert algorithm.std_rule == "constant"


@pytest.mark.parametrize("name", OURS)
def test_ask_and_tell_compile_once(name, compilations):
    solution = jnp.zeros(2)
    algorithm, params = build.__wrapped__(name)  # a fresh instance, compiled nowhere yet
    with compilations() as counts:
        state = algorithm.init(jax.random.key(0), solution, params)
        for generation in range(5):
            population, state = algorithm.ask(jax.random.key(generation), state, params)
            state, _ = algorithm.tell(jax.random.key(generation), population, sphere(population), state, params)
    assert [counts[f"jit({name})"] for name in ("init", "ask", "tell")] == [1, 1, 1]


@pytest.mark.parametrize("name", OURS)
def test_the_state_is_explicit_and_never_changes_type(name):
    algorithm, params = build(name)
    states = [algorithm.init(jax.random.key(0), jnp.zeros(2), params)]
    population, state = algorithm.ask(jax.random.key(1), states[0], params)
    states.append(state)
    states.append(algorithm.tell(jax.random.key(2), population, sphere(population), state, params)[0])
    for state in states:
        leaves = dict(vars(state))
        assert leaves.pop("generation_counter").dtype == jnp.int32
        assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype(jnp.float32)}
        assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
        assert state.chaos.shape == ((0, 2) if name == "gaussian_es" else (8, 2))


def tell(algorithm, fitness):
    """Return (mean after one generation, population, state before it) for this fitness."""
    params = algorithm.default_params
    state = algorithm.init(jax.random.key(0), jnp.ones(3), params)
    population, state = algorithm.ask(jax.random.key(1), state, params)
    after, metrics = algorithm.tell(jax.random.key(2), population, fitness, state, params)
    return after, np.asarray(population, np.float64), metrics


@pytest.mark.parametrize("name", OURS)
def test_recombination_is_the_formula(name):
    fitness = np.random.default_rng(0).permutation(8).astype(np.float32)
    after, population, _ = tell(build(name, 3)[0], jnp.asarray(fitness))
    weights = np.maximum(np.log(4.5) - np.log(np.arange(1, 9)), 0.0)
    expected = (weights / weights.sum()) @ population[np.argsort(fitness)]
    np.testing.assert_allclose(after.mean, expected, rtol=1e-5)


@pytest.mark.parametrize("elite_ratio", [0.5, 1.0])
def test_failed_members_have_no_say(elite_ratio):
    algorithm = ChaoticES(8, jnp.ones(3), elite_ratio=elite_ratio)
    weights = np.maximum(np.log(8 * elite_ratio + 0.5) - np.log(np.arange(1, 5)), 0.0)
    for bad in (np.nan, np.inf):
        fitness = np.array([3.0, bad, 1.0, bad, bad, 2.0, bad, 4.0], np.float32)
        after, population, metrics = tell(algorithm, jnp.asarray(fitness))
        expected = (weights / weights.sum()) @ population[[2, 5, 0, 7]]
        np.testing.assert_allclose(after.mean, expected, rtol=1e-5)
        assert float(after.best_fitness) == float(metrics["best_fitness"]) == 1.0
        np.testing.assert_allclose(after.best_solution, population[2], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_survivor_is_followed(bad):
    fitness = np.full(8, bad, np.float32)
    fitness[5] = 7.0
    after, population, _ = tell(build("ChaoticES", 3)[0], jnp.asarray(fitness))
    if bad == -np.inf:  # ranks before the survivor: no finite member is among the elites
        np.testing.assert_allclose(after.mean, jnp.ones(3))
    else:
        np.testing.assert_allclose(after.mean, population[5], rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_lost_generation_changes_nothing(bad):
    after, _, _ = tell(build("ChaoticES", 3)[0], jnp.full(8, bad))
    np.testing.assert_array_equal(after.mean, jnp.ones(3))
    assert float(after.std) == 1.0
    assert int(after.generation_counter) == 1


def test_std_rules():
    for rule, expected in {"constant": 1.0, "exponential": 0.5**3}.items():
        algorithm = ChaoticES(8, jnp.zeros(2), std_rule=rule)
        params = algorithm.default_params.replace(std_decay=0.5, std_limit=0.05)
        state = algorithm.init(jax.random.key(0), jnp.zeros(2), params)
        for generation in range(3):
            population, state = algorithm.ask(jax.random.key(generation), state, params)
            state, _ = algorithm.tell(jax.random.key(9), population, sphere(population), state, params)
        assert float(state.std) == expected
        for _ in range(5):
            state, _ = algorithm.tell(jax.random.key(9), population, sphere(population), state, params)
        assert float(state.std) == pytest.approx({"constant": 1.0, "exponential": 0.05}[rule])


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def random_search(algorithm, params, seeds, generations):
    """Return (mean `[seeds, num_dims]`, std `[seeds]`) after generations of random fitness."""

    def run(key):
        state = algorithm.init(key, jnp.zeros(algorithm.num_dims), params)

        def step(state, key):
            ask_key, fitness_key, tell_key = jax.random.split(key, 3)
            population, state = algorithm.ask(ask_key, state, params)
            fitness = jax.random.uniform(fitness_key, (algorithm.population_size,))
            return algorithm.tell(tell_key, population, fitness, state, params)[0], None

        state, _ = jax.lax.scan(step, state, jax.random.split(key, generations))
        return state.mean, state.std

    return jax.vmap(run)(jax.random.split(jax.random.key(5), seeds))


@pytest.mark.parametrize("std_rule", ["constant", "exponential"])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_random_fitness_moves_nothing(alpha, std_rule):
    """Neutrality: without a signal the mean makes an unbiased walk of known variance and std keeps to its rule."""
    generations, decay = 40, 0.97
    algorithm = ChaoticES(8, jnp.zeros(8), alpha=alpha, std_rule=std_rule)
    params = algorithm.default_params.replace(std_init=0.5, std_decay=decay)
    mean, std = random_search(algorithm, params, 4_000, generations)
    moved = np.asarray(mean, np.float64).ravel()
    z = np.mean(moved) / (np.std(moved) / np.sqrt(moved.size))
    assert abs(z) < 4.0

    stds = 0.5 * (decay ** np.arange(generations) if std_rule == "exponential" else np.ones(generations))
    walk = np.sum(stds**2) * np.sum(np.asarray(params.weights, np.float64) ** 2)
    assert np.var(moved) == pytest.approx(walk, rel=0.04)

    expected = np.log(0.5) + (generations * np.log(decay) if std_rule == "exponential" else 0.0)
    np.testing.assert_allclose(np.log(std), expected, atol=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_chaos_and_gaussian_scatter_alike(alpha):
    algorithm = ChaoticES(64, jnp.zeros(2_000), alpha=alpha)
    params = algorithm.default_params.replace(std_init=0.3)
    state = algorithm.init(jax.random.key(0), jnp.zeros(2_000), params)
    for generation in range(2):
        population, state = algorithm.ask(jax.random.key(generation), state, params)
        assert float(jnp.var(population)) == pytest.approx(0.09, rel=0.015)
        assert float(jnp.mean(population)) == pytest.approx(0.0, abs=0.004)
    # The laws differ: the arcsine law is bounded by sqrt(2) standard deviations, its kurtosis is 1.5.
    kurtosis = float(jnp.mean(population**4) / jnp.var(population) ** 2)
    assert kurtosis == pytest.approx(3.0 - 1.5 * alpha**4, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"population_size": 1}, "population_size is 1, expected at least 2"),
        ({"alpha": -0.1}, "alpha is -0.1, expected 0 <= alpha <= 1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"elite_ratio": 1.5}, "elite_ratio is 1.5"),
        ({"std_rule": "exponentia"}, "unknown std rule 'exponentia': did you mean exponential?"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message):
    with pytest.raises(UserError) as caught:
        ChaoticES(**{"population_size": 8, "solution": jnp.zeros(2), **arguments})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
