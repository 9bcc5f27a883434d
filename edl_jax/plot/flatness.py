"""Figures of the minima that losses lead to."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax.plot.style import COLOURS, GREY, PANEL, SMALL, dress, log_numbers, new_figure, write
from edl_jax.plot.text import literal

_MARKERS = "osD^vP"
_LEVELS = 16
_SHADE = 0.12
_FAR_APART = 20.0  # largest number over smallest


class Point(NamedTuple):
    """A number of a run.

    Attributes:
      group: title of its loss.
      value: the number.
      error: its standard error, or None.
    """

    group: str
    value: float
    error: float | None = None


class Slice(NamedTuple):
    """A number along lines through the weights.

    Attributes:
      group: title of the run's loss.
      values: `[D, S]`, a row a direction.
    """

    group: str
    values: np.ndarray


def draw_points(path: Path, panels: Mapping[str, Sequence[Point]]) -> None:
    """Draw numbers of runs by loss, a panel a number; an axis of numbers that differ much is logarithmic.

    Args:
      path: file to write, as its suffix says.
      panels: title -> the points.
    """
    groups = list(dict.fromkeys(point.group for points in panels.values() for point in points))
    width = max(2.6, 0.7 * len(groups) + 1.2)
    figure = new_figure(width * len(panels), 3.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        dress(axis)
        for place, group in enumerate(groups):
            found = [point for point in points if point.group == group and math.isfinite(point.value)]
            spread = 0.16 * (np.arange(len(found)) - 0.5 * (len(found) - 1)) / max(1, 0.35 * (len(found) - 1))
            for offset, point in zip(spread, found, strict=True):
                colour = COLOURS[place % len(COLOURS)]
                style: dict[str, Any] = {"marker": _MARKERS[place % len(_MARKERS)], "ms": 5, "color": colour}
                axis.errorbar([place + offset], [point.value], None if point.error is None else [point.error], **style)
        values = [point.value for point in points]
        if values and max(values) > _FAR_APART * min(values) > 0.0:
            axis.set_yscale("log")
            log_numbers(axis.yaxis)
        elif values and min(values) >= 0.0:
            axis.set_ylim(0.0, 1.08 * max(point.value + (point.error or 0.0) for point in points) or None)
        axis.set_xticks(range(len(groups)), [literal(group, 18) for group in groups], fontsize=SMALL, rotation=20)
        for label in axis.get_xticklabels():
            label.set_horizontalalignment("right")
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.set_title(title, fontsize=SMALL + 1)
        axis.tick_params(labelsize=SMALL, which="both")
    write(path, figure)


def draw_slices(
    path: Path, at: np.ndarray, panels: Mapping[str, Sequence[Slice]], *, logarithmic: Sequence[str]
) -> None:
    """Draw numbers along lines, a panel a number: the mean over directions of each run, and their range.

    Args:
      path: file to write, as its suffix says.
      at: `[S]` positions.
      panels: title -> slices of the runs.
      logarithmic: titles whose axes are.
    """
    width, height = PANEL
    figure = new_figure(0.9 * width * len(panels), height)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    groups = list(dict.fromkeys(each.group for found in panels.values() for each in found))
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        dress(axis)
        seen: set[str] = set()
        for each in found:
            colour = COLOURS[groups.index(each.group) % len(COLOURS)]
            label = None if each.group in seen else literal(each.group)
            seen.add(each.group)
            values = np.where(np.isfinite(each.values), each.values, np.nan)
            known = np.isfinite(values).all(axis=0)
            where, values = at[known], values[:, known]
            mean = (
                np.exp(np.mean(np.log(values), axis=0)) if _is_log(title, logarithmic, values) else values.mean(axis=0)
            )
            axis.plot(where, mean, color=colour, lw=1.5, label=label)
            axis.fill_between(where, values.min(axis=0), values.max(axis=0), color=colour, alpha=_SHADE, lw=0)
        if title in logarithmic:
            axis.set_yscale("log")
            log_numbers(axis.yaxis)
        axis.axvline(0.0, color=GREY, lw=0.8, ls=":")
        axis.set(xlabel="step, in lengths of the filters", title=title)
        axis.locator_params(axis="x", nbins=5)
    found_labels: dict[str, Any] = {}
    for axis in axes:
        found_labels |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    style = {"ncols": min(len(found_labels), 5), "fontsize": SMALL, "frameon": False}
    figure.legend(list(found_labels.values()), list(found_labels), loc="outside lower center", **style)
    write(path, figure)


def _is_log(title: str, logarithmic: Sequence[str], values: np.ndarray) -> bool:
    return title in logarithmic and bool(np.all(values > 0.0))


def draw_planes(path: Path, at: np.ndarray, planes: Mapping[str, np.ndarray]) -> None:
    """Draw cross-entropy in a plane as lines of equal height, a panel a run, with the same heights in all.

    Args:
      path: file to write, as its suffix says.
      at: `[G]` positions along a side.
      planes: title -> `[G, G]`, the second direction in the rows; what is not finite is left white.
    """
    columns = min(len(planes), 3)
    rows = math.ceil(len(planes) / columns)
    figure = new_figure(3.3 * columns + 0.8, 3.0 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    heights = {
        title: np.log10(np.where(np.isfinite(plane) & (plane > 0.0), plane, np.nan)) for title, plane in planes.items()
    }
    known = np.concatenate([each[np.isfinite(each)] for each in heights.values()])
    low, high = float(known.min()), float(known.max())
    levels = np.linspace(low, max(high, low + 1e-3), _LEVELS)
    drawn: Any = None
    for axis, (title, height) in zip(axes.flat, heights.items(), strict=False):
        masked = np.ma.masked_invalid(height)
        drawn = axis.contourf(at, at, masked, levels=levels, cmap="viridis")
        axis.contour(at, at, masked, levels=levels[::2], colors="white", linewidths=0.5, linestyles="solid")
        axis.plot([0.0], [0.0], marker="+", color="white", ms=8, mew=1.5)
        axis.set_title(literal(title), fontsize=SMALL + 1)
        axis.set_aspect("equal")
        axis.tick_params(labelsize=SMALL)
    for axis in axes.flat[len(heights) :]:
        axis.set_axis_off()
    for axis in axes.flat[max(len(heights) - columns, 0) : len(heights)]:
        axis.tick_params(labelbottom=True)
        axis.set_xlabel("first direction", fontsize=SMALL)
    for row in axes:
        row[0].set_ylabel("second direction", fontsize=SMALL)
    bar = figure.colorbar(drawn, ax=list(axes.flat), shrink=0.85)
    ticks = _round_heights(low, high)
    bar.set_ticks([math.log10(tick) for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
    bar.set_label("cross-entropy", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    write(path, figure)


def _round_heights(low: float, high: float) -> list[float]:
    """Return heights to write, between powers of ten `low` and `high`: a few round ones."""
    for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        found = [d * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for d in digits]
        inside = [x for x in found if low <= math.log10(x) <= high]
        if len(inside) >= 3:
            break
    return inside
