"""What evosax asks of every distribution-based algorithm, for every registered strategy."""

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_cases import OURS, build, sphere

from edl_jax.errors import UserError
from edl_jax.strategies import StrategyConfig, create, names

NUM_DIMS, POPULATION_SIZE, NUM_GENERATIONS = 2, 8, 16
SOLUTION = jnp.zeros(NUM_DIMS)


def test_python_loop(strategy):
    algorithm, params = build(strategy)
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


def test_scan(strategy):
    """Sixteen generations in one scan; eight such scans on, fitness has fallen."""
    if strategy == "ChaoticES":  # its std is constant unless told otherwise
        algorithm, params = build(strategy)
        params, goal = params.replace(std_init=jnp.float32(0.3)), 0.2
    else:
        algorithm, params = build(strategy, std=0.5, std_decay=0.97, std_limit=0.0, lr=0.05)
        goal = 0.02
    start = algorithm.init(jax.random.key(0), SOLUTION + 1.0, params)

    def step(carry, _):
        key, state = carry
        key, ask_key, tell_key = jax.random.split(key, 3)
        population, state = algorithm.ask(ask_key, state, params)
        state, metrics = algorithm.tell(tell_key, population, sphere(population), state, params)
        return (key, state), metrics

    # scan itself refuses a carry whose structure, shapes or dtypes change.
    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, length=NUM_GENERATIONS))
    (key, end), metrics = scan((jax.random.key(0), start))
    assert jax.tree.structure(start) == jax.tree.structure(end)
    assert [(leaf.shape, leaf.dtype) for leaf in map(jnp.asarray, jax.tree.leaves(start))] == [
        (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(end)
    ]
    assert metrics["best_fitness"].shape == (NUM_GENERATIONS,)
    assert np.all(np.diff(metrics["best_fitness"]) <= 0.0)
    assert metrics["best_solution"].shape == (NUM_GENERATIONS, NUM_DIMS)

    for _ in range(7):
        (key, end), _ = scan((key, end))
    assert sphere(end.mean) < goal  # from 2


def test_base_api(strategy):
    algorithm, params = build(strategy)
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
    algorithm, params = build(strategy)
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


@pytest.mark.parametrize("name", names())
def test_the_smallest_population(name):
    algorithm, params = build(name, 2, 2)

    @jax.jit
    def generation(key, state):
        population, state = algorithm.ask(key, state, params)
        return algorithm.tell(key, population, sphere(population), state, params)[0]

    with jax.numpy_rank_promotion("raise" if name in OURS else "allow"):
        state = algorithm.init(jax.random.key(0), SOLUTION, params)
        state = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state)  # evosax's are weakly typed
        for seed in range(3):
            state = generation(jax.random.key(seed), state)
    assert jnp.all(jnp.isfinite(state.mean))


@pytest.mark.parametrize("name", names())
def test_std_is_that_of_the_first_generation(name):
    """Every strategy starts alike: members scatter by `std` about the given mean."""
    with jax.numpy_rank_promotion("raise" if name in OURS else "allow"):
        algorithm, params = build(name, 500, 64, std=0.07)
        state = algorithm.init(jax.random.key(0), jnp.full(500, 2.0), params)
        population = np.asarray(algorithm.ask(jax.random.key(1), state, params)[0])
    assert np.std(population) == pytest.approx(0.07, rel=0.03)
    assert np.mean(population) == pytest.approx(2.0, abs=0.002)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population_size": 1}, "population_size is 1, expected at least 2"),
        ({"population_size": 0}, "population_size is 0"),
        ({"std": 0.0}, "std is 0.0, expected a positive number"),
        ({"std": float("nan")}, "std is nan"),
        ({"lr": -1.0}, "lr is -1.0"),
        ({"std_decay": 0.0}, "std_decay is 0.0"),
        ({"std_decay": 1.1}, "std_decay is 1.1"),
        ({"std_limit": -1.0}, "std_limit is -1.0"),
        ({"alpha": 1.2}, "alpha is 1.2, expected 0 <= alpha <= 1"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"elite_ratio": 0.0}, "elite_ratio is 0.0"),
        ({"std_rule": "constnt"}, "unknown std rule 'constnt': did you mean constant?"),
        ({"chaotic_map": "logstic"}, "unknown chaotic map 'logstic': did you mean logistic?"),
        ({"r": 3.83}, "logistic map: r = 3.83 lies in a periodic window"),
        ({"r": 4.1}, "logistic map: r is 4.1"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(UserError) as caught:
        StrategyConfig(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_unknown_strategy():
    with pytest.raises(UserError, match=r"unknown strategy 'chaotic': did you mean chaotic_es.*choose from chaotic_es"):
        create("chaotic", SOLUTION, StrategyConfig())


def test_open_es_mirrors_and_so_needs_pairs():
    with pytest.raises(UserError, match="population_size is 7, expected an even number for open_es"):
        build("open_es", 2, 7)


def test_the_registry_holds_what_the_command_line_promises():
    assert {"chaotic_es", "gaussian_es", "open_es", "simple_es", "sep_cma_es", "snes"} <= set(names())
