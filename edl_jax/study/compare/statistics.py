"""Every loss against the baseline, in every setting: differences, tests, effects, verdicts."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edl_jax.stats import intervals
from edl_jax.stats.comparison import compare, hedges_g
from edl_jax.stats.equivalence import runs_needed, tost
from edl_jax.study.compare.config import CompareConfig

BETTER, WORSE, LEVEL, OPEN, HAS_DIVERGED = "better", "worse", "level", "open", "diverged"
_SIZE = 0.05


class Metric(NamedTuple):
    """What is compared.

    Attributes:
      name: of tables and files.
      title: what figures call it.
      key: in result.json of a cell.
      sign: 1 where more is better, -1 where less is.
      in_points: whether it is a share, shown in hundredths.
    """

    name: str
    title: str
    key: str
    sign: int
    in_points: bool

    @property
    def unit(self) -> float:
        """Return the factor from what is stored to what is shown."""
        return 100.0 if self.in_points else 1.0

    def margin(self, config: CompareConfig) -> float:
        """Return the largest difference with which two losses are level, as stored."""
        return config.margin / 100.0 if self.in_points else config.margin_nll


METRICS = (
    Metric("accuracy", "test accuracy", "test_accuracy", 1, True),
    Metric("nll", "NLL", "test_nll", -1, False),
    Metric("ece", "ECE", "test_ece", -1, True),
    Metric("nll_scaled", "NLL at its temperature", "scaled_nll", -1, False),
    Metric("ece_scaled", "ECE at its temperature", "scaled_ece", -1, True),
    Metric("accuracy_best_val", "test accuracy of the best validation epoch", "test_accuracy_at_best_val", 1, True),
)
"""Accuracy after the last epoch is the primary one, named beforehand."""


class Group(NamedTuple):
    """The runs of a loss in a setting.

    Attributes:
      mode: how the learning rate was found.
      arch: model.
      dataset: data set.
      label_noise: share of wrong labels.
      loss: as the grid has it.
      results: seed -> result of the cells that finished.
      diverged: number of cells that diverged.
      missing: number of cells that failed otherwise, or have not been run.
      lr: learning rate; None where none was found.
      revisions: of the code that made the runs.
    """

    mode: str
    arch: str
    dataset: str
    label_noise: float
    loss: str
    results: Mapping[int, Mapping[str, Any]]
    diverged: int
    missing: int
    lr: float | None
    revisions: tuple[str, ...]

    @property
    def place(self) -> tuple[str, str, str, float]:
        """Return what the losses that are compared with each other share."""
        return self.mode, self.arch, self.dataset, self.label_noise

    def values(self, metric: Metric) -> dict[int, float]:
        """Return seed -> number of the runs that have one."""
        found = {seed: result.get(metric.key) for seed, result in self.results.items()}
        return {seed: float(value) for seed, value in found.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Row:
    """A loss against the baseline in one metric; of the baseline itself, what does not need another loss.

    Attributes:
      metric: of `METRICS`.
      mode: drop-in (one learning rate for all) or tuned (each loss at its own).
      arch: model.
      dataset: data set.
      label_noise: share of wrong labels in training.
      loss: as --losses has it.
      baseline: loss that it is compared with.
      lr: learning rate of the loss.
      n: runs that finished.
      diverged: runs that diverged.
      missing: runs that failed otherwise or are not there yet.
      mean: over the runs.
      sd: sample standard deviation.
      low: lower bound of the mean's 95 % interval.
      high: upper bound.
      pairs: seeds that both losses have.
      difference: mean over those, loss minus baseline.
      difference_low: lower bound of its 95 % interval.
      difference_high: upper bound.
      difference_sd: sample standard deviation of the paired differences.
      correlation: between loss and baseline over seeds.
      t: statistic of the paired t test.
      p: its two-sided p-value.
      p_holm: adjusted by Holm's method over all rows of the metric.
      hedges_g: difference over the pooled standard deviation of runs, unbiased.
      cliffs_delta: P(loss above) - P(loss below) over all pairs of runs.
      wilcoxon_p: signed-rank p-value, where it could be small enough to mean anything over the whole table.
      margin: largest difference with which two losses are level.
      tost_p: p-value of equivalence within the margin.
      tost_p_holm: adjusted by Holm's method over all rows of the metric.
      seeds_needed: seeds that show the difference --detect with a power of 80 %, given `difference_sd`.
      verdict: better, worse, level, open, or diverged; empty for the baseline.
      revisions: number of code revisions among the runs of both.
    """

    metric: str
    mode: str
    arch: str
    dataset: str
    label_noise: float
    loss: str
    baseline: str
    lr: float | None
    n: int
    diverged: int
    missing: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    difference_sd: float | None = None
    correlation: float | None = None
    t: float | None = None
    p: float | None = None
    p_holm: float | None = None
    hedges_g: float | None = None
    cliffs_delta: float | None = None
    wilcoxon_p: float | None = None
    margin: float | None = None
    tost_p: float | None = None
    tost_p_holm: float | None = None
    seeds_needed: int | None = None
    verdict: str = ""
    revisions: int = 1

    @property
    def place(self) -> tuple[str, str, str, float]:
        """Return what the losses that are compared with each other share."""
        return self.mode, self.arch, self.dataset, self.label_noise

    @property
    def is_baseline(self) -> bool:
        """Whether it is the row of the baseline."""
        return self.loss == self.baseline


def make_table(config: CompareConfig, groups: Sequence[Group]) -> list[Row]:
    """Return the rows of every metric that the runs have, one for each group; corrected metric by metric.

    The test is named beforehand: t over pairs of equal seeds. Pairing only where the measured correlation is positive
    would reject in 7 % of cases in which nothing differs. Holm's family is all comparisons of a metric, over all
    settings, losses and modes. Runs that diverged leave no mean that could be trusted, so there the verdict says so.

    Args:
      config: the grid.
      groups: its runs.
    """
    table: list[Row] = []
    for metric in METRICS:
        if any(group.values(metric) for group in groups):
            table += _metric_table(config, metric, groups)
    return table


def _metric_table(config: CompareConfig, metric: Metric, groups: Sequence[Group]) -> list[Row]:
    baselines = {group.place: group for group in groups if group.loss == config.baseline_loss}
    others = [group for group in groups if group.loss != config.baseline_loss]
    rows = {}
    for group in groups:
        baseline = baselines.get(group.place)
        rows[id(group)] = _row(config, metric, group, baseline, max(len(others), 1))
    p_holm = intervals.holm({str(id(group)): rows[id(group)].p for group in others})
    tost_holm = intervals.holm({str(id(group)): rows[id(group)].tost_p for group in others})
    for group in others:
        row = dataclasses.replace(rows[id(group)], p_holm=p_holm[str(id(group))], tost_p_holm=tost_holm[str(id(group))])
        baseline = baselines.get(group.place)
        diverged = group.diverged > 0 or (baseline is not None and baseline.diverged > 0)
        rows[id(group)] = dataclasses.replace(row, verdict=HAS_DIVERGED if diverged else verdict(row, metric.sign))
    return [rows[id(group)] for group in groups]


def verdict(row: Row, sign: int) -> str:
    """Return what a comparison says: level goes before better and worse, for such a difference does not matter.

    Args:
      row: with adjusted p-values.
      sign: 1 where more is better, -1 where less is.
    """
    if row.tost_p_holm is not None and row.tost_p_holm < _SIZE:
        return LEVEL
    if row.p_holm is None or row.p_holm >= _SIZE or row.difference is None:
        return OPEN
    return BETTER if sign * row.difference > 0.0 else WORSE


def _row(config: CompareConfig, metric: Metric, group: Group, baseline: Group | None, family: int) -> Row:
    """Return the row of a group, without what takes the whole table."""
    values = group.values(metric)
    x = np.array(list(values.values()))
    found: dict[str, Any] = {
        "metric": metric.name,
        "mode": group.mode,
        "arch": group.arch,
        "dataset": group.dataset,
        "label_noise": group.label_noise,
        "loss": group.loss,
        "baseline": config.baseline_loss,
        "lr": group.lr,
        "n": len(values),
        "diverged": group.diverged,
        "missing": group.missing,
        "revisions": len({*group.revisions, *(baseline.revisions if baseline else ())}),
    }
    if len(x):
        mean, low, high = intervals.interval(x)
        sd = float(np.std(x, ddof=1)) if len(x) > 1 else None
        found |= {"mean": mean, "sd": sd, "low": _number(low), "high": _number(high)}
    if baseline is None or group.loss == config.baseline_loss:
        return Row(**found)
    others = baseline.values(metric)
    shared = sorted(values.keys() & others.keys())
    found |= {"pairs": len(shared), "margin": metric.margin(config)}
    if not shared:
        return Row(**found)
    a, b = (np.array([each[seed] for seed in shared]) for each in (values, others))
    result = compare(a, b, by_correlation=False, family=family)
    difference_sd = float(np.std(a - b, ddof=1)) if len(shared) > 1 else None
    needed = None
    if metric.in_points and difference_sd is not None:
        needed = runs_needed(config.detect / 100.0, difference_sd)
    return Row(
        **found,
        difference=result.difference,
        difference_low=_number(result.low),
        difference_high=_number(result.high),
        difference_sd=difference_sd,
        correlation=result.correlation,
        t=result.statistic,
        p=result.p,
        hedges_g=hedges_g(a, b),
        cliffs_delta=result.cliffs_delta,
        wilcoxon_p=result.wilcoxon_p,
        tost_p=tost(a - b, metric.margin(config)),
        seeds_needed=needed,
    )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
