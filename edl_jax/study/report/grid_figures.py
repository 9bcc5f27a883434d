"""The figures of a grid of `compare`: runs and differences, curves over epochs, reliability, shapes of losses."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.core.files import read_json
from edl_jax.core.runs import read_metrics
from edl_jax.downstream.scaling import BINS
from edl_jax.plot import learning
from edl_jax.plot.learning import Bins, Panel
from edl_jax.study.compare import figures
from edl_jax.study.compare.statistics import METRICS, Metric
from edl_jax.study.loss_spec import parse_loss
from edl_jax.study.report.drawing import drawn
from edl_jax.study.report.grid import Grid
from edl_jax.study.report.page import Figure, figure_of

# What is drawn over epochs: title, key in metrics.jsonl, factor, whether on a logarithmic axis.
_CURVES = (
    ("test accuracy (%)", "test_accuracy", 100.0, False),
    ("train accuracy, augmented (%)", "train_accuracy", 100.0, False),
    ("test NLL", "test_nll", 1.0, True),
)
_CAPTIONS = {
    "runs": "A dot is a run, a diamond the mean with its 95 % interval.",
    "differences": "Mean difference with its 95 % interval; shaded is the margin within which losses are level.",
    "seeds_needed": "Given the spread of the paired differences.",
}
Place = tuple[str, str, str, float]


def statistics(grid: Grid) -> tuple[list[Figure], list[Figure]]:
    """Return the figures of accuracy, drawn for the page, and those of other metrics, as `compare` has drawn them."""
    primary, *others = METRICS
    with tempfile.TemporaryDirectory(prefix="edl-jax-") as folder:
        figures.draw(Path(folder), grid.config, grid.rows, grid.groups(), "svg", metrics=[primary])
        first = [_figure(Path(folder), kind, primary) for kind in _CAPTIONS]
    rest = [
        _figure(grid.source.path / "figures", kind, metric) for metric in others for kind in ("runs", "differences")
    ]
    return [each for each in first if each is not None], [each for each in rest if each is not None]


def _figure(folder: Path, kind: str, metric: Metric) -> Figure | None:
    stem, title = f"{kind}_{metric.name}", f"{kind.capitalize()}, {metric.title}"
    if kind == "seeds_needed":
        stem, title = kind, "Seeds needed"
    for suffix in ("svg", "png"):
        found = figure_of(folder / f"{stem}.{suffix}", title, _CAPTIONS[kind])
        if found is not None:
            return found
    return None


def of_place(grid: Grid, place: Place) -> list[Figure]:
    """Return the figures of the runs of a setting: learning curves and reliability."""
    titles = {row.loss: parse_loss(row.loss).title for row in grid.at(place, METRICS[0].name)}
    folders = {loss: [_folder(grid, each) for each in grid.cells(place, loss)] for loss in titles}
    wanted: dict[tuple[str, str], Any] = {}
    panels = _curves(titles, folders)
    if panels:
        wanted["Learning curves", "Mean over seeds with 95 % intervals, epoch by epoch."] = partial(
            learning.draw_curves, panels=panels
        )
    bins = {titles[loss]: found for loss, paths in folders.items() if (found := pooled_bins(paths)) is not None}
    if bins:
        wanted["Reliability before and after temperature scaling", _reliability_caption(bins.values())] = partial(
            learning.draw_reliability, panels=bins
        )
    return drawn(wanted)


def num_classes(grid: Grid) -> int:
    """Return the number of classes of the first finished cell that says it, or 10."""
    for each in grid.result["cells"]:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return len(read_json(_folder(grid, each) / "report.json")["per_class_accuracy"])
    return 10


def pooled_bins(folders: Sequence[Path]) -> tuple[Bins, Bins | None] | None:
    """Return the bins of runs together, as predicted and at their temperatures; None where no run has them.

    Args:
      folders: run directories.
    """
    before: list[Bins] = []
    after: list[Bins] = []
    for folder in folders:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            report = read_json(folder / "report.json")
            found = bins_of(report["bins"])
            if found.examples.sum() > 0 and (not before or found.examples.shape == before[0].examples.shape):
                before.append(found)
                after.append(bins_of(report["scaled_bins"]))
    if not before:
        return None
    return _sum(before), (_sum(after) if len(after) == len(before) else None)


def bins_of(stored: Mapping[str, Any]) -> Bins:
    """Return bins as report.json has them.

    Raises:
      LookupError, TypeError, ValueError: they are not that.
    """
    bins = Bins(*(np.asarray(stored[name], np.float64) for name in BINS))
    if len({each.shape for each in bins}) > 1 or bins.examples.ndim != 1 or not np.isfinite(np.array(bins)).all():
        raise ValueError("it holds no bins of one length")
    return bins


def _sum(bins: Sequence[Bins]) -> Bins:
    total = bins[0]
    for each in bins[1:]:
        total = total.plus(each)
    return total


def _reliability_caption(found: Any) -> str:
    text = (
        "Test images of all seeds together, whose ECE is smaller than the mean over seeds, for errors of opposite sign "
        "cancel. A point below 0 is a bin that was too sure, one above 0 one that was not sure enough; larger points "
        "hold more images, and the line leaves out bins with less than 1 % of them."
    )
    if any(after is None for _, after in found):
        text += " Runs without a second curve hold no bins at a temperature."
    return text


def _curves(titles: Mapping[str, str], folders: Mapping[str, Sequence[Path]]) -> list[Panel]:
    """Return the quantities over epochs that the runs have."""
    rows: dict[str, list[list[dict[str, Any]]]] = {}
    for loss, paths in folders.items():
        for path in paths:
            with contextlib.suppress(OSError, UserError):  # a damaged file costs its curve, no more
                found = read_metrics(path)
                if found:
                    rows.setdefault(loss, []).append(found)
    panels = []
    for title, key, unit, log_y in _CURVES:
        curves = {}
        for loss, runs in rows.items():
            epochs = min(map(len, runs))
            values = np.array([[_number(row.get(key)) for row in run[:epochs]] for run in runs], np.float64)
            if np.isfinite(values).any():
                curves[titles[loss]] = unit * values
        if curves:
            panels.append(Panel(title, curves, log_y))
    return panels


def _number(value: Any) -> float:
    return np.nan if value is None else float(value)


def _folder(grid: Grid, each: Mapping[str, Any]) -> Path:
    return grid.source.path / "cells" / str(each["name"])
