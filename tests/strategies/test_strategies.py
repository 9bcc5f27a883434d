"""What evosax asks of every distribution-based algorithm, for every registered strategy."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evosax.algorithms import distribution_based
from strategy_cases import OURS, build, sphere, strongly_typed

from edl_jax.core.errors import UserError
from edl_jax.strategies import StrategyConfig, create, names, untraced
from edl_jax.strategies.registry import EVEN, LEFT_OUT, STRATEGIES

NUM_DIMS, POPULATION_SIZE, NUM_GENERATIONS = 8, 8, 16
SOLUTION = jnp.zeros(NUM_DIMS)


def test_python_loop(strategy):
    algorithm, params = build(strategy, NUM_DIMS)
    key = jax.random.key(0)
    state = algorithm.init(key, SOLUTION + 1.0, params)
    best = np.inf
    for generation in range(NUM_GENERATIONS):
        key, ask_key, tell_key = jax.random.split(key, 3)
        population, state = algorithm.ask(ask_key, state, params)
        assert population.shape == (POPULATION_SIZE, NUM_DIMS)
        fitness = sphere(population)
        state, metrics = algorithm.tell(tell_key, population, fitness, state, params)
        best = min(best, float(fitness.min()))
        assert int(state.generation_counter) == generation + 1
        assert float(metrics["best_fitness"]) == float(state.best_fitness) == best
        np.testing.assert_allclose(sphere(state.best_solution), best, rtol=1e-6)
        assert jnp.all(jnp.isfinite(state.mean))


# Scatter of the first generation in units of std, where it is not 1.
SCATTER = {"ChaoticES": 5.0, "gradientless_descent": 0.355}


def test_scan(strategy):
    """A hundred generations in one scan: members start at std about the mean, and fitness falls."""
    num_dims, population_size, generations = 16, 32, 100
    settings = {} if strategy == "ChaoticES" else {"std": 0.2, "std_decay": 0.98, "std_limit": 0.0, "lr": 0.05}
    algorithm, params = build(strategy, num_dims, population_size if strategy != "lm_ma_es" else 16, **settings)
    start = jnp.zeros(num_dims) if strategy == "random_search" else jnp.ones(num_dims)

    def step(state, key):
        ask_key, tell_key = jax.random.split(key)
        population, state = algorithm.ask(ask_key, state, params)
        state, metrics = algorithm.tell(tell_key, population, sphere(population - 0.2), state, params)
        return state, metrics

    @jax.jit
    def run(key):
        first = strongly_typed(algorithm.init(key, start, params))
        # scan itself refuses a carry whose structure, shapes or dtypes change.
        last, metrics = jax.lax.scan(step, first, jax.random.split(key, generations))
        return algorithm.ask(key, first, params)[0], first, last, metrics

    population, first, last, metrics = run(jax.random.key(0))
    scatter = np.std(population) / 0.2 / SCATTER.get(strategy, 1.0)
    assert scatter == pytest.approx(1.0, abs=0.2 if strategy == "guided_es" else 0.1)
    assert np.mean(population) == pytest.approx(float(start[0]), abs=0.15 if strategy == "ChaoticES" else 0.03)
    np.testing.assert_array_equal(first.mean, start)
    assert metrics["best_fitness"].shape == (generations,)
    assert np.all(np.diff(metrics["best_fitness"]) <= 0.0)
    assert metrics["best_solution"].shape == (generations, num_dims)
    distance, before = float(sphere(last.mean - 0.2)), float(sphere(start - 0.2))
    assert distance < before * {"random_search": 0.8, "persistent_es": 0.7, "rm_es": 0.7, "ChaoticES": 0.6}.get(
        strategy, 0.15
    )


def test_base_api(strategy):
    algorithm, params = build(strategy, NUM_DIMS)
    key = jax.random.key(0)
    state = algorithm.init(key, SOLUTION + 1.0, params)
    np.testing.assert_array_equal(algorithm.get_mean(state), jnp.ones(NUM_DIMS))
    zeros = jnp.zeros((POPULATION_SIZE, NUM_DIMS)), jnp.zeros(POPULATION_SIZE)
    metrics = algorithm.metrics_fn(key, *zeros, state, params)
    assert {"best_fitness", "best_solution", "generation_counter"} <= set(metrics)


@pytest.mark.parametrize("name", names())
def test_a_solution_may_be_any_pytree(name):
    solution = {"a": jnp.zeros((2, 3)), "b": (jnp.zeros(()), jnp.zeros(4))}
    algorithm, params = create(name, solution, StrategyConfig(population_size=8))

    def generation(key):
        state = algorithm.init(key, solution, params)
        population, state = algorithm.ask(key, state, params)
        state, _ = algorithm.tell(key, population, jnp.arange(8.0), state, params)
        return population, algorithm.get_mean(state)

    with jax.numpy_rank_promotion("raise" if name in OURS else "allow"):
        population, mean = jax.eval_shape(generation, jax.random.key(0))
    assert jax.tree.structure(population) == jax.tree.structure(mean) == jax.tree.structure(solution)
    assert [leaf.shape for leaf in jax.tree.leaves(population)] == [(8, 2, 3), (8,), (8, 4)]
    assert [leaf.shape for leaf in jax.tree.leaves(mean)] == [(2, 3), (), (4,)]


def test_a_state_survives_serialization(strategy):
    algorithm, params = build(strategy, NUM_DIMS)
    state = algorithm.init(jax.random.key(0), SOLUTION + 1.0, params)
    population, state = algorithm.ask(jax.random.key(1), state, params)
    state, _ = algorithm.tell(jax.random.key(2), population, sphere(population), state, params)
    empty = jax.tree.map(jnp.zeros_like, state)
    again = flax.serialization.from_bytes(empty, flax.serialization.to_bytes(state))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    for restored, leaf in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(restored, leaf)
    # and the search goes on as if nothing had happened
    np.testing.assert_array_equal(
        algorithm.ask(jax.random.key(3), again, params)[0], algorithm.ask(jax.random.key(3), state, params)[0]
    )


def mean_of(algorithm, params, bad=None):
    """Return the mean after three generations, in which member 3 failed with this fitness."""

    def generation(state, key):
        population, state = algorithm.ask(key, state, params)
        fitness = sphere(population)
        if bad is not None:
            fitness = fitness.at[3].set(bad)
        return algorithm.tell(key, population, fitness, state, params)[0], None

    state = strongly_typed(algorithm.init(jax.random.key(0), SOLUTION, params))
    return jax.lax.scan(generation, state, jax.random.split(jax.random.key(1), 3))[0].mean


def test_the_smallest_population(strategy):
    algorithm, params = build(strategy, NUM_DIMS, 4 if strategy == "esmc" else 2)
    assert jnp.all(jnp.isfinite(jax.jit(lambda: mean_of(algorithm, params))()))


def test_a_failed_member_leaves_the_mean_finite(strategy):
    algorithm, params = build(strategy, NUM_DIMS)
    mean = jax.jit(lambda bad: mean_of(algorithm, params, bad))
    for bad in (np.nan, np.inf):
        assert jnp.all(jnp.isfinite(mean(bad)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population_size": 1}, "population_size is 1, expected at least 2"),
        ({"population_size": 0}, "population_size is 0"),
        ({"std": 0.0}, "std is 0.0, expected a positive number"),
        ({"std": float("nan")}, "std is nan"),
        ({"std_rate": 0.0}, "std_rate is 0.0, expected a positive number"),
        ({"mean_lr": float("inf")}, "mean_lr is inf, expected a positive number"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"std_decay": 0.0}, "std_decay is 0.0, expected 0 < std_decay <= 1"),
        ({"std_decay": 1.1}, "std_decay is 1.1"),
        ({"std_limit": -1.0}, "std_limit is -1.0"),
        ({"alpha": 1.2}, "alpha is 1.2, expected 0 <= alpha <= 1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"alpha_end": -0.5}, "alpha_end is -0.5, expected 0 <= alpha_end <= 1"),
        ({"alpha_rate": 2.0}, "alpha_rate is 2.0, expected 0 <= alpha_rate <= 1"),
        ({"alpha_horizon": 0}, "alpha_horizon is 0, expected at least 1"),
        ({"alpha_rule": "linaer"}, "unknown alpha rule 'linaer': did you mean linear"),
        ({"alpha_rule": "adaptive", "alpha": 0.2, "alpha_end": 0.5}, "alpha_end is 0.5, expected at most alpha (0.2)"),
        ({"elite_ratio": 0.0}, "elite_ratio is 0.0"),
        ({"std_rule": "constnt"}, "unknown std rule 'constnt': did you mean constant?"),
        ({"std_rule": "one_fith"}, "unknown std rule 'one_fith': did you mean one_fifth?"),
        ({"chaotic_map": "logstic"}, "unknown chaotic map 'logstic': did you mean logistic?"),
        ({"r": 3.83}, "logistic map: r = 3.83 lies in a periodic window"),
        ({"r": 4.1}, "logistic map: r is 4.1"),
        ({"control": "independnt"}, "unknown control 'independnt': did you mean independent?"),
        ({"chaotic_map": "henon", "r": 9.0}, "henon map: r is 9"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(UserError) as caught:
        StrategyConfig(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_settings_that_are_traced_numbers_are_left_out_of_what_programs_depend_on():
    first, second = (StrategyConfig(std=std, elite_ratio=ratio) for std, ratio in ((0.1, 0.25), (0.7, 0.5)))
    assert untraced("chaotic_es", first) == untraced("chaotic_es", second)
    assert untraced("chaotic_es", StrategyConfig(alpha=0.5)).alpha == 0.5  # not a number that is traced
    (_, a), (_, b) = (create("chaotic_es", SOLUTION, config) for config in (first, second))
    assert float(a.std_init) != float(b.std_init)
    assert not np.array_equal(a.weights, b.weights)
    assert untraced("open_es", first) is first  # evosax's programs may depend on any of them


def test_unknown_strategy():
    with pytest.raises(UserError, match=r"unknown strategy 'chaotic': did you mean chaotic_es.*choose from ars, asebo"):
        create("chaotic", SOLUTION, StrategyConfig())


@pytest.mark.parametrize("name", EVEN)
def test_mirrored_sampling_needs_pairs(name):
    with pytest.raises(UserError, match=f"population_size is 7, expected an even number for {name}"):
        build(name, 2, 7)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("esmc", {"population_size": 2}, "population_size is 2, expected at least 4 for esmc"),
        ("lm_ma_es", {"population_size": 10}, "population_size is 10, expected at most the number of parameters (8)"),
        ("open_es", {"std_rule": "csa"}, "std_rule is csa, expected constant or exponential"),
        ("hill_climbing", {"std_rule": "one_fifth"}, "std_rule is one_fifth, expected constant or exponential"),
        ("chaotic_es", {"population_size": 2, "std_rule": "one_fifth"}, "population_size is 2, expected at least 3"),
        ("chaotic_es", {"population_size": 2, "alpha_rule": "adaptive"}, "population_size is 2, expected at least 3"),
        ("learned_es", {}, "strategy 'learned_es' of evosax is not offered: it loads pickled weights; choose from ars"),
        ("sv_cma_es", {}, "strategy 'sv_cma_es' of evosax is not offered: it keeps several means"),
    ],
)
def test_settings_that_a_strategy_refuses(name, settings, message):
    with pytest.raises(UserError) as caught:
        create(name, SOLUTION, StrategyConfig(**settings))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_every_algorithm_of_evosax_is_offered_or_left_out_with_a_reason():
    modules = {cls.__module__.rsplit(".", 1)[1] for cls in distribution_based.distribution_based_algorithms.values()}
    assert modules == (set(STRATEGIES) - {"chaotic_es", "gaussian_es"}) | set(LEFT_OUT)
    assert not set(STRATEGIES) & set(LEFT_OUT)
