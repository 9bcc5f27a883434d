"""The figures of an ablation, from its results and what its report says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.plot import curves, sensitivity
from edl_jax.plot.style import draw_all
from edl_jax.study.ablate.factors import Cell
from edl_jax.study.ablate.measurement import Result, generations_within
from edl_jax.study.ablate.report import PRIMARY, measures

# Distances from the optimum are drawn on a logarithmic axis; below this they are noise of the held-out pairs.
_FLOOR = 1e-5
_EXCESS_LABEL = "F/F* − 1, best so far, held-out pairs"


def draw(
    folder: Path,
    cells: Sequence[Cell],
    results: Mapping[int, Result],
    content: Mapping[str, Any],
    figure_format: str = "png",
) -> None:
    """Draw a folder of figures: by factor curves over evaluations and time, spread, differences; sensitivity.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to draw.
      cells: of the study.
      results: of the cells, by their index.
      content: that of result.json, from `report.write`.
      figure_format: png, pdf or svg.
    """
    budget, defaults, table = content["budget_seconds"], content["defaults"], content["factors"]
    figures: dict[str, Callable[[Path], None]] = {}
    for factor, rows in table.items():
        used = {label: results[row["cell"]] for label, row in rows.items()}
        # An even number of evaluations: members of a generation times generations.
        size = {label: cells[row["cell"]].config.es.population_size for label, row in rows.items()}
        figures[f"{factor}_evaluations"] = partial(_over_evaluations, used, size, defaults[factor])
        figures[f"{factor}_time"] = partial(_over_time, used, budget, defaults[factor])
        figures[f"{factor}_spread"] = partial(_spread, used, size, defaults[factor])
        if any(f"{PRIMARY}_against_{defaults[factor]}" in row for row in rows.values()):
            figures[f"{factor}_differences"] = partial(_differences, rows, defaults[factor])
    measured = {i: measures(result, budget)[PRIMARY] for i, result in results.items()}
    figures["sensitivity"] = partial(_sensitivity, table, measured, defaults)
    draw_all({folder / f"{name}.{figure_format}": function for name, function in figures.items()})


def _over_evaluations(used: Mapping[str, Result], size: Mapping[str, int], default: str, path: Path) -> None:
    excess = {k: np.maximum(r.fitness_ratio[:, : r.evaluations_end] - 1.0, _FLOOR) for k, r in used.items()}
    evaluations = {k: size[k] * np.arange(1, values.shape[1] + 1) for k, values in excess.items()}
    curves.convergence(
        path, excess, x=evaluations, xlabel="evaluations", ylabel=_EXCESS_LABEL, default=default, log_y=True
    )


def _over_time(used: Mapping[str, Result], budget: float, default: str, path: Path) -> None:
    within = {k: r.fitness_ratio[:, : max(generations_within(budget, r.seconds), 2)] for k, r in used.items()}
    seconds = {k: used[k].seconds * np.arange(1, values.shape[1] + 1) for k, values in within.items()}
    excess = {k: np.maximum(values - 1.0, _FLOOR) for k, values in within.items()}
    label = "seconds, compilation apart"
    curves.convergence(path, excess, x=seconds, xlabel=label, ylabel=_EXCESS_LABEL, default=default, log_y=True)


def _spread(used: Mapping[str, Result], size: Mapping[str, int], default: str, path: Path) -> None:
    spreads = {k: r.population_spread[:, : r.evaluations_end] for k, r in used.items()}
    evaluations = {k: size[k] * np.arange(1, values.shape[1] + 1) for k, values in spreads.items()}
    curves.convergence(
        path, spreads, x=evaluations, xlabel="evaluations", ylabel="population spread", default=default, log_y=True
    )


def _differences(rows: Mapping[str, Mapping[str, Any]], default: str, path: Path) -> None:
    name = f"{PRIMARY}_against_{default}"
    lines = [
        (label, *(1e3 * row[name][bound] for bound in ("difference", "low", "high")))
        for label, row in rows.items()
        if name in row
    ]
    label = f"10³ F/F* on fresh pairs, minus that of {default} (left is better)"
    curves.differences(path, lines, xlabel=label, linear_within=1.0)


def _sensitivity(
    table: Mapping[str, Mapping[str, Any]], measured: Mapping[int, np.ndarray], defaults: Mapping[str, str], path: Path
) -> None:
    panels = {
        factor: (_levels(rows), np.stack([np.maximum(measured[row["cell"]], _FLOOR) for row in rows.values()]))
        for factor, rows in table.items()
    }
    default = {factor: _levels(rows)[[*rows].index(defaults[factor])] for factor, rows in table.items()}
    sensitivity.sensitivity(path, panels, ylabel="F/F* − 1 on fresh pairs", default=default, log_y=True)


def _levels(labels: Iterable[str]) -> list[sensitivity.Level]:
    """Return labels as numbers, where all of them are."""
    try:
        return [float(label) for label in labels]
    except ValueError:
        return [*labels]
