"""The figures of a study of pretraining numbers, from its artifacts and correlations."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edl_jax.plot import correlation as plot
from edl_jax.plot.style import draw_all
from edl_jax.study.candidates import folder_name
from edl_jax.study.correlate.correlation import Measured, Row, accuracies_of, errors_of
from edl_jax.study.correlate.numbers import NUMBERS
from edl_jax.study.stages.networks import Trained

DRAWN = ("all", "trained", "evolved", "evolved, trained")
"""Subsets of the figure of correlations, as far as there are so many artifacts of them."""
_LOGARITHMIC = ("fitness_ratio", "own_fitness_ratio", "mean_pull", "pull_01", "pull_50", "pull_99")


def draw(
    folder: Path,
    measured: Sequence[Measured],
    networks: Sequence[Trained],
    rows: Sequence[Row],
    figure_format: str = "png",
) -> list[Path]:
    """Draw all figures into a folder; return the paths of those that are there.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to draw.
      measured: artifacts.
      networks: that were trained with them; `scatter` is of the last one.
      rows: what `correlation.measure` returns for them.
      figure_format: png, pdf or svg.
    """
    figures: dict[str, Callable[[Path], None]] = {"correlations": partial(plot.draw_correlations, panels=_dots(rows))}
    for i, network in enumerate(networks):
        name = "scatter" if network is networks[-1] else f"scatter-{i + 1}-{folder_name(network.name.split(':')[0])}"
        title = f"validation accuracy of {network.name}"
        figures[name] = partial(
            plot.draw_scatter, panels=_panels(measured, network, rows), title=title, chance=1.0 - network.chance.error
        )
    order = ["correlations", "scatter", *(name for name in figures if name not in ("correlations", "scatter"))]
    paths = {folder / f"{name}.{figure_format}": figures[name] for name in order}
    draw_all(paths)
    return [path for path in paths if path.exists()]


def _panels(measured: Sequence[Measured], network: Trained, rows: Sequence[Row]) -> list[plot.Panel]:
    accuracy = accuracies_of(network)
    failed = ~np.isfinite(errors_of(network))
    accuracy = np.where(np.isnan(accuracy), 1.0 - network.chance.error, accuracy)
    families = [each.family for each in measured]
    panels = []
    for key, (title, sign) in NUMBERS.items():
        values = np.array([each.numbers.get(key, math.nan) for each in measured], float)
        if np.isfinite(values).sum() < 2:
            continue
        row = next(
            row
            for row in rows
            if (row.number, row.network, row.subset, row.measure) == (key, network.name, "all", "spearman")
        )
        panels.append(
            plot.Panel(title, values, accuracy, families, failed, row.estimate, sign < 0, key in _LOGARITHMIC)
        )
    return panels


def _dots(rows: Sequence[Row]) -> dict[str, dict[str, list[plot.Dot]]]:
    """Return title of a subset -> title of a number -> a dot for each network."""
    found: dict[str, dict[str, list[plot.Dot]]] = {}
    for subset in DRAWN:
        chosen = [row for row in rows if row.subset == subset and row.measure == "spearman"]
        if not any(math.isfinite(row.estimate.value) for row in chosen):
            continue
        counts = sorted({row.artifacts for row in chosen if row.number == "fitness_ratio"})
        shown = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        by_number: dict[str, list[plot.Dot]] = {}
        for row in chosen:
            by_number.setdefault(NUMBERS[row.number].title, []).append(plot.Dot(row.network, row.estimate))
        found[f"{subset} ({shown})"] = by_number
    return found
