"""The report of a comparison as Markdown."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from edl_jax.core.markdown import table
from edl_jax.study.compare.cells import DROP_IN, MODES, Setting
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.statistics import HAS_DIVERGED, METRICS, Metric, Row
from edl_jax.study.loss_spec import parse_loss

_NONE = "–"
_MARK = "†"
_TESTS = ("p (Holm)", "g", "level: p")


def write(config: CompareConfig, rows: Sequence[Row], result: Mapping[str, Any]) -> str:
    """Return the report.

    Args:
      config: the grid.
      rows: the table of all metrics.
      result: content of result.json.
    """
    lines = ["# Comparison of losses", "", *_introduction(config, result)]
    places = list(dict.fromkeys(row.place for row in rows))
    for mode in MODES:
        of_mode = [place for place in places if place[0] == mode]
        if not of_mode:
            continue
        lines += ["", f"## {_mode_title(config, mode)}"]
        for place in of_mode:
            lines += ["", f"### {Setting(*place[1:]).title}", *_tables([row for row in rows if row.place == place])]
    lines += _tuning(result["tuning"])
    lines += _failures(result["cells"])
    lines += _revisions(result["cells"])
    return "\n".join(lines) + "\n"


def _introduction(config: CompareConfig, result: Mapping[str, Any]) -> list[str]:
    states = collections.Counter(cell["state"] for cell in result["cells"])
    total = sum(states.values())
    said = ", ".join(f"{count} {state}" for state, count in states.items())
    training, val = config.training, config.training.val_size
    fitted = sorted({cell["temperature_from"] for cell in result["cells"] if cell["temperature_from"]})
    return [
        f"{total} cells: {said}." + ("" if result["complete"] else " **Not complete.**"),
        f"{training.epochs} epochs, batch {training.batch_size}, {training.optimizer}, lr {training.numbers.lr:g}, "
        f"seeds {_seeds(config.seeds)}; baseline: {config.baseline_loss}.",
        "",
        "Numbers are those after the last epoch: no epoch is chosen"
        + (", but in the rows that say so, on validation images." if val else ".")
        + (f" Held out for validation: {val} training images." if val else "")
        + (f" Temperatures are fitted on: {', '.join(fitted)}." if fitted else ""),
        "Intervals are 95 %. Differences are loss minus baseline over common seeds, with a paired t test that was "
        "named beforehand; p is corrected by Holm's method over all comparisons of a metric. g is Hedges'. Verdicts: "
        "better or worse with p below 0.05; level where two one-sided tests, corrected likewise, put the difference "
        f"within ±{config.margin:g} points (accuracy, ECE) or ±{config.margin_nll:g} (NLL); open where the seeds tell "
        f"neither; {HAS_DIVERGED} where a run diverged, so that the mean of the others proves nothing. Seeds: how many "
        f"show a difference of {config.detect:g} points with a power of 80 %, given the spread of the paired "
        "differences.",
    ]


def _mode_title(config: CompareConfig, mode: str) -> str:
    if mode == DROP_IN:
        return f"Drop-in: learning rate {config.training.numbers.lr:g} for all"
    budget = f"{len(config.lr_factors)} rates x {config.tune_lr} seeds"
    return f"Tuned: the rate of each loss, chosen on validation images ({budget})"


def _tables(rows: Sequence[Row]) -> list[str]:
    """Return the tables of one setting: the primary metric with all that is known, then the others."""
    primary, *others = METRICS
    head = ["loss", "lr", "n", f"{primary.title} (points)", "sd", "difference", *_TESTS, "seeds", "verdict"]
    found = [row for row in rows if row.metric == primary.name]
    lines = ["", table(head, [_primary(primary, row, found) for row in found])]
    cells = []
    for metric in others:
        found = [row for row in rows if row.metric == metric.name]
        cells += [[metric.title + " (points)" * metric.in_points, *_other(metric, row, found)] for row in found]
    return [*lines, "", table(["metric", "loss", "mean", "difference", *_TESTS, "verdict"], cells)] if cells else lines


def _primary(metric: Metric, row: Row, rows: Sequence[Row]) -> list[str]:
    count = str(row.n) + (f" + {row.diverged} diverged" if row.diverged else "")
    count += f", {row.missing} missing" if row.missing else ""
    name, mean, *rest, verdict = _other(metric, row, rows)
    seeds = _format(row.seeds_needed, ",")
    spread = _format(row.sd, ".2f", metric.unit)
    return [name, _format(row.lr, "g"), count, mean, spread, *rest, seeds, verdict]


def _other(metric: Metric, row: Row, rows: Sequence[Row]) -> list[str]:
    digits = 2 if metric.in_points else 4
    means = [other.mean for other in rows if other.mean is not None]
    best = max(means, key=lambda mean: metric.sign * mean) if means else None
    mean = _interval(row.mean, row.low, row.high, metric.unit, digits)
    cells = [
        parse_loss(row.loss).title + (f" {_MARK}" if row.revisions > 1 else ""),
        f"**{mean}**" if best is not None and row.mean == best else mean,
    ]
    if row.is_baseline:
        return [*cells, "baseline", *[_NONE] * (len(_TESTS) + 1)]
    return [
        *cells,
        _interval(row.difference, row.difference_low, row.difference_high, metric.unit, digits, sign="+"),
        _format(row.p_holm, ".3g"),
        _format(row.hedges_g, ".2f"),
        _format(row.tost_p_holm, ".3g"),
        row.verdict,
    ]


def _tuning(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the section on what tuning found."""
    if not rows:
        return []
    lines = [
        "",
        "## Tuning",
        "",
        "Mean validation accuracy in points after the last epoch; the rate that is taken is "
        "bold. At an end of the rates that were tried, a better one may lie beyond.",
    ]
    by_setting: dict[Setting, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_setting.setdefault(Setting(row["arch"], row["dataset"], row["label_noise"]), []).append(row)
    for setting, found in by_setting.items():
        rates = [rate["lr"] for rate in found[0]["rates"]]
        head = ["loss", *(f"{rate:g}" for rate in rates), ""]
        cells_of: list[list[str]] = []
        for row in found:
            cells = []
            for rate in row["rates"]:
                text = _format(rate["val_accuracy"], ".2f", 100.0)
                cells.append(f"**{text}**" if rate["lr_factor"] == row["lr_factor"] else text)
            note = "at an end" if row["edge"] else ("" if row["lr"] or not row["settled"] else "no rate works")
            cells_of.append([parse_loss(row["loss"]).title, *cells, note])
        lines += ["", f"### {setting.title}", "", table(head, cells_of)]
    return lines


def _failures(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    failed = [cell for cell in cells if cell["error"]]
    if not failed:
        return []
    return ["", "## Failed", "", *(f"- `{cell['name']}` ({cell['role']}): {cell['error']}" for cell in failed)]


def _revisions(cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the section on runs of several revisions of the code, where there are some."""
    count = collections.Counter(str(cell["revision"]) for cell in cells if cell["state"] == "done")
    if len(count) < 2:
        return []
    told = f"{_MARK} marks rows whose runs, or those of the baseline, were made by several revisions:"
    return ["", "## Revisions", "", told, "", *(f"- {revision}: {number} cells" for revision, number in count.items())]


def _seeds(seeds: Sequence[int]) -> str:
    whole = len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}-{seeds[-1]}" if whole else " ".join(map(str, seeds))


def _interval(
    value: float | None, low: float | None, high: float | None, unit: float, digits: int, sign: str = ""
) -> str:

    def show(x: float) -> str:
        return f"{round(unit * x, digits) + 0.0:{sign}.{digits}f}"  # no negative zero

    if value is None:
        return _NONE
    return show(value) if low is None or high is None else f"{show(value)} ({show(low)} to {show(high)})"


def _format(value: float | None, form: str, unit: float = 1.0) -> str:
    return _NONE if value is None else f"{value * unit if unit != 1.0 else value:{form}}"
