"""The objective of a population: its batches, its terms, and the fast path against the plain one."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from edl_jax import loss
from edl_jax.loss import NetworkConfig
from edl_jax.loss.networks.kinds import EVOLVED_KINDS, g1, init, is_separable
from edl_jax.pretrain import PretrainConfig, objective
from edl_jax.pretrain.generations import make_evolution
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic import MixtureConfig, gradients
from edl_jax.synthetic.mixture import COMPONENTS
from edl_jax.synthetic.slope import slope_grid, slope_residual

SMALL = PretrainConfig(network=NetworkConfig(hidden=(4,)), num_classes=3, num_pairs=64)


def only(**weights):
    return MixtureConfig(**{**dict.fromkeys(COMPONENTS, 0.0), **weights})


MIXTURES = {
    "default": MixtureConfig(),
    "log_uniform": only(log_uniform=1.0),
    "near_uniform": only(near_uniform=1.0),
}


def task_of(kind="per_class", **changes):
    network = NetworkConfig(kind=kind, hidden=(4,))
    return dataclasses.replace(SMALL, network=network, **changes)


def members_of(task, count, scale=1.0):
    """Return the parameters of fresh members, leaves `[count, ...]`."""
    keys = jax.random.split(jax.random.key(1), count)
    fresh = jax.vmap(lambda key: init(key, task.network, task.num_classes))(keys)
    return jax.tree.map(lambda x: scale * x, fresh)


def simple_sample(key, _, num_classes, labels):
    """Softmax of normals, as in test_generations.py: quick to compile."""
    return jax.nn.log_softmax(3.0 * jax.random.normal(key, (labels.shape[0], num_classes)))


@pytest.fixture
def fast_compilation(quick_compilation, monkeypatch):
    monkeypatch.setattr(objective, "sample", simple_sample)


draw = jax.jit(objective.draw, static_argnums=(1, 2))
fitness = jax.jit(objective.fitness, static_argnums=0)


# Batches


# (kind of network, pairs, reuse) -> [L, V], groups of predictions that share a label.
SHAPES = {
    ("per_class", 64, 1): (1, 64),
    ("per_class", 64, 4): (1, 16),
    ("pairwise", 65, 2): (1, 33),
    ("monotone", 2, 1): (1, 2),
    ("per_class", 8, 4): (1, 5),  # a prediction meets 4 others
    ("joint", 256, 1): (3, 86),  # one group for each class
    ("joint", 64, 1): (2, 32),  # groups of no fewer than 32
    ("joint", 64, 32): (1, 33),
    ("joint", 300, 2): (3, 50),
}


@pytest.mark.parametrize("case", SHAPES)
def test_a_batch_has_groups_for_all_its_pairs(case):
    kind, num_pairs, reuse = case
    task = task_of(kind, reuse=reuse)
    batch = jax.eval_shape(lambda key: objective.draw(key, task, num_pairs), jax.random.key(0))
    assert batch.severity.shape == SHAPES[case]
    assert batch.severity.size * reuse >= num_pairs
    assert batch.log_p.shape == (batch.labels.size, 3) == (batch.severity.size, 3)


@pytest.mark.usefixtures("fast_compilation")
@pytest.mark.parametrize("case", [("per_class", 8, 4), ("joint", 300, 2)])
def test_a_batch_holds_the_pairs_in_groups_of_one_label(case):
    (kind, num_pairs, reuse), shape = case, SHAPES[case]
    batch = draw(jax.random.key(0), task_of(kind, reuse=reuse), num_pairs)
    labels = np.asarray(batch.labels).reshape(shape)
    assert np.all(labels == labels[:, :1])
    assert len(set(labels[:, 0].tolist())) == shape[0]
    np.testing.assert_allclose(np.exp(batch.log_p).sum(axis=1), 1.0, rtol=1e-5)
    p_t = np.exp(np.take_along_axis(np.asarray(batch.log_p), labels.reshape(-1, 1), axis=1))
    np.testing.assert_allclose(batch.severity, 1.0 - p_t.reshape(shape), atol=1e-6)


@pytest.mark.usefixtures("fast_compilation")
def test_every_class_is_a_label_sooner_or_later():
    found = {int(draw(jax.random.key(seed), task_of(), 2).labels[0]) for seed in range(40)}
    assert found == {0, 1, 2}


@pytest.mark.usefixtures("fast_compilation")
@pytest.mark.parametrize("kind", EVOLVED_KINDS)
@pytest.mark.parametrize("evaluation", ["auto", "plain"])
def test_separable_networks_are_tabulated_unless_told_otherwise(kind, evaluation):
    task = task_of(kind, evaluation=evaluation)
    assert task.is_tabulated == (evaluation == "auto" and is_separable(task.network))
    batch = jax.eval_shape(lambda key: objective.draw(key, task, 8), jax.random.key(0))
    assert (batch.matrix is not None) == task.is_tabulated


# The objective


def reference(values, severities, reuse, beta, margin):
    """Return F of losses `[L, V]` by its definition, pair by pair, float64."""
    values, severities = np.asarray(values, np.float64), np.asarray(severities, np.float64)
    loss, e = values / values.std(), severities / severities.std()
    terms = []
    for row in range(e.shape[0]):
        for i in range(e.shape[1]):
            for j in ((i + k) % e.shape[1] for k in range(1, reuse + 1)):
                if e[row, i] != e[row, j]:
                    better, worse = (i, j) if e[row, i] < e[row, j] else (j, i)
                    gap = margin * (e[row, worse] - e[row, better]) - (loss[row, worse] - loss[row, better])
                    terms.append(np.logaddexp(0.0, beta * gap) / beta)
    return np.mean(terms)


@pytest.mark.usefixtures("fast_compilation")
def test_slope_is_charged_by_its_weight():
    task, free = task_of("true_class", slope=0.7), task_of("true_class", slope=0.0)
    assert task.sees_slope
    assert not free.sees_slope
    assert not task_of("per_class", slope=0.7).sees_slope
    members, batch = members_of(task, 3), draw(jax.random.key(2), task, 256)
    charged = fitness(task, members, batch)[0] - fitness(free, members, batch)[0]
    grid = slope_grid(task.mixture, task.severity, task.num_classes)
    for i, found in enumerate(np.asarray(charged)):
        params = jax.tree.map(lambda x, i=i: x[i], members)
        value, slope = jax.jvp(lambda x, p=params: g1(task.network, p, x), (grid.log_p,), (np.ones_like(grid.log_p),))
        expected = 0.7 * np.mean(grid.weight * np.square(slope_residual(grid, value, slope)))
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("fast_compilation")
@pytest.mark.parametrize("kind", EVOLVED_KINDS)
def test_fitness_is_the_definition(kind):
    task = task_of(kind, reuse=2, beta=3.0, margin=0.5, slope=0.0)
    batch = draw(jax.random.key(2), task, 256)
    scores, values = fitness(task, members_of(task, 3), batch)
    assert values.shape == (3, *batch.severity.shape)
    expected = [reference(row, batch.severity, 2, 3.0, 0.5) for row in values]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.usefixtures("fast_compilation")
@pytest.mark.parametrize("name", ["wrong_way", "exploding", "roughness", "margin"])
def test_every_term_of_the_objective_reaches_the_fitness(name, monkeypatch):
    monkeypatch.setattr(gradients, "EXPLODING_LIMIT", 0.0)  # so that any gradient is above it
    task = task_of()
    batch, members = draw(jax.random.key(3), task, 64), members_of(task, 4, scale=10.0)
    plain, values = fitness(task, members, batch)
    scores, again = fitness(dataclasses.replace(task, **{name: 1.0}), members, batch)
    assert np.all(scores > plain)
    np.testing.assert_allclose(again, values, rtol=1e-5, atol=1e-5)  # the losses are the same


@pytest.mark.usefixtures("fast_compilation")
def test_a_member_that_is_not_finite_harms_no_other():
    task = task_of()
    batch, members = draw(jax.random.key(3), task, 64), members_of(task, 3)
    broken = jax.tree.map(lambda x: x.at[1].set(jnp.nan), members)
    scores = np.asarray(fitness(task, broken, batch)[0])
    assert np.isnan(scores[1])
    np.testing.assert_array_equal(scores[[0, 2]], np.asarray(fitness(task, members, batch)[0])[[0, 2]])


@pytest.mark.usefixtures("fast_compilation")
@pytest.mark.parametrize("kind", EVOLVED_KINDS)
@pytest.mark.parametrize(("sign", "accuracy"), [(1.0, 1.0), (-1.0, 0.0)])
def test_report_of_a_loss_that_is_severity_itself(kind, sign, accuracy):
    task = task_of(kind, reuse=2, beta=3.0, margin=0.5)  # as above, for its programs
    batch = draw(jax.random.key(4), task, 256)
    params = jax.tree.map(lambda x: x[0], members_of(task, 1))
    found = jax.jit(objective.report, static_argnums=0)(task, params, sign * batch.severity, batch)
    assert found["ranking_accuracy"] == accuracy
    np.testing.assert_allclose(found["kendall_tau"], sign, rtol=1e-5)
    assert 0.0 <= float(found["wrong_way_share"]) <= 1.0
    assert 0.0 < float(found["gradient_norm_ratio"]) < np.inf


# The fast path against the plain one

REQUIRED = (1e-4, 0.999)  # relative error of the fitness, Kendall tau of the members' order
# Where the grid of `tabulated` falls short of that: (random population, converged one). Its knots are sparse where
# nearly all of 100 probabilities lie when they are near equal.
LIMITS = {
    ("per_class", "default", 100): ((3e-4, 0.999), REQUIRED),
    ("per_class", "near_uniform", 10): ((5e-4, 0.999), (2e-4, 0.99)),
    ("per_class", "near_uniform", 100): ((5e-3, 0.98), (5e-2, 0.8)),
    ("monotone", "near_uniform", 100): ((1e-3, 0.95), (1e-4, 0.998)),
}
FAST = (("per_class", "default", 10),)
CASES = [(kind, mixture, c) for kind in ("per_class", "monotone") for mixture in MIXTURES for c in (2, 10, 100)]
GENERATIONS = 200


def order_agreement(found, expected):
    """Return Kendall's tau over pairs of members whose fitness differs by more than float32 rounds it."""
    gap = expected[:, None] - expected[None, :]
    counts = np.abs(gap) > 8 * np.finfo(np.float32).eps * np.abs(expected[:, None])
    return np.mean((np.sign(found[:, None] - found[None, :]) * np.sign(gap))[counts])


@functools.cache
def populations(kind, mixture, num_classes):
    """Return (task, unravel, a random population, a converged one): what the first and the last generation score."""
    es = StrategyConfig(population_size=64, std=0.2, std_limit=0.01, std_decay=0.98)
    task = PretrainConfig(
        network=NetworkConfig(kind=kind),
        mixture=MIXTURES[mixture],
        num_classes=num_classes,
        es=es,
        num_pairs=256,
        held_out_pairs=256,
    )
    program = make_evolution(task, chunk=GENERATIONS)
    if (kind, mixture, num_classes) in FAST:  # evolved to the end once, and shipped
        shipped = loss.load_artifact("edl_per_class")
        assert shipped.network == task.network
        best, _ = ravel_pytree(shipped.params)
        noise = np.asarray(jax.random.normal(jax.random.key(5), (128, program.num_dims)))
        first, _ = ravel_pytree(init(jax.random.key(0), task.network, task.num_classes))
        return task, program.unravel, np.asarray(first) + es.std * noise, np.asarray(best) + es.std_limit * noise
    searches, inputs = program.init(jax.random.key(0)[None])
    noise = np.asarray(jax.random.normal(jax.random.key(5), (128, program.num_dims)))
    random = np.asarray(searches.best) + es.std * noise
    searches, _ = program.evolve(searches, inputs, jnp.int32(GENERATIONS))
    assert searches.strategy.std[0] == pytest.approx(es.std_limit)
    assert searches.best_fitness[0] < 0.4  # a constant loss has ln 2
    return task, program.unravel, random, np.asarray(searches.strategy.mean) + es.std_limit * noise


@pytest.mark.parametrize(
    ("kind", "mixture", "num_classes"),
    [pytest.param(*case, marks=[] if case in FAST else pytest.mark.slow) for case in CASES],
)
def test_fast_and_plain_paths_agree(kind, mixture, num_classes):
    task, unravel, *both = populations(kind, mixture, num_classes)
    batch = draw(jax.random.key(9), task, 1024)
    plain = dataclasses.replace(task, evaluation="plain")
    score = jax.jit(lambda task, x, batch: objective.fitness(task, jax.vmap(unravel)(x), batch)[0], static_argnums=0)
    for population, (error, tau) in zip(both, LIMITS.get((kind, mixture, num_classes), (REQUIRED,) * 2), strict=True):
        found = np.asarray(score(task, population, batch), np.float64)
        expected = np.asarray(score(plain, population, batch._replace(matrix=None)), np.float64)
        assert np.max(np.abs(found - expected) / expected) < error
        assert order_agreement(found, expected) > tau
