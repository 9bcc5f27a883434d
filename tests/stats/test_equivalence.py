"""Equivalence tests and numbers of runs, against what R and G*Power print."""

import math

import numpy as np
import pytest
from scipy import stats

from edl_jax.core.errors import UserError
from edl_jax.stats.comparison import compare, hedges_g
from edl_jax.stats.equivalence import power, runs_needed, tost
from edl_jax.stats.intervals import holm

# Student's sleep data: extra hours under two drugs, ten patients.
DRUG_1 = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
DRUG_2 = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_tost_is_the_90_percent_interval_within_the_margin():
    d = DRUG_1 - DRUG_2
    low, high = stats.ttest_rel(DRUG_1, DRUG_2).confidence_interval(0.9)
    assert tost(d, 1.001 * max(-low, high)) < 0.05 < tost(d, 0.999 * max(-low, high))
    above = stats.ttest_1samp(d, -3.0, alternative="greater").pvalue
    below = stats.ttest_1samp(d, 3.0, alternative="less").pvalue
    assert tost(d, 3.0) == pytest.approx(max(above, below))
    assert tost(d, 0.1) > 0.9  # the mean lies outside
    assert tost(-d, 3.0) == pytest.approx(tost(d, 3.0))


def test_tost_without_spread_or_with_runs_that_never_got_there():
    assert tost([0.1] * 4, 0.2) == 0.0
    assert tost([0.3] * 4, 0.2) == 1.0
    assert tost([0.1, math.inf, 0.2], 1.0) is None
    assert tost([0.1], 1.0) is None
    with pytest.raises(UserError, match="margin is 0"):
        tost([0.1, 0.2], 0.0)


@pytest.mark.parametrize(
    ("effect", "goal", "level", "runs"),
    [
        # G*Power's "difference between two dependent means"; R: power.t.test(type = "paired") gives 33.36713, ...
        (0.5, 0.8, 0.95, 34),
        (0.8, 0.8, 0.95, 15),
        (0.2, 0.8, 0.95, 199),
        (0.5, 0.95, 0.95, 54),
        (0.5, 0.8, 0.99, 51),
    ],
)
def test_runs_needed_are_those_of_the_tables(effect, goal, level, runs):
    assert runs_needed(effect, 1.0, goal=goal, level=level) == runs
    assert runs_needed(-0.3 * effect, 0.3, goal=goal, level=level) == runs
    assert power(runs, effect, 1.0, level) >= goal > power(runs - 1, effect, 1.0, level)


def test_runs_needed_at_the_ends():
    assert runs_needed(1.0, 0.0) == 2
    assert runs_needed(1e-6, 1.0) is None
    with pytest.raises(UserError, match="difference is 0"):
        runs_needed(0.0, 1.0)


def test_hedges_g_is_that_of_independent_groups_whatever_the_pairing():
    assert hedges_g(DRUG_1, DRUG_2) == pytest.approx(compare(DRUG_1, DRUG_2, paired_by_seed=False).effect)
    assert compare(DRUG_1, DRUG_2).effect_name == "Cohen's d_z"
    assert hedges_g([1.0, 1.0], [1.0, 1.0]) is None
    assert hedges_g([1.0, math.inf], [1.0, 2.0]) is None
    assert hedges_g([1.0], [1.0, 2.0]) is None


def test_pairing_that_was_named_beforehand_does_not_look_at_the_correlation():
    result = compare(DRUG_1, -DRUG_2, by_correlation=False)
    want = stats.ttest_rel(DRUG_1, -DRUG_2)
    assert result.test == "paired t"
    assert result.correlation < 0
    np.testing.assert_allclose((result.statistic, result.p), (want.statistic, want.pvalue))
    assert compare([1.0, 2.0], [1.5, 2.6], by_correlation=False).test == "paired t"
    assert compare([1.0, 2.0], [1.5], by_correlation=False).test == "Welch t"


def test_holm_against_r():
    # R: p.adjust(c(.01, .04, .03, .005), "holm")
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005, "e": None})
    assert [found[name] for name in "abcde"] == [0.03, 0.06, 0.06, pytest.approx(0.02), None]
