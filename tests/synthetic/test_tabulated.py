"""Population losses by interpolation against the networks themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_losses import TRAINED, mixture_of, only
from scipy import special, stats

from edl_jax import loss
from edl_jax.loss.networks import kinds as _network
from edl_jax.synthetic import SEVERITIES, MixtureConfig, draw_predictions, kendall_tau, tabulated
from edl_jax.synthetic.ranking import grouped_ranking_fitness

MEMBERS = 32
LOW = tabulated.LOG_P_MIN
NETWORKS = {kind: loss.NetworkConfig(kind=kind) for kind in ("per_class", "monotone")}
CASES = [("per_class", 10), ("per_class", 33), ("monotone", 10)]  # from 33 classes on weights are scattered
MORE = [
    ("per_class", 2),
    ("per_class", 32),
    ("per_class", 100),
    ("per_class", 1000),
    ("monotone", 2),
    ("monotone", 100),
]


@functools.cache
def fresh(kind):
    keys = jax.random.split(jax.random.key(3), MEMBERS)
    return jax.jit(jax.vmap(_network.init, in_axes=(0, None)), static_argnums=1)(keys, NETWORKS[kind])


@functools.cache
def both(network):
    """Return the program of (losses from the network `[P, N]`, losses from tables)."""

    def evaluate(params, log_p, labels):
        plain = jax.vmap(lambda member: _network.hard_label_loss(network, member, log_p, labels))(params)
        table = jax.vmap(lambda member: tabulated.tables(network, member))(params)
        return plain, tabulated.population_losses(table, tabulated.interpolation_matrix(log_p, labels))

    return jax.jit(evaluate)


@functools.partial(jax.jit, static_argnames="low")
def interpolated(table, log_p, labels, low=LOW):
    """Return losses `[P, N]` from tables `[P, 2 G]`."""
    return tabulated.population_losses(table, tabulated.interpolation_matrix(log_p, labels, low))


@functools.cache
def predictions(num_classes, count=None):
    count = count or (1024 if num_classes <= 100 else 64)
    return draw_predictions(jax.random.key(5), mixture_of(TRAINED), num_classes, count)


@jax.jit
def fitness(losses, severities):
    """Return F `[P]` of losses `[P, N]`, every prediction paired with the next."""
    return jax.vmap(lambda row: grouped_ranking_fitness(row[None], severities[None]))(losses)


# Error relative to the largest loss of the population, and of F relative to F.
LIMITS = {1.0: (2e-4, 1e-4), 5.0: (5e-4, 1e-4)}


@pytest.mark.parametrize("scale", LIMITS)
@pytest.mark.parametrize(
    ("kind", "num_classes"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]
)
def test_random_networks(kind, num_classes, scale):
    labels, log_p = predictions(num_classes)
    params = jax.tree.map(lambda x: scale * x, fresh(kind))
    plain, fast = both(NETWORKS[kind])(params, log_p, labels)
    of_losses, of_fitness = LIMITS[scale]
    assert jnp.max(jnp.abs(fast - plain)) < of_losses * jnp.max(jnp.abs(plain))
    severities = SEVERITIES["error"](log_p, labels)
    exact, found = (np.asarray(fitness(x, severities), np.float64) for x in (plain, fast))
    np.testing.assert_allclose(found, exact, rtol=of_fitness)
    assert np.median(np.abs(found / exact - 1.0)) < 0.5 * of_fitness
    assert stats.kendalltau(exact, found).statistic > 0.999


@pytest.mark.parametrize(
    "num_classes", [10, pytest.param(2, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("std", [pytest.param(0.1, marks=pytest.mark.slow), 0.01])
def test_a_converged_population_keeps_its_order(std, num_classes):
    """Around an evolved network all fitnesses are close: errors must be common to all members."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: jnp.float32(x + std * rng.standard_normal((128, *x.shape))), TRAINED.params)
    labels, log_p = predictions(num_classes, 2048)
    plain, fast = both(TRAINED.network)(params, log_p, labels)
    assert jnp.max(jnp.abs(fast - plain)) < 1.5e-4 * jnp.max(jnp.abs(plain))
    severities = SEVERITIES["error"](log_p, labels)
    exact, found = fitness(plain, severities), fitness(fast, severities)
    np.testing.assert_allclose(found, exact, rtol=3e-5)
    assert kendall_tau(exact, found) > 0.999


def known_tables(g1, g0, low=LOW):
    log_p = tabulated.knots(low)
    return np.concatenate([g1(log_p), g0(log_p)])[None]


def blend(log_p):
    """Return u, in which the knots are equally spaced."""
    return np.exp(log_p) + log_p / 8.0


def test_the_knots():
    log_p = tabulated.knots(LOW)
    np.testing.assert_allclose(np.diff(blend(log_p)), np.diff(blend(log_p))[0], rtol=1e-6)
    np.testing.assert_allclose(log_p[[1, -2]], [LOW, 0.0], atol=1e-5)


def test_exact_for_quadratics():
    labels, log_p = predictions(10)
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        log_p = jnp.asarray(special.log_softmax(np.asarray(log_p, np.float64), axis=-1).clip(LOW))
        a, b = rng.standard_normal((2, 3))
        table = known_tables(lambda x: np.polyval(a, blend(x)), lambda x: np.polyval(b, blend(x)))
        found = interpolated(table, log_p, labels)[0]
    is_true = np.eye(10, dtype=bool)[np.asarray(labels)]
    wrong = np.where(is_true, 0.0, np.polyval(b, blend(np.asarray(log_p)))).sum(axis=1)
    np.testing.assert_allclose(found, np.polyval(a, blend(np.asarray(log_p)[is_true])) + wrong, rtol=1e-8, atol=1e-8)


def test_the_error_of_a_known_loss():
    labels, log_p = predictions(10)
    table = known_tables(lambda x: -np.expm1(x), np.zeros_like)
    found = interpolated(np.float32(table), log_p, labels)[0]
    assert np.max(np.abs(found - SEVERITIES["error"](log_p, labels))) < 3e-4


@pytest.mark.parametrize("num_classes", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_the_ends_of_the_grid(num_classes):
    """Far below the grid a wrong class adds what it adds, a true one stays at the end; p_t = 1 is the other end."""
    levels = np.array([0.0, -1e-7, -1e-4, LOW + 1e-3, LOW, LOW - 1e-3, -25.0, -60.0, -80.0])
    rows = len(levels)
    true_low = np.full((rows, num_classes), -np.log(num_classes - 1.0))
    true_low[:, 0] = levels
    true_low[:, 1:] += np.log(-np.expm1(np.minimum(levels, -1e-7)))[:, None]
    wrong_low = np.full((rows, num_classes), -80.0)
    wrong_low[:, 0], wrong_low[:, 1] = np.log(-np.expm1(np.minimum(levels, -1e-7))), levels
    labels = jnp.zeros(rows, jnp.int32)
    params = fresh("per_class")
    for name, log_p in (("true", true_low), ("wrong", wrong_low)):
        expected = log_p.copy()
        expected[:, 0] = np.maximum(expected[:, 0], LOW)
        _, fast = both(NETWORKS["per_class"])(params, jnp.asarray(log_p, jnp.float32), labels)
        plain, _ = both(NETWORKS["per_class"])(params, jnp.asarray(expected, jnp.float32), labels)
        assert np.all(np.isfinite(fast))
        np.testing.assert_allclose(fast, plain, atol=1e-3 * float(jnp.max(jnp.abs(plain))), err_msg=name)


@pytest.mark.parametrize("num_classes", [2, 33])
def test_both_ways_to_build_the_matrix_agree(num_classes, monkeypatch):
    labels, log_p = draw_predictions(
        jax.random.key(2), only(uniform=1.0, log_uniform=1.0, log_p_min=-40.0), num_classes, 64
    )
    log_p = jnp.asarray(log_p).at[0].set(-80.0).at[0, labels[0]].set(0.0)
    matrices = {}
    for way, start in (("dense", 10**6), ("scattered", 2)):
        monkeypatch.setattr(tabulated, "_SCATTER_FROM", start)
        build = jax.jit(lambda *args: tabulated.interpolation_matrix(*args))  # traced anew each time
        matrices[way] = np.asarray(build(log_p, labels))
    assert matrices["dense"].shape == (64, 2 * tabulated.GRID)
    np.testing.assert_allclose(matrices["dense"], matrices["scattered"], atol=2e-5)
    # Weights of a true class sum to 1, those of the wrong ones to the number of them that is on the grid.
    np.testing.assert_allclose(matrices["dense"][:, : tabulated.GRID].sum(axis=1), 1.0, atol=1e-5)
    share = np.exp(np.minimum(np.asarray(log_p, np.float64) - LOW, 0.0))
    share[np.arange(64), np.asarray(labels)] = 0.0
    np.testing.assert_allclose(matrices["dense"][:, tabulated.GRID :].sum(axis=1), share.sum(axis=1), rtol=1e-4)


def test_the_grid_may_begin_elsewhere():
    """With a lower end at the mixture's, no true class is clipped."""
    labels, log_p = draw_predictions(jax.random.key(5), only(log_uniform=1.0, log_p_min=-40.0), 10, 256)
    losses = interpolated(np.float32(known_tables(np.negative, np.zeros_like, -40.0)), log_p, labels, -40.0)
    np.testing.assert_allclose(losses[0], SEVERITIES["nll"](log_p, labels), rtol=1e-4, atol=2e-3)
    params = jax.tree.map(lambda x: x[0], fresh("per_class"))
    table = jax.jit(lambda params: tabulated.tables(NETWORKS["per_class"], params, -40.0))(params)
    assert table.shape == (2 * tabulated.GRID,)
    assert jnp.all(jnp.isfinite(table))


def test_the_trained_networks_mixture_is_on_the_grid():
    assert mixture_of(TRAINED).log_p_min > LOW
    assert MixtureConfig().log_p_min > LOW
