"""Correlations of pretraining numbers with accuracy, on artifacts made by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from edl_jax.stats import intervals
from edl_jax.study.correlate import correlation, report
from edl_jax.study.correlate.correlation import Measured
from edl_jax.study.stages.networks import Chance, Outcome, Trained

CHANCE = Chance(0.9, 5000)
COUNT = 24


def measured(values, families=("evolved",)):
    """Return artifacts whose numbers are given: key -> values."""
    return [
        Measured(f"a{i}", families[i % len(families)], "", "", 1.0, {key: float(x[i]) for key, x in values.items()})
        for i in range(COUNT)
    ]


def network(*errors, name="net"):
    return Trained(name, f"{name}:steps=1", CHANCE, 1.0, tuple(Outcome(e, np.ones(COUNT, bool)) for e in errors))


def find(rows, **wanted):
    (row,) = [row for row in rows if all(getattr(row, key) == value for key, value in wanted.items())]
    return row


def test_positive_is_the_expected_direction():
    """Each number predicts perfectly: F / F* falls with accuracy, ranking accuracy rises."""
    quality = np.random.default_rng(0).permutation(COUNT) / COUNT
    perfect = {"fitness_ratio": 2.0 - quality, "wrong_way_share": -quality, "ranking_accuracy": quality}
    rows = correlation.measure(measured(perfect), [network(0.6 - 0.5 * quality)])
    values = [row.estimate.value for row in rows if row.number in perfect]
    assert values == pytest.approx([1.0] * len(values))
    assert max(row.p_holm for row in rows if row.p_holm is not None) < 0.001


def test_correlations_are_scipys_and_failures_share_the_last_rank():
    rng = np.random.default_rng(1)
    ratio, error = 1.0 + rng.exponential(size=COUNT), rng.uniform(0.2, 0.7, COUNT)
    error[:4] = [0.9, math.inf, 0.899, 0.95]
    rows = correlation.measure(measured({"fitness_ratio": ratio}), [network(error)])
    last = np.where(np.arange(COUNT) < 4, 1.0, error)
    for subset, chosen in (("all", slice(None)), ("trained", slice(4, None))):
        found = find(rows, number="fitness_ratio", subset=subset, measure="spearman")
        expected = stats.spearmanr(-ratio[chosen], -last[chosen])
        assert found.estimate.value == pytest.approx(expected.statistic)
        assert found.p == pytest.approx(expected.pvalue)
        assert found.p_holm == found.p  # the other numbers are not known
        assert found.estimate.low < found.estimate.value < found.estimate.high
        found = find(rows, number="fitness_ratio", subset=subset, measure="kendall")
        assert found.estimate.value == pytest.approx(stats.kendalltau(-ratio[chosen], -last[chosen]).statistic)
    assert math.isnan(find(rows, number="mean_pull", subset="all", measure="spearman").estimate.value)


def test_families_alone():
    """Accuracy falls with the number in each family, and rises from one family to the other (Simpson's paradox)."""
    i = np.arange(COUNT)
    group, place = i % 2, i // 2
    values = {"ranking_accuracy": 10.0 * group + place / 12}
    error = 0.7 - 0.4 * group + 0.1 * place / 12
    rows = correlation.measure(measured(values, ("evolved", "formula")), [network(error)])
    find_value = {row.subset: row.estimate.value for row in rows if row.p is not None}
    assert find_value["all"] > 0.4
    assert find_value["evolved"] == find_value["formula"] == pytest.approx(-1.0)
    assert {"evolved, trained", "formula, trained"} < find_value.keys()
    few = correlation.measure(measured(values, ("evolved", "evolved", "evolved", "found")), [network(error)])
    assert "found" not in {row.subset for row in few}  # 6 of them


def test_several_seeds_are_a_mean_and_one_failure_is_one():
    rng = np.random.default_rng(2)
    first, second = rng.uniform(0.2, 0.6, (2, COUNT))
    second[3] = 0.9
    trained = network(first, second)
    errors = correlation.errors_of(trained)
    assert errors[3] == math.inf
    np.testing.assert_allclose(np.delete(errors, 3), np.delete(0.5 * (first + second), 3))
    assert correlation.accuracies_of(trained)[3] == pytest.approx(1.0 - 0.5 * (first[3] + 0.9))
    last = np.where(np.arange(COUNT) == 3, 1.0, second)
    assert correlation.reliability(trained) == pytest.approx(stats.spearmanr(first, last).statistic)
    assert correlation.reliability(network(first)) is None


def test_holm_is_over_numbers_and_networks_of_a_subset():
    rng = np.random.default_rng(3)
    values = {key: rng.normal(size=COUNT) for key in ("fitness_ratio", "mean_pull")}
    nets = [network(rng.uniform(0.2, 0.7, COUNT), name=name) for name in ("a", "b")]
    rows = correlation.measure(measured(values), nets)
    chosen = [row for row in rows if row.subset == "all" and row.p is not None]
    assert len(chosen) == 4
    expected = intervals.holm({f"{row.network} {row.number}": row.p for row in chosen})
    assert {f"{row.network} {row.number}": row.p_holm for row in chosen} == expected


def test_what_a_person_is_told_names_fitness_and_the_best():
    quality = np.arange(COUNT) / COUNT
    rng = np.random.default_rng(4)
    values = {"fitness_ratio": rng.normal(size=COUNT), **{f"pull_{p}": quality for p in ("01", "50", "99")}}
    trained = [network(0.6 - 0.5 * quality)]
    made = measured(values)
    (line,) = report.summary_lines(report.result_of(made, [], trained, correlation.measure(made, trained)))
    assert line.startswith("net, Spearman over 24 artifacts: pull at p_t = 0.01 1.00 (1.00 to 1.00), ")
    assert ", F / F* " in line
