"""ChaoticES: its contract with evosax, failed members, and that chaos changes the noise alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from strategy_cases import build, sphere

from edl_jax.core.errors import UserError
from edl_jax.strategies import ChaoticES

ALPHAS = [0.0, 0.5, 1.0]


def test_two_arguments_are_enough():
    algorithm = ChaoticES(8, jnp.zeros(2))
    assert ChaoticES(population_size=8, solution=jnp.zeros(2)).num_dims == algorithm.num_dims == 2
    assert algorithm.alpha == 1.0
    assert algorithm.std_rule == "constant"


# Arguments of ChaoticES that change the program.
VARIANTS = [
    {},
    {"alpha": 0.0},
    {"std_rule": "csa", "mirrored": True},
    {"std_rule": "one_fifth", "alpha_rule": "linear"},
    {"alpha": 0.5, "alpha_rule": "adaptive", "mirrored": True},
]


def generations(algorithm, params, count=3, start=None):
    """Yield (population, state asked for, state told) of generations on the sphere."""
    start = jnp.ones(algorithm.num_dims) if start is None else start
    state = algorithm.init(jax.random.key(0), start, params)
    for generation in range(count):
        population, asked = algorithm.ask(jax.random.key(1 + generation), state, params)
        state, _ = algorithm.tell(jax.random.key(2), population, sphere(population), asked, params)
        yield population, asked, state


@pytest.mark.parametrize("arguments", VARIANTS)
def test_ask_and_tell_compile_once_and_the_state_keeps_its_type(arguments, compilations):
    """Neither new states nor new hyper-parameters compile anything: std and alpha are traced."""
    algorithm = ChaoticES(8, jnp.zeros(2), **arguments)  # a fresh instance, compiled nowhere yet
    params = algorithm.default_params
    other = params.replace(std_init=jnp.float32(0.3), alpha_end=jnp.float32(0.1))
    with compilations() as counts:
        states = [algorithm.init(jax.random.key(0), jnp.zeros(2), params)]
        for settings in (params, other):
            states += [state for _, *both in generations(algorithm, settings) for state in both]
    assert [counts[f"jit({name})"] for name in ("init", "ask", "tell")] == [1, 1, 1]
    for state in states:
        leaves = jax.tree.leaves(state)
        assert not any(leaf.weak_type for leaf in leaves)
        assert [leaf.shape for leaf in leaves] == [leaf.shape for leaf in jax.tree.leaves(states[0])]
        assert state.generation_counter.dtype == jnp.int32
        floats = jax.tree.leaves(state.replace(generation_counter=state.std))
        assert {leaf.dtype for leaf in floats} == {jnp.dtype(jnp.float32)}


def test_unused_noise_is_not_in_the_program():
    """Chaos alone draws no Gaussian, Gaussian alone keeps no orbit; a schedule of alpha needs both."""
    for arguments, orbits, normal in (
        ({"alpha": 1.0}, 8, False),
        ({"alpha": 0.0}, 0, True),
        ({"alpha": 0.5}, 8, True),
        ({"alpha": 1.0, "alpha_rule": "linear"}, 8, True),
        ({"alpha": 0.0, "alpha_rule": "linear"}, 8, True),
        ({"alpha": 1.0, "mirrored": True}, 4, False),
        ({"alpha": 1.0, "std_rule": "one_fifth"}, 7, False),
    ):
        algorithm = ChaoticES(8, jnp.zeros(2), **arguments)
        params = algorithm.default_params
        state = jax.eval_shape(algorithm.init, jax.random.key(0), jnp.zeros(2), params)
        assert [leaf.shape for leaf in jax.tree.leaves(state.chaos)] == ([(orbits, 2)] if orbits else [])
        program = str(jax.make_jaxpr(lambda s, a=algorithm, p=params: a._ask(jax.random.key(0), s, p))(state))
        assert ("erf_inv" in program) == normal


@functools.cache
def three_dims(**arguments):
    """Return an algorithm, the same for the same arguments: each instance is compiled anew."""
    return ChaoticES(8, jnp.ones(3), **arguments)


def tell(algorithm, fitness, **settings):
    """Return (state after one generation, population, metrics) for this fitness."""
    params = algorithm.default_params.replace(**settings)
    state = algorithm.init(jax.random.key(0), jnp.ones(3), params)
    population, state = algorithm.ask(jax.random.key(1), state, params)
    after, metrics = algorithm.tell(jax.random.key(2), population, fitness, state, params)
    return after, np.asarray(population, np.float64), metrics


def centred(count, elites):
    """Return the recombination weights by rank of `count` survivors, minus their average."""
    weights = np.maximum(np.log(elites + 0.5) - np.log(np.arange(1, count + 1)), 0.0)
    return weights / weights.sum() - 1.0 / count


@pytest.mark.parametrize("mean_lr", [1.0, 0.5])
def test_recombination_is_the_formula(mean_lr):
    fitness = np.random.default_rng(0).permutation(8).astype(np.float32)
    after, population, _ = tell(three_dims(), jnp.asarray(fitness), mean_lr=mean_lr)
    expected = 1.0 + mean_lr * centred(8, 4) @ population[np.argsort(fitness)]
    np.testing.assert_allclose(after.mean, expected, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{"std_rule": "one_fifth"}, {"alpha_rule": "adaptive"}])
def test_a_rescored_mean_is_member_0_and_not_recombined(arguments):
    algorithm = three_dims(**arguments)
    fitness = np.array([0.0, 5.0, 2.0, 7.0, 1.0, 6.0, 3.0, 4.0], np.float32)
    after, population, _ = tell(algorithm, jnp.asarray(fitness))
    np.testing.assert_array_equal(population[0], 1.0)
    assert np.all(np.std(population[1:], axis=0) > 0.1)
    expected = 1.0 + centred(7, 3) @ population[1 + np.argsort(fitness[1:])]
    np.testing.assert_allclose(after.mean, expected, rtol=1e-5)
    np.testing.assert_array_equal(after.best_solution, 1.0)  # the mean may be the best member
    fitness[0] = np.nan
    np.testing.assert_allclose(tell(algorithm, jnp.asarray(fitness))[0].mean, expected, rtol=1e-5)


@pytest.mark.parametrize("elite_ratio", [0.5, 1.0])
def test_failed_members_have_no_say(elite_ratio):
    """NaN and either infinity: survivors share the weight, and no failed member is ever the best."""
    algorithm = three_dims(elite_ratio=elite_ratio)
    for bad in (np.nan, np.inf, -np.inf):
        fitness = np.array([3.0, bad, 1.0, bad, bad, 2.0, bad, 4.0], np.float32)
        after, population, metrics = tell(algorithm, jnp.asarray(fitness))
        expected = 1.0 + centred(4, 8 * elite_ratio) @ population[[2, 5, 0, 7]]
        np.testing.assert_allclose(after.mean, expected, rtol=1e-5)
        assert float(after.best_fitness) == float(metrics["best_fitness"]) == 1.0
        assert float(metrics["best_fitness_in_generation"]) == 1.0
        np.testing.assert_allclose(after.best_solution, population[2], rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("std_rule", ["constant", "csa", "one_fifth"])
def test_a_lost_generation_changes_nothing(std_rule, bad):
    """All members failed, or all but one, which has nobody to be compared with."""
    fitness = np.full(8, bad, np.float32)
    for survivor in (None, 5):
        if survivor is not None:
            fitness[survivor] = 7.0
        after, _, _ = tell(build("chaotic_es", 3, std=1.0, std_rule=std_rule)[0], jnp.asarray(fitness))
        np.testing.assert_array_equal(after.mean, jnp.ones(3))
        assert float(after.std) == 1.0
        assert float(after.best_fitness) == (np.inf if survivor is None else 7.0)
        assert int(after.generation_counter) == 1


@pytest.mark.parametrize(("population_size", "std_rule"), [(8, "constant"), (8, "one_fifth"), (7, "csa")])
def test_mirrored_members_are_opposite(population_size, std_rule):
    algorithm = ChaoticES(population_size, jnp.zeros(5), std_rule=std_rule, mirrored=True)
    for population, asked, _ in generations(algorithm, algorithm.default_params, 2):
        deviations = np.asarray(population - asked.mean[None, :])[1 if std_rule == "one_fifth" else 0 :]
        pairs = len(deviations) // 2
        half = len(deviations) - pairs  # an odd number of mutants leaves one without its opposite
        np.testing.assert_allclose(deviations[half:], -deviations[:pairs], atol=1e-5)
        assert np.all(np.std(deviations[:half], axis=0) > 0.1)


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
        ({"alpha_rule": "adaptiv"}, "unknown alpha rule 'adaptiv': did you mean adaptive?"),
        ({"population_size": 2, "std_rule": "one_fifth"}, "population_size is 2, expected at least 3 with one_fifth"),
        ({"population_size": 2, "alpha_rule": "adaptive"}, "population_size is 2, expected at least 3 with adaptive"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, message):
    with pytest.raises(UserError) as caught:
        ChaoticES(**{"population_size": 8, "solution": jnp.zeros(2), **arguments})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
