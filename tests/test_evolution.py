import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from edl_jax import evolution, strategies
from edl_jax.evolution import Task, make_program
from edl_jax.loss import NetworkConfig
from edl_jax.runs import Run
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic import MixtureConfig, gradients, severity

GENERATIONS = 6
TASK = Task(
    network=NetworkConfig(hidden=(4,)),
    mixture=MixtureConfig(),
    severity=severity.get("error"),
    num_classes=3,
    num_pairs=32,
    beta=1.0,
    margin=0.0,
    wrong_way=0.0,
    exploding=0.0,
    roughness=0.0,
)


def simple_pairs(key, _, num_classes, num_pairs):
    """Softmax of normals: the gamma variates of the real sampler take longest to compile."""
    label_key, *keys = jax.random.split(key, 3)
    labels = jax.random.randint(label_key, (num_pairs,), 0, num_classes, jnp.int32)
    return labels, *(jax.nn.log_softmax(3.0 * jax.random.normal(k, (num_pairs, num_classes))) for k in keys)


@pytest.fixture(scope="module", autouse=True)
def fast_compilation():
    """Compiling is what these tests cost, a dozen programs: test_pretrain.py has the real ones, optimised."""
    jax.config.update("jax_disable_most_optimizations", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evolution, "sample_pairs", simple_pairs)
        yield
    jax.config.update("jax_disable_most_optimizations", False)


def make(strategy="chaotic_es", *, chunk=2, seed=0, std=0.1):
    return make_program(
        TASK,
        strategy,
        StrategyConfig(population_size=8, std=std),
        seed=seed,
        generations=GENERATIONS,
        chunk=chunk,
        held_out_pairs=64,
    )


@functools.cache
def program(chunk):
    """One program per size of chunk for the whole module."""
    return make(chunk=chunk)


def evolve(built, search, calls) -> tuple[Any, dict[str, np.ndarray]]:
    """Call evolve several times and join the metrics."""
    blocks = []
    for _ in range(calls):
        search, metrics = built.evolve(search)
        blocks.append(jax.device_get(metrics))
    return search, {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


@functools.cache
def whole_run(chunk):
    return evolve(program(chunk), program(chunk).init(), -(-GENERATIONS // chunk))


def assert_same_metrics(found, expected):
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def assert_same_leaves(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_metrics_of_a_run():
    search, metrics = whole_run(2)
    names = {"generation", "fitness_best", "fitness_mean", "fitness_of_mean", "population_spread"}
    names |= {"ranking_accuracy", "kendall_tau", "wrong_way_share", "gradient_norm_ratio"}
    assert set(metrics) == names
    np.testing.assert_array_equal(metrics["generation"], np.arange(1, GENERATIONS + 1))
    assert int(search.generation) == GENERATIONS
    for name, values in metrics.items():
        assert np.all(np.isfinite(values)), name
    for name in ("ranking_accuracy", "wrong_way_share"):
        assert np.all((metrics[name] >= 0) & (metrics[name] <= 1))
    assert np.all(np.diff(metrics["fitness_best"]) <= 0.0)
    assert np.all(metrics["fitness_best"] <= metrics["fitness_of_mean"])
    assert metrics["fitness_best"][-1] < np.log(2.0)  # a constant loss's


def test_best_is_what_its_fitness_says_on_the_held_out_batch():
    search, metrics = whole_run(2)
    held_out_key = jax.random.split(jax.random.key(0), 4)[3]
    batch = evolution.draw(held_out_key, TASK, 64)
    again = jax.jit(lambda best: evolution.fitness(TASK, program(2).unravel(best), batch))(search.best)
    np.testing.assert_allclose(again, search.best_fitness, rtol=1e-5)
    np.testing.assert_array_equal(metrics["fitness_best"][-1], search.best_fitness)


def test_chunk_size_does_not_change_the_numbers():
    search, metrics = whole_run(4)
    expected_search, expected = whole_run(2)
    np.testing.assert_array_equal(metrics["generation"], [1, 2, 3, 4, 5, 6, 0, 0])
    assert_same_metrics({name: values[:GENERATIONS] for name, values in metrics.items()}, expected)
    assert_same_leaves(search, expected_search)


def test_evolve_does_nothing_beyond_the_last_generation():
    before = whole_run(4)[0]
    after, idle = program(4).evolve(jax.tree.map(jnp.array, before))
    assert_same_leaves(after, before)
    assert not np.any(idle["generation"])


def test_init_begins_the_same_run_again():
    # evolve takes its argument's memory: nothing that init returns may be shared.
    evolve(program(2), program(2).init(), 1)
    _, metrics = evolve(program(2), program(2).init(), 3)
    assert_same_metrics(metrics, whole_run(2)[1])


def test_another_seed_is_another_run_and_compiles_each_function_once(compilations):
    built = make(seed=1)
    with compilations() as counts:
        search, metrics = evolve(built, built.init(), 3)
        evolve(built, search, 1)  # beyond the end
    ours = {name: count for name, count in counts.items() if "evolve" in name or "init" in name}
    assert ours == {"jit(evolve)": 1, "jit(init)": 1}
    for name in ("fitness_mean", "fitness_best", "population_spread"):
        assert np.all(metrics[name] != whole_run(2)[1][name])


@pytest.mark.parametrize("strategy", strategies.names())
def test_every_strategy_tolerates_nan_and_resumes_from_its_checkpoint(strategy, tmp_path, monkeypatch, compilations):
    fitness = evolution.fitness

    def nan_for_half(task, params, batch):
        return jnp.where(jnp.sin(1e3 * ravel_pytree(params)[0][0]) > 0.0, jnp.nan, fitness(task, params, batch))

    monkeypatch.setattr(evolution, "fitness", nan_for_half)
    # Evosax's own strategies add vectors to matrices.
    with jax.numpy_rank_promotion("allow"), compilations() as counts:
        built = make(strategy)
        search, metrics = evolve(built, built.init(), 3)
        assert np.all(np.diff(metrics["fitness_best"]) <= 0.0)
        assert np.all(np.isfinite(metrics["fitness_mean"]))  # of the others
        assert np.isfinite(search.best_fitness)
        assert np.all(np.isfinite(search.best))
        assert np.all(np.isfinite(search.strategy.mean))

        interrupted, first = evolve(built, built.init(), 1)
        run = Run.open("test", TASK.network, out=tmp_path / "run")
        run.save(2, interrupted)
        run.close()
        step, restored = Run.open("test", TASK.network, out=tmp_path / "run", resume=True).restore(built.init())
        assert step == 2
        resumed, rest = evolve(built, restored, 2)
    assert counts["jit(evolve)"] == 1
    assert_same_metrics({name: np.concatenate([first[name], rest[name]]) for name in first}, metrics)
    assert_same_leaves(resumed, search)


def test_a_population_without_any_fitness_leaves_the_start():
    built = make(std=1e30)
    search, metrics = evolve(built, built.init(), 3)
    assert np.all(np.isnan(metrics["fitness_mean"]))
    assert np.all(np.isfinite(metrics["fitness_best"]))  # the start's
    np.testing.assert_array_equal(search.best, built.init().best)
    np.testing.assert_array_equal(search.strategy.mean, search.best)


@pytest.mark.parametrize("name", ["wrong_way", "exploding", "roughness", "margin"])
def test_every_term_of_the_objective_reaches_the_fitness(name, monkeypatch):
    monkeypatch.setattr(gradients, "EXPLODING_LIMIT", 0.0)  # so that any gradient is above it
    batch = evolution.draw(jax.random.key(3), TASK, 64)
    params = program(2).unravel(10.0 * jax.random.normal(jax.random.key(4), (program(2).num_dims,)))
    plain = evolution.fitness(TASK, params, batch)
    assert evolution.fitness(TASK._replace(**{name: 1.0}), params, batch) > plain
