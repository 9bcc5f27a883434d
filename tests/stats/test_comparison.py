import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from edl_jax.core.errors import UserError
from edl_jax.stats import intervals as statistics
from edl_jax.stats.comparison import compare

INF = math.inf
# Student's sleep data: extra hours under two drugs, ten patients; t(9) = -4.0621, p = 0.00283 paired.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_correlated_groups_are_paired_by_seed():
    result = compare(DRUG_1, DRUG_2)
    t, p = stats.ttest_rel(DRUG_1, DRUG_2)
    d = np.subtract(DRUG_1, DRUG_2)
    assert (result.test, result.n_a, result.n_b) == ("paired t", 10, 10)
    np.testing.assert_allclose((result.statistic, result.p), (t, p))
    np.testing.assert_allclose((result.statistic, result.p), (-4.0621, 0.00283), rtol=2e-3)
    np.testing.assert_allclose((result.difference, result.low, result.high), statistics.interval(d))
    assert result.effect_name == "Cohen's d_z"
    assert result.effect == pytest.approx(np.mean(d) / np.std(d, ddof=1))
    assert result.correlation == pytest.approx(0.7951702)
    # One patient slept alike: nine differences remain, all of one sign.
    assert result.wilcoxon_p == pytest.approx(2 / 2**9)


@pytest.mark.parametrize("case", ["told", "negative", "sizes"])
def test_other_groups_are_not_paired(case):
    a, b = DRUG_1, {"told": DRUG_2, "negative": [-x for x in DRUG_2], "sizes": DRUG_2[:7]}[case]
    result = compare(a, b, case != "told")
    want = stats.ttest_ind(a, b, equal_var=False)
    bounds = want.confidence_interval(0.95)
    assert (result.test, result.n_a, result.n_b) == ("Welch t", len(a), len(b))
    np.testing.assert_allclose((result.statistic, result.p), (want.statistic, want.pvalue))
    np.testing.assert_allclose((result.low, result.high), bounds)
    assert result.wilcoxon_p is None
    assert (result.correlation is None) == (case != "negative")


def test_hedges_g_of_unequal_groups():
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 4.0, 9.0])
    result = compare(a, b)
    pooled = math.sqrt((np.sum((a - 2.5) ** 2) + np.sum((b - 5.0) ** 2)) / 5)
    correction = math.gamma(5 / 2) / (math.sqrt(5 / 2) * math.gamma(4 / 2))
    assert result.effect_name == "Hedges' g"
    assert result.effect == pytest.approx(-2.5 / pooled * correction)


def test_cliffs_delta_counts_pairs_of_runs():
    assert compare([1, 2, 3], [0, 0]).cliffs_delta == 1.0
    # Of 9 pairs 1 is above, 5 below, 3 are ties.
    assert compare([1, 2, INF], [2, 3, INF], False).cliffs_delta == pytest.approx((2 - 5) / 9)


def test_exchanging_the_groups_turns_signs_only():
    for pairing in (True, False):
        one, two = compare(DRUG_1, DRUG_2, pairing), compare(DRUG_2, DRUG_1, pairing)
        for name in ("difference", "statistic", "effect", "cliffs_delta"):
            assert getattr(one, name) == pytest.approx(-getattr(two, name))
        assert (one.low, one.high) == pytest.approx((-two.high, -two.low))
        assert (one.p, one.wilcoxon_p) == (two.p, two.wilcoxon_p)


@pytest.mark.parametrize("pairing", [True, False])
def test_difference_of_large_groups_is_bootstrapped(pairing):
    base = normal(4, 30)
    a, b = base + 0.3 * normal(5, 30) + 1.0, base
    result = compare(a, b, pairing)
    error = stats.sem(a - b) if pairing else math.hypot(stats.sem(a), stats.sem(b))
    np.testing.assert_allclose((result.low, result.high), result.difference + np.array([-1.96, 1.96]) * error, rtol=0.2)
    assert result.difference == pytest.approx(np.mean(a - b))
    assert result == compare(a, b, pairing)


@pytest.mark.parametrize(
    ("count", "family", "given"), [(5, 1, 0), (6, 1, 1), (6, 2, 0), (7, 3, 1), (10, 25, 1), (10, 26, 0)]
)
def test_wilcoxon_is_given_where_it_could_be_small(count, family, given):
    base = np.arange(count, dtype=float)
    result = compare(base + 1.0 + 0.01 * base, base, family=family)
    assert result.test == "paired t"
    assert result.wilcoxon_p == (pytest.approx(2 / 2**count) if given else None)


def test_wilcoxon_needs_differences_that_are_not_zero():
    b = np.arange(8.0)
    a = b + np.array([0.5, 0.7, 0.0, 0.6, 0.9, 0.0, 0.8, 0.0])
    assert compare(a, b).wilcoxon_p is None
    a[2] += 0.4
    assert compare(a, b).wilcoxon_p == pytest.approx(2 / 2**6)


def test_two_pairs_tell_no_correlation():
    result = compare([1.0, 2.0], [1.5, 2.6])
    assert result.correlation is None
    assert result.test == "Welch t"


def test_a_single_run_a_group_has_a_difference_and_no_test():
    for other in ([1.0], [1.0, 2.0]):
        result = compare([3.0], other)
        assert result.difference == 3.0 - np.mean(other)
        assert (result.p, result.statistic, result.effect, result.wilcoxon_p) == (None,) * 4
        assert math.isnan(result.low)
        assert math.isnan(result.high)


@pytest.mark.parametrize("count", [4, 10, 25])
@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_differences_without_spread_have_no_p_value(count, shift):
    b = normal(6, count)
    result = compare(b + shift, b)  # the sums round differently
    assert (result.p, result.statistic, result.effect) == (None,) * 3
    assert result.difference == pytest.approx(shift, abs=1e-15)
    assert result.low == result.high == result.difference
    constant = compare([shift] * count, [0.0] * count)
    assert (constant.test, constant.p, constant.effect) == ("Welch t", None, None)
    assert constant.low == constant.high == constant.difference == shift


def test_one_constant_group_is_compared():
    result = compare([1.0] * 5, [1.0, 2.0, 3.0, 2.0, 2.5])
    want = stats.ttest_1samp([1.0, 2.0, 3.0, 2.0, 2.5], 1.0)
    assert (result.test, result.correlation) == ("Welch t", None)
    assert result.p == pytest.approx(want.pvalue)


# Runs that never got there.


def test_infinite_values_in_correlated_groups_are_signed():
    b = np.array([10.0, 20, 30, 40, 50, 60, 70, 80])
    a = b + 5.0
    a[7] = INF
    result = compare(a, b)
    assert (result.test, result.statistic) == ("sign", 8.0)
    assert result.p == pytest.approx(2 / 2**8)
    assert result.correlation == pytest.approx(1.0)
    assert np.isnan([result.difference, result.low, result.high]).all()
    assert (result.effect, result.wilcoxon_p) == (None, None)
    assert (result.median_a, result.median_b) == (50.0, 45.0)
    # Both infinite: neither is better. Six pairs at most could be told apart then.
    b[6:] = a[6:] = INF
    assert compare(a, b).p == pytest.approx(2 / 2**6)
    assert compare(a, b, family=2).p is None


def test_infinite_values_in_other_groups_are_ranked():
    a, b = [5.0, 6.0, 9.0, 7.0, INF, INF], [3.0, 8.0, 1.0, 2.0, 4.0]
    result = compare(a, b)
    # Brute force over all 462 arrangements of the ranks, ties included.
    ranks = stats.rankdata([*a, *b])
    want = stats.permutation_test(
        (ranks[:6], ranks[6:]), lambda x, y, axis: np.sum(x, axis=axis), n_resamples=INF, vectorized=True
    )
    assert (result.test, result.statistic) == ("Mann-Whitney", 27.0)
    assert result.p == pytest.approx(want.pvalue)
    assert math.isnan(result.difference)
    assert (result.median_a, result.median_b) == (8.0, 3.0)


def test_ranks_of_many_runs():
    a, b = np.append(normal(7, 14), INF), normal(8, 15) - 1.0
    want = stats.mannwhitneyu(np.where(a == INF, 1e9, a), b)
    result = compare(a, b, False)
    assert (result.statistic, result.p) == (want.statistic, pytest.approx(want.pvalue))


@pytest.mark.parametrize(("count", "given"), [(3, False), (4, True)])
def test_mann_whitney_is_given_where_it_could_be_small(count, given):
    result = compare([INF] * count, np.arange(float(count)))  # 2 / C(6, 3) = 0.1, 2 / C(8, 4) = 0.029
    assert result.test == "Mann-Whitney"
    assert result.p == (pytest.approx(2 / math.comb(2 * count, count)) if given else None)
    assert (result.median_a, result.cliffs_delta) == (INF, 1.0)


def test_groups_that_never_got_there_have_no_p_value():
    result = compare([INF] * 10, [INF] * 10)
    assert (result.p, result.cliffs_delta, result.median_a, result.median_b) == (None, 0.0, INF, INF)


def test_tests_reject_as_often_as_they_say_when_nothing_differs():
    shared, a, b = normal(9, 3, 800, 10)
    p = np.array([compare(x, y).p for x, y in zip(shared + a, shared + b, strict=True)])
    assert abs(np.mean(p < 0.05) - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 800)


def test_pairing_tells_what_welch_cannot():
    shared = 3.0 * normal(10, 10)
    a, b = shared + 0.3 * normal(11, 10) + 0.5, shared
    assert compare(a, b).p < 0.01
    assert compare(a, b, paired_by_seed=False).p > 0.3


@pytest.mark.parametrize("values", [[], [[1.0]], [1.0, math.nan]])
def test_values_that_cannot_be_used_are_refused(values):
    for groups in ((values, [1.0]), ([1.0], values)):
        with pytest.raises(UserError, match=r"expected one number a run|is NaN"):
            compare(*groups)


def test_levels_and_families_out_of_range_are_refused():
    with pytest.raises(UserError, match="expected a number between 0 and 1"):
        compare(DRUG_1, DRUG_2, level=95)
    with pytest.raises(UserError, match="family is 0"):
        compare(DRUG_1, DRUG_2, family=0)


def test_a_comparison_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        compare(DRUG_1, DRUG_2).p = 0.01
