"""Numbers and statements of docs/theory.md that no module computes."""

import numpy as np
from hypothesis import given, settings, strategies as st
from scipy import special

from edl_jax.synthetic import optimum


def margin_rate(p, slope_1, slope_0):
    """Return (rate of z_t - z_r, rate of z_t) under descent on the logits, from the softmax's Jacobian; t is 0."""
    outer = np.concatenate([[slope_1(p[0])], slope_0(p[1:])])
    rate = -(np.diag(p) - np.outer(p, p)) @ outer
    strongest = 1 + np.argmax(p[1:])
    return rate[0] - rate[strongest], rate[0]


def test_monotone_alone_does_not_keep_the_margin():
    rest = np.full(998, (1.0 - 0.001 - 0.5) / 998)
    p = np.concatenate([[0.001, 0.5], rest])
    margin, logit = margin_rate(p, lambda p: 0.0, lambda p: np.exp(-100.0 * p))
    np.testing.assert_allclose([margin, logit], [-0.2369, 0.0005], atol=5e-5)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**31),
    num_classes=st.integers(2, 40),
    width=st.floats(0.1, 6.0),
    power=st.floats(0.0, 8.0),
    base=st.floats(0.0, 1.0),
    fall=st.floats(0.0, 1.0),
)
def test_a_convex_g0_keeps_the_margin(seed, num_classes, width, power, base, fall):
    p = special.softmax(width * np.random.default_rng(seed).standard_normal(num_classes))

    def slope_0(x):
        return base + x**power

    margin, logit = margin_rate(p, lambda p: -fall, slope_0)
    p_t, p_r = p[0], p[1:].max()
    bound = p_t * (1.0 + p_r - p_t) * (slope_0(p_r) + fall) if p_t < p_r else 0.0
    assert margin >= bound - 1e-12
    assert logit >= -1e-12


def test_the_cubic_term_at_small_beta():
    bins = 512
    rank = (np.arange(bins) + 0.5) / bins
    grid = optimum.Bins(rank, np.full(bins, 1.0 / bins), np.zeros(bins), 0.0, 1.0)
    values, _, _ = optimum.minimise(grid, beta=0.3)
    u = np.sqrt(12.0) * (rank - 0.5)
    cubic = u + np.sqrt(12.0) * 0.3**3 / 48.0 * u**3
    to_rank, to_cubic = (1.0 - np.corrcoef(values, x)[0, 1] ** 2 for x in (u, cubic))
    np.testing.assert_allclose(to_rank, 1.9e-6, rtol=0.05)
    assert to_cubic < 1e-7


def test_the_table_of_beta():
    bins = 512
    rank = (np.arange(bins) + 0.5) / bins
    grid = optimum.Bins(rank, np.full(bins, 1.0 / bins), np.zeros(bins), 0.0, 1.0)
    parabolic = np.sin(np.arcsin(2.0 * rank - 1.0) / 3.0)
    table = {
        0.1: (1.0000, 0.9919, 6.3791, 6.3791),
        1.0: (0.9995, 0.9953, 0.32965, 0.32979),
        3.0: (0.9954, 0.9994, 0.04654, 0.04720),
        10.0: (0.9924, 1.0000, 0.00439, 0.00460),
        30.0: (0.9920, 1.0000, 0.00049, 0.00052),
    }
    for beta, (to_rank, to_parabolic, best, of_rank) in table.items():
        values, fitness, _ = optimum.minimise(grid, beta=beta)
        found = [np.corrcoef(values, x)[0, 1] ** 2 for x in (rank, parabolic)]
        np.testing.assert_allclose(found, [to_rank, to_parabolic], atol=2e-4, err_msg=f"beta {beta}")
        fitnesses = [fitness, optimum.objective(grid, rank, beta=beta)]
        np.testing.assert_allclose(fitnesses, [best, of_rank], rtol=2e-4, atol=6e-6, err_msg=f"beta {beta}")
