"""What an ablation says: tests against the base, report.md and result.json."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core.files import write_atomic
from edl_jax.pretrain import PretrainConfig
from edl_jax.stats import intervals
from edl_jax.stats.comparison import Comparison, compare
from edl_jax.study.ablate.factors import FACTORS, Cell
from edl_jax.study.ablate.measurement import Result, generations_within

# The marks that "converged" means: ranking accuracy, and the fitness within 1 % of the optimum's.
ACCURACY_MARK, RATIO_MARK = 0.99, 1.01
# The comparison named beforehand: F / F* on fresh pairs after equal evaluations. All others are secondary.
PRIMARY = "test_excess"
_MEASURES = {
    "test_excess": "F/F* − 1 on fresh pairs, equal evaluations",
    "time_excess": "F/F* − 1 on held-out pairs, equal time",
    "generations_to_accuracy": "generations to 99 % ranking accuracy",
    "generations_to_ratio": "generations to F within 1 % of F*",
    "seconds_to_accuracy": "seconds to 99 % ranking accuracy",
    "seconds_to_ratio": "seconds to F within 1 % of F*",
    "final_spread": "population spread at equal evaluations",
}

# Headings of the tables of a factor.
_TABLES = (
    ("level", "10³ (F/F* − 1), fresh pairs", "difference", "p (Holm)", "d"),
    ("level", "generations to 99 %", "generations to F ≤ 1.01 F*", "spread"),
    ("level", "10³ (F/F* − 1), equal time", "seconds to F ≤ 1.01 F*", "ms a generation"),
)


def write(folder: Path, cells: Sequence[Cell], results: Mapping[int, Result], base: PretrainConfig) -> dict[str, Any]:
    """Write report.md of a finished study and return the content of result.json."""
    budget = results[0].seconds * base.generations
    measured = {i: measures(result, budget) for i, result in results.items()}
    table: dict[str, dict[str, Any]] = {}
    defaults: dict[str, str] = {}
    for factor in dict.fromkeys(factor for cell in cells for factor, _ in cell.uses):
        members = _members(cells, factor)
        # A factor whose levels leave the base out (another objective) is compared with its own first level.
        reference = next((label for label, i in members.items() if i == 0), next(iter(members)))
        defaults[factor] = reference
        table[factor] = _factor(members, reference, results, measured)
    write_atomic(folder / "report.md", _markdown(table, defaults, base, results, budget).encode())
    return {
        "report": str(folder / "report.md"),
        "primary": PRIMARY,
        "budget_seconds": budget,
        "defaults": defaults,
        "factors": table,
    }


def measures(result: Result, budget: float) -> dict[str, np.ndarray]:
    """Return the numbers of a cell by name, `[R]` each; infinite where a mark was never reached.

    Generations to a mark are counted within equal evaluations, so that a cell that was followed for longer has no
    better chance; seconds to it in all that was run.

    Args:
      result: the cell.
      budget: seconds a run at which equal-time numbers are read.
    """
    even = result.evaluations_end
    at_time = min(generations_within(budget, result.seconds), result.fitness_ratio.shape[1]) - 1
    accuracy, ratio = result.ranking_accuracy >= ACCURACY_MARK, result.fitness_ratio <= RATIO_MARK
    spread = result.population_spread[:, even - 1]
    return {
        "test_excess": result.test_ratio - 1.0,
        "time_excess": result.fitness_ratio[:, at_time] - 1.0,
        "generations_to_accuracy": _first(accuracy[:, :even]),
        "generations_to_ratio": _first(ratio[:, :even]),
        "seconds_to_accuracy": _first(accuracy) * result.seconds,
        "seconds_to_ratio": _first(ratio) * result.seconds,
        "final_spread": np.where(np.isnan(spread), math.inf, spread),  # of a search that diverged
    }


def _members(cells: Sequence[Cell], factor: str) -> dict[str, int]:
    """Return the cell of each level of a factor, in the factor's own order."""
    found = {label: i for i, cell in enumerate(cells) for name, label in cell.uses if name == factor}
    order = [level.label for level in FACTORS.get(factor, ()) if level.label in found]
    return {label: found[label] for label in dict.fromkeys([*order, *found])}


def _first(reached: np.ndarray) -> np.ndarray:
    """Return, for each row of `[R, G]`, the 1-based index of the first True, or infinity."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, math.inf)


def _factor(
    members: Mapping[str, int],
    reference: str,
    results: Mapping[int, Result],
    measured: Mapping[int, Mapping[str, np.ndarray]],
) -> dict[str, Any]:
    """Return the levels of one factor: intervals, comparisons with the reference, Holm's correction."""
    rows: dict[str, Any] = {}
    comparisons: dict[str, dict[str, Comparison]] = {}
    others = [label for label in members if label != reference]
    for label, i in members.items():
        rows[label] = {
            "cell": i,
            "seconds_per_generation": results[i].seconds,
            "seconds_compiling": results[i].seconds_compiling,
            **{name: _estimate(values) for name, values in measured[i].items()},
        }
        if label != reference:
            comparisons[label] = {
                name: compare(values, measured[members[reference]][name], family=len(others))
                for name, values in measured[i].items()
                # A single cell's time is one number for all its runs: no test between seconds.
                if not name.startswith("seconds")
            }
    for name in _MEASURES:
        adjusted = intervals.holm({label: c[name].p for label, c in comparisons.items() if name in c})
        for label, p in adjusted.items():
            c = comparisons[label][name]
            rows[label][f"{name}_against_{reference}"] = {
                "test": c.test,
                "difference": c.difference,
                "low": c.low,
                "high": c.high,
                "p": c.p,
                "p_holm": p,
                "effect_name": c.effect_name,
                "effect": c.effect,
                "cliffs_delta": c.cliffs_delta,
                "wilcoxon_p": c.wilcoxon_p,
            }
    return rows


def _estimate(values: np.ndarray) -> dict[str, Any]:
    """Return mean and interval, or with infinite values median and interval, of `[R]` values."""
    finite = bool(np.all(np.isfinite(values)))
    estimate = intervals.interval(values) if finite else intervals.median_interval(values)
    return {"kind": "mean" if finite else "median", "value": estimate.mean, "low": estimate.low, "high": estimate.high}


def _markdown(
    table: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, str],
    base: PretrainConfig,
    results: Mapping[int, Result],
    budget: float,
) -> str:
    """Return the report as markdown tables, one a factor."""
    runs = len(results[0].test_ratio)
    lines = [
        "# Ablation",
        "",
        f"{runs} runs a cell with common random numbers; base: {base.strategy}, {base.generations} generations of "
        f"{base.es.population_size} members, {1e3 * results[0].seconds:.2f} ms a generation, {budget:.2f} s a run.",
        f"Primary measure, named beforehand: {_MEASURES[PRIMARY]}, with a 95 % interval; p by paired (positive "
        "correlation over seeds) or Welch's t, Holm-corrected within the factor. Marks never reached count as "
        "infinite: medians. Generations to a mark and the spread are of equal evaluations, seconds of all that was "
        "run.",
    ]
    for factor, rows in table.items():
        reference = defaults[factor]
        lines += ["", f"## {factor} (against {reference})"]
        # Three narrow tables: in one, a row would be 190 characters wide.
        columns = [_columns(label, row, row.get(f"{PRIMARY}_against_{reference}")) for label, row in rows.items()]
        for names in _TABLES:
            lines += ["", f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
            lines += [f"| {' | '.join(cells[name] for name in names)} |" for cells in columns]
    return "\n".join(lines) + "\n"


def _columns(label: str, row: Mapping[str, Any], against: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what the tables say of a level, heading -> cell."""
    difference = effect = p = "–"
    if against is not None:
        difference = _range(against["difference"], against["low"], against["high"], 1e3)
        p = "–" if against["p_holm"] is None else f"{against['p_holm']:.3g}"
        effect = "–" if against["effect"] is None else f"{against['effect']:.2f}"
    return {
        "level": label,
        "10³ (F/F* − 1), fresh pairs": _cell(row["test_excess"], 1e3),
        "difference": difference,
        "p (Holm)": p,
        "d": effect,
        "10³ (F/F* − 1), equal time": _cell(row["time_excess"], 1e3),
        "generations to 99 %": _cell(row["generations_to_accuracy"]),
        "generations to F ≤ 1.01 F*": _cell(row["generations_to_ratio"]),
        "seconds to F ≤ 1.01 F*": _cell(row["seconds_to_ratio"]),
        "ms a generation": f"{1e3 * row['seconds_per_generation']:.2f}",
        "spread": f"{row['final_spread']['value']:.3g}",
    }


def _cell(estimate: Mapping[str, Any], unit: float = 1.0) -> str:
    text = _range(estimate["value"], estimate["low"], estimate["high"], unit)
    return text if estimate["kind"] == "mean" or text == "never" else f"median {text}"


def _range(value: float, low: float, high: float, unit: float) -> str:
    if not math.isfinite(value):
        return "never" if value > 0 else "–"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{unit * value:.3g}" if math.isnan(low) else f"{unit * value:.3g} ({unit * low:.3g} to never)"
    return f"{unit * value:.3g} ({unit * low:.3g} to {unit * high:.3g})"
