import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from edl_jax import strategies
from edl_jax.core.runs import Run
from edl_jax.loss import NetworkConfig
from edl_jax.pretrain import PretrainConfig, generations, objective
from edl_jax.pretrain.generations import TEST_PAIRS, make_evolution
from edl_jax.strategies import StrategyConfig

GENERATIONS = 6
CONFIG = PretrainConfig(network=NetworkConfig(hidden=(4,)), num_classes=3, num_pairs=32, held_out_pairs=64)
METRICS = {"generation", "fitness_best", "fitness_mean", "fitness_of_mean", "population_spread"}
METRICS |= {"ranking_accuracy", "kendall_tau", "wrong_way_share", "gradient_norm_ratio"}
# The fast tier runs one strategy of ours and one with a matrix.
FAST = ("chaotic_es", "cma_es")
STRATEGIES = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in strategies.names()]


def simple_sample(key, _, num_classes, labels):
    """Softmax of normals: the gamma variates of the real sampler take longest to compile."""
    return jax.nn.log_softmax(3.0 * jax.random.normal(key, (labels.shape[0], num_classes)))


@pytest.fixture(autouse=True)
def fast_compilation(quick_compilation, monkeypatch):
    """Compiling is what these tests cost, a dozen programs: test_pretrain.py has the real ones."""
    monkeypatch.setattr(objective, "sample", simple_sample)


def make(strategy="chaotic_es", *, std=0.1):
    es = StrategyConfig(population_size=8, std=std)
    return make_evolution(dataclasses.replace(CONFIG, strategy=strategy, es=es), chunk=4)


def start(built, *seeds):
    """Return (searches, inputs) of runs with these seeds."""
    return built.init(jnp.stack([jax.random.key(seed) for seed in seeds]))


def evolve(built, searches, inputs, counts) -> tuple[Any, dict[str, np.ndarray]]:
    """Call evolve once per count and join the metrics, `[R, generations]`."""
    blocks = []
    for count in counts:
        searches, metrics = built.evolve(searches, inputs, jnp.int32(count))
        blocks.append({name: np.asarray(values)[:, :count] for name, values in metrics.items()})
    return searches, {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}


@functools.cache
def program():
    """One program for the whole module."""
    return make()


@functools.cache
def whole_run():
    return evolve(program(), *start(program(), 0), (2, 2, 2))


def assert_same_metrics(found, expected):
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def assert_same_leaves(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_metrics_of_a_run():
    search, metrics = whole_run()
    assert set(metrics) == METRICS
    np.testing.assert_array_equal(metrics["generation"], [np.arange(1, GENERATIONS + 1)])
    np.testing.assert_array_equal(search.generation, [GENERATIONS])
    for name, values in metrics.items():
        assert np.all(np.isfinite(values)), name
    for name in ("ranking_accuracy", "wrong_way_share"):
        assert np.all((metrics[name] >= 0) & (metrics[name] <= 1))
    assert np.all(np.diff(metrics["fitness_best"]) <= 0.0)
    assert np.all(metrics["fitness_best"] <= metrics["fitness_of_mean"])
    assert metrics["fitness_best"][0, -1] < np.log(2.0)  # a constant loss's


def test_best_is_what_its_fitness_says_on_the_held_out_batch():
    searches, metrics = whole_run()
    _, inputs = start(program(), 0)
    held_out = jax.tree.map(lambda x: x[0], inputs.held_out)
    score = jax.jit(lambda best, batch: objective.fitness(CONFIG, jax.vmap(program().unravel)(best), batch)[0])
    np.testing.assert_allclose(score(searches.best, held_out), searches.best_fitness, rtol=1e-5)
    np.testing.assert_array_equal(metrics["fitness_best"][:, -1], searches.best_fitness)


def test_any_counts_seeds_and_stds_are_one_program(compilations):
    built, (expected_search, expected) = program(), whole_run()
    with compilations() as counts:
        for numbers in ((4, 2), [1] * GENERATIONS):
            search, metrics = evolve(built, *start(built, 0), numbers)
            assert_same_metrics(metrics, expected)
            assert_same_leaves(search, expected_search)
        evolve(built, *start(built, 5), (3,))
        wider = make(std=0.2)
        assert np.all(evolve(wider, *start(wider, 0), (4, 2))[1]["population_spread"] > expected["population_spread"])
    assert not counts["jit(evolve)"]


def test_a_population_without_any_fitness_leaves_the_start():
    built = make(std=1e30)
    search, metrics = evolve(built, *start(built, 0), (2, 2, 2))
    assert np.all(np.isnan(metrics["fitness_mean"]))
    assert np.all(np.isfinite(metrics["fitness_best"]))  # the start's
    np.testing.assert_array_equal(search.best, start(built, 0)[0].best)
    np.testing.assert_array_equal(search.strategy.mean, search.best)


def test_evolve_does_nothing_for_a_count_of_zero():
    _, inputs = start(program(), 0)
    before = whole_run()[0]
    after, _ = program().evolve(jax.tree.map(jnp.array, before), inputs, jnp.int32(0))
    assert_same_leaves(after, before)


def test_init_begins_the_same_run_again():
    # evolve takes its argument's memory: nothing that init returns may be shared.
    evolve(program(), *start(program(), 0), (2,))
    _, metrics = evolve(program(), *start(program(), 0), (2, 2, 2))
    assert_same_metrics(metrics, whole_run()[1])


def test_another_seed_is_another_run():
    _, metrics = evolve(program(), *start(program(), 1), (2, 2, 2))
    for name in ("fitness_mean", "fitness_best", "population_spread"):
        assert np.all(metrics[name] != whole_run()[1][name])


@pytest.mark.slow  # test_pretrain_batch.py compares the two runs of a batch with single ones, through the command
def test_runs_of_a_batch_are_the_runs_alone():
    searches, metrics = evolve(program(), *start(program(), 1, 0, 4), (2, 2, 2))
    for i, seed in enumerate((1, 0, 4)):
        alone, alone_metrics = evolve(program(), *start(program(), seed), (2, 2, 2))
        assert_same_leaves(jax.tree.map(lambda x, i=i: x[i : i + 1], searches), alone)
        assert_same_metrics({name: values[i : i + 1] for name, values in metrics.items()}, alone_metrics)


def test_assess_is_the_objective_on_a_fresh_batch():
    key, solution = jax.random.key(7), whole_run()[0].best[0]
    report, severities = program().assess(key, solution)
    assert set(report) == {"fitness", "ranking_accuracy", "kendall_tau", "wrong_way_share", "gradient_norm_ratio"}
    batch = jax.jit(lambda key: objective.draw(key, CONFIG, TEST_PAIRS))(key)
    np.testing.assert_allclose(severities, batch.severity, atol=1e-6)
    # Loss and severity in NumPy: the share of neighbours in the same order.
    params = program().unravel(solution)
    losses = jax.jit(lambda params, batch: objective.hard_label_loss(CONFIG.network, params, batch.log_p, batch.labels))
    values = np.asarray(losses(params, batch))
    worse = np.asarray(severities)[0]
    right = np.sign(np.roll(values, -1) - values) == np.sign(np.roll(worse, -1) - worse)
    assert report["ranking_accuracy"] == pytest.approx(right.mean(), abs=1e-3)
    assert worse.size == TEST_PAIRS


@pytest.fixture
def own_programs():
    """Share no program with other tests: evolutions keep theirs, by config."""
    generations.clear_programs()
    yield
    generations.clear_programs()


@pytest.mark.usefixtures("own_programs")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_tolerates_nan_and_resumes_from_its_checkpoint(strategy, tmp_path, monkeypatch, compilations):
    fitness = generations.fitness

    def nan_for_half(task, members, batch):
        scores, values = fitness(task, members, batch)
        first = jax.vmap(lambda params: ravel_pytree(params)[0][0])(members)
        bad = jnp.sin(1e3 * first) > 0.0
        if first.size == 8:  # a population: never all of it
            bad &= jnp.arange(8) > 0
        return jnp.where(bad, jnp.nan, scores), values

    monkeypatch.setattr(generations, "fitness", nan_for_half)
    # What is not known yet, and a member without a fitness, is no NaN of a program.
    with jax.debug_nans(True), compilations() as counts:
        built = make(strategy)
        search, metrics = evolve(built, *start(built, 0), (2, 2, 2))
        assert np.all(np.diff(metrics["fitness_best"]) <= 0.0)
        assert np.all(np.isfinite(metrics["fitness_mean"]))  # of the others
        assert np.all(np.isfinite(search.best_fitness))
        assert np.all(np.isfinite(search.best))
        assert np.all(np.isfinite(search.strategy.mean))

        fresh, inputs = start(built, 0)
        interrupted, first = evolve(built, fresh, inputs, (2,))
        run = Run.open("test", CONFIG.network, out=tmp_path / "run")
        run.save(2, interrupted)
        run.close()
        like, inputs = start(built, 0)
        step, restored = Run.open("test", CONFIG.network, out=tmp_path / "run", resume=True).restore(like)
        assert step == 2
        resumed, rest = evolve(built, restored, inputs, (2, 2))
    assert counts["jit(evolve)"] == 1
    assert_same_metrics({name: np.concatenate([first[name], rest[name]], axis=1) for name in first}, metrics)
    assert_same_leaves(resumed, search)
