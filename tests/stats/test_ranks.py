"""Rank correlations, recall and regret with bootstrap intervals: against SciPy, and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from edl_jax.core.errors import UserError
from edl_jax.stats import ranks

INF = math.inf
COEFFICIENTS = {"spearman": (ranks.spearman, stats.spearmanr), "kendall": (ranks.kendall, stats.kendalltau)}


def measures(seed, count, ties):
    """Return two measures of `count` things that agree a little, with ties and with failures in both."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=count)
    y = x + rng.normal(size=count)
    if ties:
        x, y = x.round(), y.round()
        x[: count // 5], y[count // 10 : count // 4] = INF, INF
    return x, y


@pytest.mark.parametrize("name", COEFFICIENTS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [3, 20, 101])
def test_a_coefficient_is_scipys(name, ties, count):
    ours, theirs = COEFFICIENTS[name]
    x, y = measures(count, count, ties)
    assert ours(x, y).value == pytest.approx(theirs(stats.rankdata(x), stats.rankdata(y)).statistic, abs=1e-12)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_a_resample_is_scipys_of_the_things_drawn(name, monkeypatch):
    """What a bootstrap does to weights, SciPy does to things that are there several times; ties come from both."""
    ours, theirs = COEFFICIENTS[name]
    x, y = measures(0, 30, True)
    weights = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=8).astype(float)
    found = []
    monkeypatch.setattr(ranks, "bootstrap", lambda statistic, count, level: found.extend(statistic(weights)))
    ours(x, y)
    for value, row in zip(found, weights, strict=True):
        drawn = np.repeat(np.arange(30), row.astype(int))
        assert value == pytest.approx(theirs(stats.rankdata(x[drawn]), stats.rankdata(y[drawn])).statistic, abs=1e-12)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_an_interval_is_that_of_scipys_bootstrap(name):
    ours, theirs = COEFFICIENTS[name]
    x, y = measures(2, 40, False)
    estimate = ours(x, y)
    expected = stats.bootstrap(
        (x, y), lambda a, b: theirs(a, b).statistic, n_resamples=299, paired=True, vectorized=False, method="percentile"
    ).confidence_interval
    assert (estimate.low, estimate.high) == pytest.approx(expected, abs=0.06)
    assert estimate == ours(x, y)  # resamples are fixed


def test_an_interval_covers_what_is_true(monkeypatch):
    """A normal law's coefficients are known: 95 % intervals of 200 samples of 40 miss some 20 of 400."""
    monkeypatch.setattr(ranks, "RESAMPLES", 499)
    rng, rho, missed = np.random.default_rng(3), 0.6, 0
    truth = {"spearman": 6 / np.pi * np.arcsin(rho / 2), "kendall": 2 / np.pi * np.arcsin(rho)}
    for _ in range(200):
        x, noise = rng.normal(size=(2, 40))
        for name, (ours, _) in COEFFICIENTS.items():
            estimate = ours(x, rho * x + math.sqrt(1 - rho**2) * noise)
            missed += not estimate.low <= truth[name] <= estimate.high
    assert 8 <= missed <= 32


def test_intervals_of_batches_are_those_of_one(monkeypatch):
    x, y = measures(4, 50, True)
    whole = ranks.spearman(x, y)
    monkeypatch.setattr(ranks, "_BATCH", 50 * 700)
    assert ranks.spearman(x, y) == pytest.approx(whole)


def test_what_has_no_coefficient_has_no_interval():
    for x, y in (([1.0, 2.0], [1.0, 2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([INF] * 4, [1.0, 2.0, 3.0, 4.0])):
        assert np.isnan(ranks.spearman(x, y)).all()
        assert np.isnan(ranks.kendall(x, y)).all()


def test_measures_of_other_things_are_refused():
    with pytest.raises(UserError, match="3 and 2 values, expected two measures of the same things"):
        ranks.spearman([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(UserError, match="a value is NaN"):
        ranks.kendall([1.0, math.nan, 3.0], [1.0, 2.0, 3.0])


def test_of_equal_things_each_is_in_part_among_the_best():
    values = np.array([0.1, 0.3, 0.3, 0.3, INF, INF])
    shares = {best: ranks.among_best(values, best)(np.ones((1, 6)))[0].tolist() for best in (1, 2, 4, 5)}
    third = pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert shares == {1: [1, 0, 0, 0, 0, 0], 2: third, 4: [1, 1, 1, 1, 0, 0], 5: [1, 1, 1, 1, 0.5, 0.5]}
    # Drawn twice, the first takes both places.
    assert ranks.among_best(values, 2)(np.array([[2.0, 1, 1, 1, 1, 0]]))[0].tolist() == [1, 0, 0, 0, 0, 0]


def test_recall_counts_the_best_that_are_found():
    reference = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    other = np.array([5.0, 1, 8, 2, 7, 6, 3, 4])
    assert ranks.bootstrap(ranks.recall(reference, other, 2, 4), 8).value == 0.5  # 2 of them, 1 not
    assert ranks.bootstrap(ranks.recall(reference, reference, 2, 2), 8) == (1.0, 1.0, 1.0)
    failed = np.array([1.0, INF, INF, INF, INF, INF, INF, INF])  # the second best is found by chance alone
    assert ranks.bootstrap(ranks.recall(reference, failed, 2, 4), 8).value == pytest.approx(0.5 * (1 + 3 / 7))


def test_regret_is_what_the_choice_costs():
    reference, other = np.array([0.3, 0.2, 0.5, 0.9]), np.array([0.1, 0.4, 0.1, INF])
    ones = np.ones((1, 4))
    assert ranks.regret(reference, other)(ones)[0] == pytest.approx(0.4 - 0.2)  # the mean of two that are equally good
    assert ranks.regret(reference, other, 2)(ones)[0] == pytest.approx(0.3 - 0.2)
    assert ranks.regret(reference, other, 3)(ones)[0] == 0.0
    assert ranks.regret(reference, other)(np.array([[0.0, 0, 1, 3]]))[0] == 0.0  # of those drawn it is the best
