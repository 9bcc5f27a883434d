"""Severity and the ranking objective against float64 NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import special, stats

from edl_jax.core.errors import UserError
from edl_jax.synthetic import SEVERITIES, kendall_tau, ranking_accuracy, severity
from edl_jax.synthetic.ranking import grouped_pairs, grouped_ranking_fitness

NUM_PAIRS = 1_000


def reference_fitness(loss_a, loss_b, severity_a, severity_b, beta, margin):
    """Return F by its formula: swap every pair into e_a < e_b, drop ties, average."""
    la, lb, ea, eb = (np.asarray(x, np.float64) for x in (loss_a, loss_b, severity_a, severity_b))
    s_e, s_l = np.std(np.append(ea, eb)), np.std(np.append(la, lb))
    swap = ea > eb
    la, lb = np.where(swap, lb, la), np.where(swap, la, lb)
    ea, eb = np.where(swap, eb, ea), np.where(swap, ea, eb)
    terms = np.logaddexp(beta * (margin * (eb - ea) / s_e - (lb - la) / s_l), 0) / beta
    return np.mean(terms[ea < eb])


def pairs(seed, noise=0.5, count=NUM_PAIRS):
    """Return (loss_a, loss_b, severity_a, severity_b), float32: losses that rank imperfectly; a tenth are ties."""
    rng = np.random.default_rng(seed)
    severity_a, severity_b = rng.uniform(size=(2, count))
    severity_b = np.where(np.arange(count) % 10 == 0, severity_a, severity_b)
    loss_a, loss_b = (np.exp(e) + noise * rng.standard_normal(count) for e in (severity_a, severity_b))
    return tuple(jnp.asarray(x, jnp.float32) for x in (loss_a, loss_b, severity_a, severity_b))


def test_ranking_accuracy_does_not_count_ties_of_severity():
    loss_a, loss_b, severity_a, severity_b = pairs(3)
    kept = np.asarray(severity_a != severity_b)
    assert 0 < kept.sum() < NUM_PAIRS
    changed = jnp.where(kept, loss_a, loss_b[::-1]), loss_b
    assert ranking_accuracy(*changed, severity_a, severity_b) == ranking_accuracy(
        loss_a, loss_b, severity_a, severity_b
    )
    assert float(ranking_accuracy(loss_a, loss_b, severity_a, severity_a)) == 0.0


GROUPED = [(1, 1), (1, 3), (2, 2), (3, 1), (4, 3), (5, 2)]


def grouped(seed, groups, noise=0.5):
    """Return (losses, severities) `[groups, 60]`, float32; a tenth of the neighbours are ties of severity."""
    rng = np.random.default_rng(seed)
    severities = rng.uniform(size=(groups, 60))
    severities[:, ::10] = severities[:, 1::10]
    losses = np.exp(severities) + noise * rng.standard_normal(severities.shape)
    return jnp.asarray(losses, jnp.float32), jnp.asarray(severities, jnp.float32)


def explicit_pairs(x, reuse):
    """Return (a, b): each entry of each row with the `reuse` that follow it, cyclically, one by one."""
    rows, size = x.shape
    pairs = [(x[i, j], x[i, (j + k) % size]) for i in range(rows) for j in range(size) for k in range(1, reuse + 1)]
    return np.array(pairs, np.float64).T


grouped_fitness = jax.jit(grouped_ranking_fitness, static_argnames="reuse")


@pytest.mark.parametrize(("groups", "reuse"), GROUPED)
def test_grouped_fitness_is_that_of_the_list_of_pairs(groups, reuse):
    losses, severities = grouped(groups, groups)
    loss_a, loss_b = explicit_pairs(np.asarray(losses), reuse)
    severity_a, severity_b = explicit_pairs(np.asarray(severities), reuse)
    assert np.any(severity_a == severity_b)
    for beta, margin in ((1.0, 0.0), (10.0, 1.0)):
        expected = reference_fitness(loss_a, loss_b, severity_a, severity_b, beta, margin)
        found = grouped_fitness(losses, severities, reuse=reuse, beta=beta, margin=margin)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    for x, expected in zip(grouped_pairs(losses, reuse), (loss_a, loss_b), strict=True):
        assert x.shape == (reuse * groups * 60,)
        np.testing.assert_array_equal(np.sort(x), np.sort(expected))


@pytest.mark.parametrize(("beta", "margin"), [(1.0, 0.0), (10.0, 1.0)])
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(a=st.floats(0.1, 10.0), b=st.floats(-10.0, 10.0), seed=st.integers(0, 100))
def test_grouped_fitness_sees_neither_scale_nor_offset(beta, margin, a, b, seed):
    losses, severities = grouped(seed, 3)
    expected = grouped_fitness(losses, severities, reuse=2, beta=beta, margin=margin)
    moved = grouped_fitness(a * losses + b, severities, reuse=2, beta=beta, margin=margin)
    assert abs(float(moved) - float(expected)) <= 1e-5


def test_grouped_fitness_compares_within_groups_only():
    """Two groups that are ranked backwards against each other, but perfectly within, have no misranked pair."""
    severities = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 60)) + np.array([[0.0], [10.0]]), jnp.float32)
    backwards = severities - jnp.array([[0.0], [20.0]])
    # At a large beta every misranked pair costs about its gap, and a right order nearly nothing.
    assert float(grouped_fitness(backwards, severities, reuse=3, beta=1e4)) < 1e-3
    assert float(grouped_fitness(backwards.reshape(1, -1), severities.reshape(1, -1), reuse=3, beta=1e4)) > 1e-2


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_loss_that_is_not_finite_is_never_a_good_one(bad):
    _, severities = grouped(1, 3)
    losses = 1e3 * np.asarray(severities)
    losses[np.unravel_index(np.argmax(severities), losses.shape)] = bad
    assert np.isnan(grouped_fitness(losses, severities))


def test_ties_of_severity_do_not_count():
    """The order of a tied pair's losses is not scored, whatever the loss says of it."""
    losses = np.array([[0.0, 1.0, 5.0, 6.0]], np.float32)
    severities = np.array([[1.0, 1.0, 2.0, 2.0]], np.float32)
    swapped = losses[:, [1, 0, 3, 2]]  # the pairs within the ties the other way round, those between them reordered
    for margin in (0.0, 1.0):
        expected = [
            reference_fitness(*explicit_pairs(x, 1), *explicit_pairs(severities, 1), 1.0, margin)
            for x in (losses, swapped)
        ]
        found = [grouped_fitness(x, severities, margin=margin) for x in (losses, swapped)]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(grouped_fitness(losses, np.ones_like(severities), margin=1.0)) == 0.0


def test_fitness_orders_losses_by_how_well_they_rank():
    losses, severities = grouped(1, 3, noise=1.0)
    right, noisy, wrong = (grouped_fitness(x, severities) for x in (severities, losses, -severities))
    assert right < noisy < np.log(2.0) < wrong


def test_a_constant_loss_in_groups_scores_ln_2_over_beta():
    _, severities = grouped(0, 3)
    flat = jnp.full(severities.shape, 0.1)
    for constant in (0.0, 0.1, -3.7):
        found = grouped_fitness(jnp.full(severities.shape, constant), severities, reuse=2, beta=10.0)
        np.testing.assert_allclose(found, np.log(2.0) / 10.0, rtol=1e-6, err_msg=f"{constant}")
    assert jnp.isnan(grouped_fitness(flat.at[1, 2].set(jnp.inf), severities))
    assert float(grouped_fitness(flat, jnp.zeros_like(severities), margin=1.0)) == 0.0


def test_ranking_accuracy_is_the_share_of_ordered_pairs():
    loss_a, loss_b, severity_a, severity_b = (np.asarray(x) for x in pairs(4))
    loss_a = np.where(np.arange(NUM_PAIRS) % 7 == 0, loss_b, loss_a)  # ties of the loss are errors
    kept = severity_a != severity_b
    expected = np.mean(
        ((loss_a < loss_b) & (severity_a < severity_b) | (loss_a > loss_b) & (severity_a > severity_b))[kept]
    )
    np.testing.assert_allclose(ranking_accuracy(*map(jnp.asarray, (loss_a, loss_b, severity_a, severity_b))), expected)


@pytest.mark.parametrize("levels", [3, 20, 10_000])
def test_kendall_tau_is_scipys(levels):
    rng = np.random.default_rng(levels)
    x = rng.integers(0, levels, 300)
    y = np.where(rng.uniform(size=300) < 0.5, x, rng.integers(0, levels, 300))
    expected = stats.kendalltau(x, y).statistic
    tau = jax.jit(kendall_tau)
    np.testing.assert_allclose(tau(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)), expected, rtol=1e-5)
    np.testing.assert_allclose(tau(jnp.asarray(x, jnp.float32), -jnp.asarray(y, jnp.float32)), -expected, rtol=1e-5)


def test_kendall_tau_of_a_constant_is_zero():
    assert float(kendall_tau(jnp.ones(20), jnp.arange(20.0))) == 0.0


def test_severities_are_their_formulas():
    rng = np.random.default_rng(0)
    log_p = special.log_softmax(4.0 * rng.standard_normal((200, 6)), axis=-1)
    labels = rng.integers(0, 6, 200)
    p, y = np.exp(log_p), np.eye(6)[labels]
    p_t = p[y == 1]
    references = {
        "brier": np.sum((p - y) ** 2, axis=-1),
        "error": 1.0 - p_t,
        "margin": np.max(np.where(y == 1, -1.0, p), axis=-1) - p_t,
        "nll": -np.log(p_t),
    }
    assert set(SEVERITIES) == set(references)
    for name, expected in references.items():
        values = severity.get(name)(jnp.asarray(log_p, jnp.float32), jnp.asarray(labels))
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_error_keeps_its_precision_near_certainty():
    tiny = np.array([1e-9, 1e-7, 1e-5])
    log_p = jnp.asarray(np.stack([np.log1p(-tiny), np.log(tiny)], axis=-1), jnp.float32)
    np.testing.assert_allclose(severity.error(log_p, jnp.zeros(3, jnp.int32)), tiny, rtol=1e-5)


def test_unknown_severity():
    with pytest.raises(UserError, match=r"unknown severity 'brie': did you mean brier\?"):
        severity.get("brie")
