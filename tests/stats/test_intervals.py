import math

import numpy as np
import pytest
from scipy import stats

from edl_jax.core.errors import UserError
from edl_jax.stats import intervals as st

INF = math.inf


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def same_interval(got, want, **tolerance):
    np.testing.assert_allclose(got, want, rtol=1e-12, **tolerance)


# Intervals.


def test_interval_of_few_values_is_students():
    # By hand: mean 3, standard deviation sqrt(2.5), t(0.975, 4) = 2.7764451052.
    half = 2.7764451051977987 * math.sqrt(2.5 / 5)
    same_interval(st.interval([1, 2, 3, 4, 5]), (3.0, 3.0 - half, 3.0 + half))
    x = normal(0, 19)
    for level in (0.5, 0.95, 0.99):
        want = stats.t.interval(level, 18, np.mean(x), stats.sem(x))
        same_interval(st.interval(x, level), (np.mean(x), *want))


def test_interval_of_many_values_is_a_repeatable_bootstrap():
    x = np.random.default_rng(0).exponential(size=st.BOOTSTRAP_FROM)
    got = st.interval(x)
    assert got == st.interval(x)
    # BCa by its formula (Efron and Tibshirani 1993, 14.3), with other resamples and more of them.
    means = np.mean(np.random.default_rng(1).choice(x, size=(100_000, len(x))), axis=1)
    jackknife = (np.sum(x) - x) / (len(x) - 1)
    lean = np.mean(jackknife) - jackknife
    acceleration = np.sum(lean**3) / (6.0 * np.sum(lean**2) ** 1.5)
    bias = stats.norm.ppf(np.mean(means < np.mean(x)))
    z = bias + stats.norm.ppf([0.025, 0.975])
    want = np.quantile(means, stats.norm.cdf(bias + z / (1.0 - acceleration * z)))
    assert got.mean == np.mean(x)
    np.testing.assert_allclose(got[1:], want, atol=0.06 * stats.sem(x))


@pytest.mark.parametrize("count", [2, 10, 20, 30])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e9])
def test_equal_values_have_an_interval_of_no_width(count, value):
    assert st.interval([value] * count) == (value, value, value)


def test_a_single_value_has_no_interval():
    mean, low, high = st.interval([2.5])
    assert mean == 2.5
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("count", [3, 25])
def test_no_mean_is_claimed_of_infinite_values(count):
    assert np.all(np.isnan(st.interval([INF, *range(count)])))


def test_t_interval_covers_what_it_says():
    x = normal(1, 4000, 5)
    hits = np.mean([low <= 0.0 <= high for _, low, high in map(st.interval, x)])
    assert abs(hits - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_bootstrap_interval_covers_almost_what_it_says():
    x = normal(2, 400, 20)
    assert 0.90 < np.mean([low <= 0.0 <= high for _, low, high in map(st.interval, x)]) < 0.96


def test_median_interval_lies_between_order_statistics():
    # Coverage of [x_(2), x_(9)] of ten values: 1 - 22/1024 = 0.979; of [x_(3), x_(8)]: 0.891.
    assert st.median_interval([3, 1, 2, 5, 4, 8, 7, 6, 10, 9]) == (5.5, 2.0, 9.0)
    assert st.median_interval([3, 1, 2, 5, 4, 8, 7, 6, 10, 9], 0.89) == (5.5, 3.0, 8.0)


def test_median_interval_holds_runs_that_never_got_there():
    assert st.median_interval([1, 2, 3, 4, 5, INF]) == (3.5, 1.0, INF)
    assert st.median_interval([1, INF, INF, INF, INF, INF]) == (INF, 1.0, INF)
    median, low, high = st.median_interval([1, 2, 3, 4, INF])  # 2 / 2^5 > 0.05
    assert median == 3.0
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("count", [1, 2, 10, 40])
def test_band_is_the_interval_at_every_point(count):
    values = normal(3, count, 4) * [1.0, 5.0, 0.0, 1.0] + 2.0
    values[0, 3] = INF
    mean, low, high = st.band(values)
    want = np.array([st.interval(values[:, i]) for i in range(4)]).T
    assert np.isnan([mean[3], low[3], high[3]]).all()
    np.testing.assert_allclose(mean[:3], want[0, :3])
    # From 20 on the two bootstraps differ a little: percentile against BCa.
    room = 0.0 if count < st.BOOTSTRAP_FROM else 0.25 * stats.sem(values[:, :3])
    assert np.all(np.abs(low - want[1])[:3] <= room + 1e-12) or count == 1
    assert np.all(np.abs(high - want[2])[:3] <= room + 1e-12) or count == 1
    assert np.isnan(low[0]) == (count == 1)


# Holm.


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04, times 4 3 2 1, never below the one before.
    got = st.holm({"a": 0.01, "b": 0.04, "none": None, "c": 0.03, "d": 0.005})
    assert list(got) == ["a", "b", "none", "c", "d"]
    assert got.pop("none") is None
    assert got == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_holm_stays_below_one_and_keeps_a_family_of_one():
    assert st.holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert st.holm({"a": 0.04, "b": None}) == {"a": 0.04, "b": None}
    assert st.holm({}) == {}


# Bad input.


@pytest.mark.parametrize("function", [st.interval, st.median_interval])
@pytest.mark.parametrize(
    ("values", "message"),
    [([], "expected one number a run"), ([[1.0]], r"shape \(1, 1\)"), ([1.0, math.nan], "is NaN")],
)
def test_values_that_cannot_be_used_are_refused(function, values, message):
    with pytest.raises(UserError, match=message):
        function(values)


@pytest.mark.parametrize("level", [0.0, 1.0, 95, math.nan])
def test_levels_outside_0_and_1_are_refused(level):
    with pytest.raises(UserError, match="expected a number between 0 and 1"):
        st.interval([1.0, 2.0], level)


def test_p_values_out_of_range_are_refused():
    for p in (-0.1, 1.1, math.nan):
        with pytest.raises(UserError, match="p-value of noise is"):
            st.holm({"noise": p})
