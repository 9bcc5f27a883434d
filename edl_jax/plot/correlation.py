"""Figures of how numbers of losses go with the accuracy of networks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax.plot.style import COLOURS, GREY, SMALL, dress, log_numbers, new_figure, write
from edl_jax.plot.text import literal

_COLUMNS = 4
_WIDTH, _HEIGHT = 2.55, 2.2  # inches of a panel
_MARKERS = "osD^vP"
_NAME = 30  # characters of a network's name
_FAR = 20.0  # largest number over smallest, from which on an axis is logarithmic
_KEPT = (0.02, 0.98)  # quantiles of the values, beyond which one far away does not stretch an axis
_ROOM = 1.0  # how far beyond them, in their distance

# (value, low, high); NaN where there is none
Estimate = tuple[float, float, float]


class Panel(NamedTuple):
    """A number of n losses beside the accuracy of a network.

    Attributes:
      title: of the number.
      x: `[n]` values; NaN where a loss has none.
      y: `[n]` accuracies.
      families: n names.
      failed: `[n]` bool, whether the network learnt nothing.
      correlation: Spearman's, positive where the points rise to the right.
      reversed: whether less is better, so that the axis runs to the left.
      logarithmic: whether values that differ much are on a logarithmic axis.
    """

    title: str
    x: np.ndarray
    y: np.ndarray
    families: Sequence[str]
    failed: np.ndarray
    correlation: Estimate
    reversed: bool = False
    logarithmic: bool = False


class Dot(NamedTuple):
    """A correlation with a network's accuracy."""

    network: str
    correlation: Estimate


def draw_scatter(path: Path, panels: Sequence[Panel], *, title: str, chance: float) -> None:
    """Draw accuracy against numbers, a panel a number, coloured by family.

    Axes fit the losses that trained: values beyond are drawn at the edge, and accuracies below a guess's at that.

    Args:
      path: file to write, as its suffix says.
      panels: of the same losses.
      title: of the figure, which names the network.
      chance: accuracy of a guess.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(_WIDTH * columns + 0.4, _HEIGHT * rows + 0.6)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    families = list(dict.fromkeys(family for panel in panels for family in panel.families))
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for place, (axis, panel) in enumerate(zip(axes.flat, panels, strict=False)):
        _draw_panel(axis, panel, families, chance)
        if place % columns == 0:
            axis.set_ylabel("accuracy", fontsize=SMALL)
    figure.suptitle(literal(title, 90), fontsize=SMALL + 2)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=SMALL, frameon=False)
    write(path, figure)


def _draw_panel(axis: Any, panel: Panel, families: Sequence[str], chance: float) -> None:
    dress(axis)
    shown = np.isfinite(panel.x)
    right = shown & ~panel.failed
    fitted = panel.x[right] if right.any() else panel.x[shown]
    is_log = panel.logarithmic and _differ(fitted)
    low, high = _limits(fitted, is_log)
    x, y = np.clip(panel.x, low, high), np.maximum(panel.y, chance)
    family = np.array(panel.families)
    for i, name in enumerate(families):
        chosen = right & (family == name)
        style = {"s": 18, "color": COLOURS[i % len(COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
        axis.scatter(x[chosen], y[chosen], **style, lw=0, alpha=0.85, zorder=3, label=literal(name))
    failed = shown & panel.failed
    axis.scatter(x[failed], y[failed], 16, color=GREY, marker="x", lw=0.9, label="failed")
    axis.axhline(chance, color=GREY, lw=0.8, ls=":", label="a guess")
    if is_log:
        axis.set_xscale("log")
        log_numbers(axis.xaxis)
    room = 0.05
    if is_log:
        low, high = low * (low / high) ** room, high * (high / low) ** room
    else:
        low, high = low - room * (high - low or 1.0), high + room * (high - low or 1.0)
    axis.set_xlim(*((high, low) if panel.reversed else (low, high)))
    axis.set_title(_shown(panel.correlation), fontsize=SMALL)
    axis.set_xlabel(f"{panel.title}{' (less is better)' if panel.reversed else ''}", fontsize=SMALL)
    axis.tick_params(labelsize=SMALL - 1, which="both")
    if not is_log:
        axis.locator_params(axis="x", nbins=4)


def _differ(values: np.ndarray) -> bool:
    return bool(len(values) and values.min() > 0.0 and values.max() > _FAR * values.min())


def _limits(values: np.ndarray, is_log: bool) -> tuple[float, float]:
    """Return the ends of an axis; values far beyond most of the others are drawn at its end."""
    scale = np.log(values) if is_log else values
    first, last = np.quantile(scale, _KEPT)
    room = _ROOM * (last - first)
    low, high = max(scale.min(), first - room), min(scale.max(), last + room)
    return (math.exp(low), math.exp(high)) if is_log else (float(low), float(high))


def draw_correlations(path: Path, panels: Mapping[str, Mapping[str, Sequence[Dot]]]) -> None:
    """Draw correlations with their intervals, a panel a subset of the losses, a line a number, coloured by network.

    Args:
      path: file to write, as its suffix says.
      panels: title of the subset -> title of the number -> a dot for each network; all have the same numbers.
    """
    numbers = list(next(iter(panels.values())))
    networks = list(dict.fromkeys(dot.network for dots in next(iter(panels.values())).values() for dot in dots))
    height = 0.16 * (len(networks) + 1.2)
    figure = new_figure(1.7 + 2.5 * len(panels), 1.1 + height * len(numbers))
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (title, found) in zip(axes, panels.items(), strict=True):
        dress(axis)
        axis.axvline(0.0, color=GREY, lw=0.9, zorder=1)
        for y, number in enumerate(numbers):
            if y % 2:
                axis.axhspan(y - 0.5, y + 0.5, color=GREY, alpha=0.06, lw=0, zorder=0)
            for dot in found.get(number, ()):
                i = networks.index(dot.network)
                at = y + 0.72 * ((i + 0.5) / len(networks) - 0.5)
                value, low, high = dot.correlation
                colour = COLOURS[i % len(COLOURS)]
                if math.isfinite(low) and math.isfinite(high):
                    axis.plot([low, high], [at, at], color=colour, lw=1.3, solid_capstyle="butt")
                if math.isfinite(value):
                    axis.plot(value, at, color=colour, marker=_MARKERS[i % len(_MARKERS)], ms=4.5, lw=0)
        axis.set_title(title, fontsize=SMALL + 1)
        axis.set_xlabel("Spearman correlation", fontsize=SMALL)
        axis.tick_params(labelsize=SMALL)
    axes[0].set_yticks(range(len(numbers)), numbers)
    axes[0].set(ylim=(len(numbers) - 0.5, -0.5), xlim=(-1.05, 1.05))
    for axis in axes:
        axis.grid(visible=False, axis="y")
        axis.tick_params(axis="y", length=0)
    _network_legend(figure, networks)
    write(path, figure)


def _network_legend(figure: Any, networks: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            label=literal(name, _NAME),
            color=COLOURS[i % len(COLOURS)],
            marker=_MARKERS[i % len(_MARKERS)],
            ms=4.5,
            lw=1.3,
        )
        for i, name in enumerate(networks)
    ]
    style = {"ncols": min(len(handles), 5), "fontsize": SMALL, "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", **style)


def _shown(correlation: Estimate) -> str:
    value, low, high = (f"{number:.2f}".replace("-", "−") for number in correlation)
    return "ρ undefined" if math.isnan(correlation[0]) else f"ρ = {value} ({low} to {high})"
