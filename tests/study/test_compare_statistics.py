"""What a comparison says of runs: tests against SciPy, verdicts, and how often it is wrong where nothing differs."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from edl_jax.study.compare import CompareConfig
from edl_jax.study.compare.statistics import METRICS, Group, make_table, verdict

LOSSES = ("cross_entropy", "edl", "poly1:epsilon=2", "gce")
CONFIG = CompareConfig(losses=LOSSES, seeds=tuple(range(10)))
ACCURACY = METRICS[0]


def group(loss, accuracies, *, mode="drop-in", noise=0.0, diverged=0, revisions=("a",), seeds=None, **others):
    seeds = range(len(accuracies)) if seeds is None else seeds
    results = {}
    for i, (seed, accuracy) in enumerate(zip(seeds, accuracies, strict=True)):
        results[seed] = {"test_accuracy": accuracy, **{key: values[i] for key, values in others.items()}}
    return Group(mode, "mlp", "digits", noise, loss, results, diverged, 0, 0.1, revisions)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def table(*groups, config=CONFIG, metric="accuracy"):
    return {(row.loss, row.mode, row.label_noise): row for row in make_table(config, groups) if row.metric == metric}


def test_a_row_has_the_numbers_of_scipy():
    base = 0.77 + 0.005 * normal(0, 10)
    other = base + 0.004 * normal(1, 10) + 0.003
    row = table(group("cross_entropy", base), group("edl", other))["edl", "drop-in", 0.0]
    want = stats.ttest_rel(other, base)
    np.testing.assert_allclose((row.t, row.p, row.p_holm), (want.statistic, want.pvalue, want.pvalue))
    np.testing.assert_allclose((row.difference_low, row.difference_high), want.confidence_interval(0.95))
    low, high = stats.t.interval(0.95, 9, np.mean(other), stats.sem(other))
    np.testing.assert_allclose(
        (row.mean, row.low, row.high, row.sd), (np.mean(other), low, high, np.std(other, ddof=1))
    )
    assert row.correlation == pytest.approx(np.corrcoef(base, other)[0, 1])
    assert row.wilcoxon_p == pytest.approx(stats.wilcoxon(other - base).pvalue)
    pooled = math.sqrt((np.var(base, ddof=1) + np.var(other, ddof=1)) / 2)
    correction = math.gamma(9) / (math.sqrt(9) * math.gamma(8.5))
    assert row.hedges_g == pytest.approx(correction * np.mean(other - base) / pooled)
    assert row.margin == pytest.approx(0.003)
    inside = stats.ttest_1samp(other - base, 0.003, alternative="less").pvalue
    above = stats.ttest_1samp(other - base, -0.003, alternative="greater").pvalue
    assert row.tost_p == pytest.approx(max(inside, above))


def test_runs_are_paired_by_seed_whatever_their_order_and_what_one_lacks_is_left_out():
    base = group("cross_entropy", [0.1, 0.2, 0.3, 0.4], seeds=[3, 1, 2, 0])
    row = table(base, group("edl", [0.5, 0.31, 0.42], seeds=[0, 2, 3]))["edl", "drop-in", 0.0]
    want = stats.ttest_rel([0.5, 0.31, 0.42], [0.4, 0.3, 0.1])
    assert (row.n, row.pairs) == (3, 3)
    np.testing.assert_allclose((row.t, row.p), (want.statistic, want.pvalue))


def test_holm_is_over_all_settings_modes_and_losses_of_a_metric():
    groups = []
    for i, (mode, noise) in enumerate([("drop-in", 0.0), ("drop-in", 0.4), ("tuned", 0.0)]):
        base = 0.7 + 0.01 * normal(i, 10)
        groups += [
            group(loss, base + 0.01 * normal(10 * i + j, 10) + 0.004 * j, mode=mode, noise=noise)
            for j, loss in enumerate(LOSSES)
        ]
    rows = [row for row in make_table(CONFIG, groups) if not row.is_baseline]
    p = sorted(row.p for row in rows)
    assert len(p) == 9
    smallest = min(rows, key=lambda row: row.p)
    assert smallest.p_holm == pytest.approx(9 * smallest.p)
    # By hand: the running maximum of (9 - rank) p.
    want = np.minimum(np.maximum.accumulate([(9 - rank) * each for rank, each in enumerate(p)]), 1.0)
    np.testing.assert_allclose(sorted(row.p_holm for row in rows), want)


@pytest.mark.parametrize(
    ("shift", "spread", "metric", "expected"),
    [
        (0.02, 0.004, "accuracy", "better"),
        (-0.02, 0.004, "accuracy", "worse"),
        (0.0005, 0.001, "accuracy", "level"),
        (0.0015, 0.0008, "accuracy", "level"),  # surely above, and surely by less than matters
        (0.002, 0.02, "accuracy", "open"),
        (0.02, 0.004, "nll", "worse"),
        (-0.02, 0.004, "nll", "better"),
        (-0.001, 0.002, "nll", "level"),
    ],
)
def test_verdicts(shift, spread, metric, expected):
    base = 0.5 + 0.01 * normal(2, 10)
    noise = normal(3, 10)
    other = base + shift + spread * (noise - noise.mean())
    key = next(found.key for found in METRICS if found.name == metric)
    rows = table(group("cross_entropy", base, **{key: base}), group("edl", other, **{key: other}), metric=metric)
    assert rows["edl", "drop-in", 0.0].verdict == expected


def test_level_has_to_survive_holm_as_well():
    base = 0.5 + 0.01 * normal(2, 10)
    near = base + 0.0045 * normal(5, 10)
    alone = table(group("cross_entropy", base), group("edl", near))["edl", "drop-in", 0.0]
    assert alone.verdict == "level"
    assert 0.05 / 3 < alone.tost_p < 0.05
    far = [group(loss, base + 0.05 * normal(6, 10)) for loss in LOSSES[2:]]
    among = table(group("cross_entropy", base), group("edl", near), *far)["edl", "drop-in", 0.0]
    assert (among.tost_p, among.tost_p_holm) == pytest.approx((alone.tost_p, 3 * alone.tost_p))
    assert among.verdict == "open"


def test_runs_that_diverged_leave_no_verdict():
    base = 0.5 + 0.01 * normal(2, 10)
    better = base + 0.1 + 0.001 * normal(3, 10)
    row = table(group("cross_entropy", base), group("edl", better, diverged=1))["edl", "drop-in", 0.0]
    assert (row.verdict, row.diverged) == ("diverged", 1)
    row = table(group("cross_entropy", base, diverged=2), group("edl", better))["edl", "drop-in", 0.0]
    assert row.verdict == "diverged"


def test_revisions_of_both_losses_count():
    base = [0.5, 0.51, 0.53]
    rows = table(group("cross_entropy", base, revisions=("a",)), group("edl", base, revisions=("b",)))
    assert {loss: row.revisions for (loss, *_), row in rows.items()} == {"cross_entropy": 1, "edl": 2}


def test_single_runs_and_absent_baselines_are_open():
    rows = table(group("cross_entropy", [0.5]), group("edl", [0.6]), group("gce", [0.6], noise=0.4))
    row = rows["edl", "drop-in", 0.0]
    assert (row.verdict, row.p, row.seeds_needed, row.low) == ("open", None, None, None)
    assert row.difference == pytest.approx(0.1)
    assert (rows["gce", "drop-in", 0.4].difference, rows["gce", "drop-in", 0.4].verdict) == (None, "open")


def test_equal_runs_are_level():
    base = [0.5, 0.51, 0.53]
    row = table(group("cross_entropy", base), group("edl", base))["edl", "drop-in", 0.0]
    assert (row.verdict, row.p, row.tost_p) == ("level", None, 0.0)


def test_seeds_needed_are_of_the_spread_of_the_differences():
    base = 0.5 + 0.05 * normal(2, 10)
    noise = normal(3, 10)
    other = base + 0.004 * (noise - noise.mean()) / np.std(noise, ddof=1)
    row = table(group("cross_entropy", base), group("edl", other))["edl", "drop-in", 0.0]
    assert row.seeds_needed == 34  # an effect of 0.2 / 0.4 points
    wider = dataclasses.replace(CONFIG, detect=0.8)
    row = table(group("cross_entropy", base), group("edl", other), config=wider)["edl", "drop-in", 0.0]
    assert row.seeds_needed == 5  # 2.0, as G*Power


def test_level_goes_before_better():
    row = dataclasses.replace(
        table(group("cross_entropy", [0.5, 0.51, 0.52]), group("edl", [0.5, 0.52, 0.53]))["edl", "drop-in", 0.0],
        p_holm=0.01,
        tost_p_holm=0.01,
    )
    assert verdict(row, 1) == "level"


@pytest.mark.parametrize("shared", [0.0, pytest.param(1.0, marks=pytest.mark.slow)])
def test_one_loss_under_two_names_is_told_from_itself_in_5_percent(shared):
    """Before Holm by comparison, after it by table; level and open are no false alarms."""
    rng = np.random.default_rng(1)
    alarms, tables, said = [], [], []
    for _ in range(1000):
        common = shared * rng.normal(size=5)
        runs = [0.7 + 0.02 * (common + rng.normal(size=5)) for _ in range(3)]
        rows = make_table(CONFIG, [group(loss, values) for loss, values in zip(LOSSES, runs, strict=False)])[1:]
        alarms += [row.p < 0.05 for row in rows]
        tables.append(min(row.p_holm for row in rows) < 0.05)
        said.append(any(row.verdict in ("better", "worse") for row in rows))
    assert abs(np.mean(alarms) - 0.05) < 0.015
    assert abs(np.mean(tables) - 0.05) < 0.015
    assert np.mean(said) <= np.mean(tables)
