"""What an elimination says: a table of every stage and of the finals, report.md and result.json."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from edl_jax.core import markdown
from edl_jax.core.files import plain, write_atomic, write_csv
from edl_jax.core.markdown import code, escaped, images, settings
from edl_jax.study.candidates import Candidate
from edl_jax.study.eliminate.finals import MEASURES
from edl_jax.study.stages import Result, Stage
from edl_jax.training.progress import format_duration

_LONGEST = 100  # characters of a formula
_FEWEST = 3  # losses of a rank correlation
_STAGE = ("rank", "loss", "error", "cross-entropy", "steps", "seconds", "goes on", "formula")


class Round(NamedTuple):
    """A stage and what it found.

    Attributes:
      name: of its folder.
      stage: network and training.
      candidates: that took part.
      results: of them, the best first; those that were not finite are last.
      survivors: names of those that go on, the best first.
    """

    name: str
    stage: Stage
    candidates: Sequence[Candidate]
    results: Sequence[Result]
    survivors: Sequence[str]

    @property
    def error(self) -> dict[str, float]:
        """Candidate -> error."""
        return {result.name: result.error for result in self.results}


class Ranks(NamedTuple):
    """Two stages' ranks of the losses that were in both.

    Attributes:
      x_label: the earlier stage, or the search.
      y_label: the later one.
      names: of the n losses.
      x: `[n]` ranks in the earlier one, 1 for the best, ties sharing the mean.
      y: `[n]` ranks in the later one.
      spearman: correlation of the ranks; NaN where those of a stage are equal.
    """

    x_label: str
    y_label: str
    names: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    spearman: float


def write_stage(path: Path, played: Round) -> None:
    """Write the table of a stage as CSV."""
    header = ["rank", "loss", "error", "cross_entropy", "steps", "seconds", "survives", "fitness", "formula"]
    rows = []
    of = {candidate.name: candidate for candidate in played.candidates}
    for rank, result in enumerate(played.results, 1):
        name, candidate = result.name, of[result.name]
        numbers = (result.error, result.loss, result.steps, result.seconds)
        rows.append((rank, name, *numbers, int(name in played.survivors), candidate.fitness, candidate.formula))
    write_csv(path, header, rows)


def write_finals(path: Path, seeds: Sequence[int], table: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the numbers of every final run as CSV."""
    rows = [
        (name, seed, *(numbers[number]["values"][i] for number in MEASURES))
        for name, numbers in table.items()
        for i, seed in enumerate(seeds)
    ]
    write_csv(path, ["loss", "seed", *MEASURES], rows)


def ranks(rounds: Sequence[Round]) -> list[Ranks]:
    """Return the ranks of each pair of consecutive stages that had 3 losses in both, the search before the first."""
    fitness = {candidate.name: candidate.fitness for candidate in rounds[0].candidates}
    steps = [("search", {name: value for name, value in fitness.items() if value is not None})]
    steps += [(each.name, each.error) for each in rounds]
    found = []
    for (before, x), (after, y) in itertools.pairwise(steps):
        names = tuple(name for name in y if name in x)
        if len(names) < _FEWEST:
            continue
        first, second = (stats.rankdata([values[name] for name in names]) for values in (x, y))
        defined = np.ptp(first) > 0 and np.ptp(second) > 0
        rho = float(np.corrcoef(first, second)[0, 1]) if defined else math.nan
        found.append(Ranks(before, after, names, first, second, rho))
    return found


def result_of(
    rounds: Sequence[Round],
    correlations: Sequence[Ranks],
    artifacts: Mapping[str, Path],
    table: Mapping[str, Mapping[str, Any]],
    reports: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the content of result.json.

    Args:
      rounds: the stages.
      correlations: their ranks.
      artifacts: survivor -> file of its loss, the best first.
      table: from `finals.compared`.
      reports: further entries: paths and settings.
    """
    formulas = {candidate.name: candidate.formula for candidate in rounds[-1].candidates}
    return plain(
        {
            **reports,
            "winners": [
                {"name": name, "formula": formulas[name], "artifact": str(path)} for name, path in artifacts.items()
            ],
            "stages": [
                {
                    "name": each.name,
                    "stage": str(each.stage),
                    "losses": len(each.results),
                    "survivors": list(each.survivors),
                    "best_error": each.results[0].error,
                    "seconds": round(sum(result.seconds for result in each.results), 2),
                }
                for each in rounds
            ],
            "ranks": [
                {"before": each.x_label, "after": each.y_label, "losses": len(each.names), "spearman": each.spearman}
                for each in correlations
            ],
            "reference": next(iter(table)),
            "finals": table,
        }
    )


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`: a line for each loss of the finals."""
    lines = []
    for name, numbers in result["finals"].items():
        accuracy = numbers["test_accuracy"]
        difference = accuracy.get("difference")
        against = f"   {_difference(difference, 100.0)} points against {result['reference']}" if difference else ""
        lines.append(f"{name}: test accuracy {_estimate(accuracy)}{against}")
    return lines


def write(
    path: Path,
    facts: Mapping[str, Any],
    rounds: Sequence[Round],
    correlations: Sequence[Ranks],
    table: Mapping[str, Mapping[str, Any]],
    figures: Sequence[Path] = (),
) -> None:
    """Write report.md.

    Args:
      path: file to write.
      facts: what to know of the elimination, in words: name -> value.
      rounds: the stages.
      correlations: their ranks.
      table: from `finals.compared`.
      figures: files below the folder of `path`, embedded in this order.
    """
    last = rounds[-1]
    formulas = {candidate.name: candidate.formula for candidate in last.candidates}
    parts = ["# Elimination of losses", settings(facts), "## Survivors"]
    parts.append(
        markdown.table(("loss", "formula"), [(escaped(name), code(formulas[name])) for name in last.survivors])
    )
    parts += ["## Finals", *_finals(table), "## Stages"]
    rows = []
    for each in rounds:
        seconds = sum(result.seconds for result in each.results)
        best = f"{each.results[0].error:.4f}"
        rows.append((each.name, code(str(each.stage)), len(each.results), best, format_duration(seconds)))
    parts.append(markdown.table(("stage", "network and training", "losses", "best error", "time"), rows))
    if correlations:
        parts.append(
            markdown.table(("ranks", "losses in both", "Spearman"), [_correlation(each) for each in correlations])
        )
    parts += images(figures, path.parent)
    for each in rounds:
        of = {candidate.name: candidate.formula for candidate in each.candidates}
        shown = [_stage_row(i, result, each, of[result.name]) for i, result in enumerate(each.results, 1)]
        parts += [f"### {escaped(each.name)}", markdown.table(_STAGE, shown)]
    write_atomic(path, ("\n\n".join(parts) + "\n").encode())


def _finals(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table for each number, the primary one first."""
    reference = next(iter(table))
    parts = []
    for number, title in MEASURES.items():
        unit, digits = (1.0, 4) if "nll" in number else (100.0, 2)
        rows = []
        for name, numbers in table.items():
            found = numbers[number]
            difference = found.get("difference")
            against = ("–",) * 3
            if difference is not None:
                p = "–" if difference["p_holm"] is None else f"{difference['p_holm']:.3g}"
                against = (_difference(difference, unit, digits), p, difference["test"])
            rows.append((escaped(name), _estimate(found, unit, digits), *against))
        shown = title if unit == 1.0 else f"{title}, %"
        parts.append(markdown.table(("loss", shown, f"minus {escaped(reference)}", "p (Holm)", "test"), rows))
    count = len(next(iter(table.values()))["test_accuracy"]["values"])
    parts.append(
        f"{count} run{'' if count == 1 else 's'} each; means with 95 % intervals. Test accuracy is the comparison that "
        "was named beforehand. Runs are paired by seed where their correlation is positive. A run that diverged is "
        "infinitely bad, and leaves tests by ranks alone."
    )
    return parts


def _estimate(found: Mapping[str, Any], unit: float = 100.0, digits: int = 2) -> str:
    """Return a mean with its interval."""
    mean, low, high = (_finite(found[key]) for key in ("mean", "low", "high"))
    if math.isnan(mean):
        return "diverged" if not any(math.isfinite(_finite(x)) for x in found["values"]) else "some runs diverged"
    if math.isnan(low):
        return f"{unit * mean:.{digits}f}"
    return f"{unit * mean:.{digits}f} ({unit * low:.{digits}f} to {unit * high:.{digits}f})"


def _difference(found: Mapping[str, Any], unit: float, digits: int = 2) -> str:
    mean, low, high = (unit * _finite(found[key]) for key in ("difference", "low", "high"))
    if math.isnan(mean):
        return "–"
    shown = f"{mean:+.{digits}f}"
    return shown if math.isnan(low) else f"{shown} ({low:+.{digits}f} to {high:+.{digits}f})"


def _finite(value: float | None) -> float:
    return math.nan if value is None else value


def _correlation(each: Ranks) -> tuple[str, int, str]:
    shown = "–" if math.isnan(each.spearman) else f"{each.spearman:.2f}"
    return f"{escaped(each.x_label)} and {escaped(each.y_label)}", len(each.names), shown


def _stage_row(rank: int, result: Result, played: Round, formula: str) -> tuple[Any, ...]:
    error, loss = (f"{x:.4f}" if math.isfinite(x) else "not finite" for x in (result.error, result.loss))
    goes_on = "yes" if result.name in played.survivors else ""
    shown = code(formula, _LONGEST)
    return rank, escaped(result.name), error, loss, result.steps, f"{result.seconds:.3g}", goes_on, shown
