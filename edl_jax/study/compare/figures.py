"""The figures of a comparison, from its table and its runs."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from edl_jax.plot import comparison
from edl_jax.plot.style import draw_all
from edl_jax.study.compare.cells import DROP_IN, Setting
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.statistics import METRICS, Group, Metric, Row
from edl_jax.study.loss_spec import parse_loss

_AGAIN = "give the command with --out and --report-only"


def draw(
    folder: Path,
    config: CompareConfig,
    rows: Sequence[Row],
    groups: Sequence[Group],
    figure_format: str = "png",
    *,
    anew: bool = True,
    metrics: Sequence[Metric] = METRICS,
) -> None:
    """Draw runs, differences to the baseline by metric, and seeds needed, into a folder.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to draw.
      config: the grid.
      rows: of `make_table`.
      groups: the runs, of which the rows are made.
      figure_format: png, pdf or svg.
      anew: draw those as well that are there.
      metrics: of which to draw.
    """
    figures: dict[str, Callable[[Path], None]] = {}
    for metric in metrics:
        of_metric = [row for row in rows if row.metric == metric.name and row.mean is not None]
        if not of_metric:
            continue
        figures[f"runs_{metric.name}"] = partial(_runs, metric, config, of_metric, groups)
        compared = [row for row in of_metric if row.difference is not None]
        if compared:
            figures[f"differences_{metric.name}"] = partial(_differences, metric, config, compared)
        needed = [row for row in compared if row.seeds_needed is not None]
        if needed and metric.name == "accuracy":
            figures["seeds_needed"] = partial(_seeds_needed, config, needed)
    paths = {folder / f"{name}.{figure_format}": function for name, function in figures.items()}
    draw_all({path: function for path, function in paths.items() if anew or not path.is_file()}, _AGAIN)


def _runs(metric: Metric, config: CompareConfig, rows: Sequence[Row], groups: Sequence[Group], path: Path) -> None:
    values = {(*group.place, group.loss): list(group.values(metric).values()) for group in groups}
    panels: dict[str, list[comparison.Runs]] = {}
    # The baseline is drawn first.
    for row in sorted(rows, key=lambda row: not row.is_baseline):
        numbers = [metric.unit * value for value in values[(*row.place, row.loss)]]
        bounds = (_shown(metric, value) for value in (row.mean, row.low, row.high))
        panels.setdefault(_title(row, config), []).append(comparison.Runs(_label(row), numbers, *bounds))
    comparison.settings(path, _ordered(panels, rows, config), xlabel=_axis(metric))


def _differences(metric: Metric, config: CompareConfig, rows: Sequence[Row], path: Path) -> None:
    panels: dict[str, list[comparison.Difference]] = {}
    for row in rows:
        mean, low, high = (_shown(metric, x) for x in (row.difference, row.difference_low, row.difference_high))
        found = comparison.Difference(_label(row), mean, low, high, row.verdict)
        panels.setdefault(_title(row, config), []).append(found)
    side = "right" if metric.sign > 0 else "left"
    name = parse_loss(config.baseline_loss).title
    comparison.differences(
        path,
        panels,
        xlabel=f"{_axis(metric)},\nminus that of {name} ({side} is better)",
        margin=metric.unit * metric.margin(config),
    )


def _seeds_needed(config: CompareConfig, rows: Sequence[Row], path: Path) -> None:
    panels: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        panels.setdefault(_title(row, config), []).append((_label(row), float(row.seeds_needed or math.nan)))
    text = f"seeds that show {config.detect:g} points of accuracy\nwith a power of 80 %"
    comparison.seeds_needed(path, panels, xlabel=text, have=max(row.pairs for row in rows))


def _ordered(
    panels: dict[str, list[comparison.Runs]], rows: Sequence[Row], config: CompareConfig
) -> dict[str, list[comparison.Runs]]:
    """Return panels in the order of the grid."""
    return {title: panels[title] for title in dict.fromkeys(_title(row, config) for row in rows)}


def _title(row: Row, config: CompareConfig) -> str:
    title = Setting(row.arch, row.dataset, row.label_noise).title.replace(", ", ",\n")
    if not config.tune_lr:
        return title
    return f"{title}\n" + ("one rate for all" if row.mode == DROP_IN else "each at its own rate")


def _label(row: Row) -> str:
    return parse_loss(row.loss).title


def _axis(metric: Metric) -> str:
    return (
        f"{metric.title} (%)" if metric.name.startswith("accuracy") else metric.title + " (points)" * metric.in_points
    )


def _shown(metric: Metric, value: float | None) -> float:
    return math.nan if value is None else metric.unit * value
