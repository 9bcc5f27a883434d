"""Figures of how far small networks order losses as larger ones do."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax.plot.style import BLUE, COLOURS, GREY, ORANGE, PANEL, SMALL, dress, new_figure, write
from edl_jax.plot.text import literal

_SIDE = 2.35  # inches of a panel of the matrix
_NAME = 28  # characters of a network's name
_FAILED: Mapping[str, Any] = {"color": "#BBBBBB", "zorder": 2}
_MARKERS = "osD^vP"
_LEAST = 1e-4  # seconds
_CEILING = "what noise leaves room for"

# (value, low, high); the bounds may be NaN
Estimate = tuple[float, float, float]


class Panel(NamedTuple):
    """Two networks' ranks of the same n candidates.

    Attributes:
      x: `[n]` ranks by the smaller network, 1 for the best; candidates that failed share the mean of theirs.
      y: `[n]` ranks by the larger one.
      failed: `[n]` bool, whether a candidate failed in one of them.
      correlation: Spearman's, with its interval.
    """

    x: np.ndarray
    y: np.ndarray
    failed: np.ndarray
    correlation: Estimate


class Point(NamedTuple):
    """What a network costs, and how far it agrees with the reference.

    Attributes:
      name: of the network.
      seconds: a candidate.
      agreement: subset of the candidates -> Spearman's correlation with its interval.
      ceiling: subset -> the largest that noise leaves room for; empty where it was not measured.
    """

    name: str
    seconds: float
    agreement: Mapping[str, Estimate]
    ceiling: Mapping[str, float] = {}


def draw_ranks(path: Path, names: Sequence[str], panels: Mapping[tuple[int, int], Panel], best: int) -> None:
    """Draw a matrix of ranks against ranks, a panel a pair; on its diagonal networks against their repetitions.

    Args:
      path: file to write, as its suffix says.
      names: of the networks, the smaller first.
      panels: (row, column), places in `names` with row >= column -> ranks by the larger and the smaller one.
      best: how many candidates the band holds that marks the best of the larger network.
    """
    rows = sorted({row for row, _ in panels})
    columns = sorted({column for _, column in panels})
    figure = new_figure(_SIDE * max(len(columns), 1.6) + 0.5, _SIDE * len(rows) + 0.75)
    axes = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            axis = axes[i, j]
            if (row, column) not in panels:
                axis.set_axis_off()
                continue
            _draw_panel(axis, panels[row, column], best, "other seed: " if row == column else "")
            lowest = max(r for r, c in panels if c == column) == row
            if lowest:
                axis.set_xlabel(f"rank by {literal(names[column], _NAME)}", fontsize=SMALL + 1)
                axis.tick_params(labelbottom=True)
            if j == min(columns.index(c) for r, c in panels if r == row):
                axis.set_ylabel(f"rank by {literal(names[row], _NAME)}", fontsize=SMALL + 1)
    handles, labels = _union(axes)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=SMALL, frameon=False)
    write(path, figure)


def _draw_panel(axis: Any, panel: Panel, best: int, before: str) -> None:
    dress(axis)
    count = len(panel.x)
    axis.scatter([], [], 14.0, color=BLUE, lw=0, label="a loss")  # first in the legend
    axis.axhspan(0.5, best + 0.5, color=ORANGE, alpha=0.15, lw=0, zorder=0, label="best tenth of the larger network")
    axis.plot([1, count], [1, count], color=GREY, lw=0.8, zorder=1)
    size = min(14.0, max(4.0, 1400.0 / count))
    shown = panel.failed
    if shown.any():
        axis.scatter(panel.x[shown], panel.y[shown], size, marker="x", lw=0.8, label="failed in one of them", **_FAILED)
    axis.scatter(panel.x[~shown], panel.y[~shown], size, color=BLUE, lw=0, alpha=0.8, zorder=3)
    room = 0.03 * count
    ticks = _ticks(count)
    axis.set(xlim=(0.5 - room, count + 0.5 + room), ylim=(0.5 - room, count + 0.5 + room), xticks=ticks, yticks=ticks)
    axis.set_box_aspect(1.0)
    axis.tick_params(labelsize=SMALL)
    axis.set_title(before + _shown(panel.correlation), fontsize=SMALL + (not before))


def draw_cost(path: Path, reference: str, points: Sequence[Point]) -> None:
    """Draw agreement with a reference against seconds a candidate, a panel a subset.

    Args:
      path: file to write, as its suffix says.
      reference: name of the largest network.
      points: the other networks, the smaller first, at least one.
    """
    subsets = list(points[0].agreement)
    width, height = PANEL
    figure = new_figure(0.85 * width * len(subsets), height + 0.3)
    axes = figure.subplots(1, len(subsets), squeeze=False, sharex=True, sharey=True)[0]
    lowest = 0.0
    _number_seconds(axes, [point.seconds for point in points])
    for axis, subset in zip(axes, subsets, strict=True):
        dress(axis)
        for i, point in enumerate(points):
            value, low, high = point.agreement[subset]
            if not math.isfinite(value):
                continue
            colour = COLOURS[i % len(COLOURS)]
            bars = None if math.isnan(low) else [[max(value - low, 0.0)], [max(high - value, 0.0)]]
            style = {"marker": _MARKERS[i % len(_MARKERS)], "ms": 6, "color": colour, "capsize": 3, "lw": 1.3}
            axis.errorbar([point.seconds], [value], bars, label=literal(point.name, _NAME), ls="none", **style)
            lowest = min(lowest, value if math.isnan(low) else low)
            ceiling = point.ceiling.get(subset, math.nan)
            if math.isfinite(ceiling):
                axis.plot([point.seconds], [min(ceiling, 1.0)], marker="_", ms=16, mew=2, color=colour, ls="none")
        axis.axhline(0.0, color=GREY, lw=0.8, zorder=1)
        axis.set(title=subset, xlabel="seconds a candidate")
    axes[0].set(ylim=(max(lowest - 0.05, -1.05), 1.05), ylabel=f"Spearman correlation with {literal(reference, _NAME)}")
    if any(point.ceiling for point in points):
        axes[0].plot([], [], marker="_", ms=12, mew=2, color=GREY, ls="none", label=_CEILING)
    handles, labels = _union([axes])
    order = sorted(range(len(labels)), key=lambda i: labels[i] == _CEILING)
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4), fontsize=SMALL, frameon=False)
    write(path, figure)


def _number_seconds(axes: Sequence[Any], seconds: Sequence[float]) -> None:
    """Make axes of seconds logarithmic, with room for all, and numbers of which at least two are seen."""
    from matplotlib.ticker import FixedLocator, NullLocator

    least, most = max(min(seconds), _LEAST), max(*seconds, _LEAST)
    room = max((most / least) ** 0.15, 1.6)
    low, high = least / room, most * room
    powers = [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    for digits in ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        ticks = [digit * power for power in powers for digit in digits if low <= digit * power <= high]
        if len(ticks) >= 3:
            break
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xlim(low, high)
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter("{x:g}")


def _union(axes: Any) -> tuple[list[Any], list[str]]:
    """Return (handles, labels) of the legends of axes, each label once."""
    found: dict[str, Any] = {}
    for axis in (each for row in axes for each in row):
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return list(found.values()), list(found)


def _shown(correlation: Estimate) -> str:
    value, low, high = (f"{number:.2f}".replace("-", "−") for number in correlation)
    return "ρ undefined" if math.isnan(correlation[0]) else f"ρ = {value} ({low} to {high})"


def _ticks(count: int) -> list[int]:
    """Return ranks to write at an axis: the first, the last, and what lies between."""
    step = next(s * 10**e for e in range(9) for s in (1, 2, 5) if count <= 4.2 * s * 10**e)
    inner = [tick for tick in range(step, count, step) if count - tick > 0.4 * step]
    return [1, *(tick for tick in inner if tick > 1), count]
