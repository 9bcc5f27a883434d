"""Figures of an elimination of losses: ranks of consecutive stages, and the finals."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax.plot.style import BLUE, GREY, ORANGE, SMALL, dress, new_figure, write
from edl_jax.plot.text import literal

_SIDE = 3.0  # inches of a panel of ranks


class Ranks(NamedTuple):
    """Ranks of the same n losses in two stages.

    Attributes:
      x_label: the earlier stage.
      y_label: the later one.
      x: `[n]` ranks in the earlier stage, 1 for the best.
      y: `[n]` ranks in the later one.
      survives: `[n]` bool, whether a loss goes on from the later one.
      spearman: correlation, or NaN.
    """

    x_label: str
    y_label: str
    x: np.ndarray
    y: np.ndarray
    survives: np.ndarray
    spearman: float


class Finalist(NamedTuple):
    """A loss of the finals.

    Attributes:
      name: of the loss.
      values: one number a run; those that are not finite are not drawn.
      mean: their mean, or NaN.
      low: lower bound of its interval, or NaN.
      high: upper bound, or NaN.
    """

    name: str
    values: Sequence[float]
    mean: float
    low: float
    high: float


def draw_ranks(path: Path, pairs: Sequence[Ranks]) -> None:
    """Draw ranks against ranks, a panel for each pair of stages.

    Args:
      path: file to write, as its suffix says.
      pairs: consecutive stages, at least one pair.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(_SIDE * max(len(pairs), 1.5), _SIDE + 0.7)
    axes = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axis, pair in zip(axes, pairs, strict=True):
        dress(axis)
        count = len(pair.x)
        axis.plot([1, count], [1, count], color=GREY, lw=0.8, zorder=1)
        for chosen, colour, label in (
            (~pair.survives, BLUE, "a loss that ends"),
            (pair.survives, ORANGE, "a loss that goes on"),
        ):
            style = {"color": colour, "marker": "o" if colour == BLUE else "D", "zorder": 3, "lw": 0, "alpha": 0.85}
            axis.scatter(pair.x[chosen], pair.y[chosen], 22, label=label, **style)
        rho = "undefined" if math.isnan(pair.spearman) else f"= {pair.spearman:.2f}".replace("-", "−")
        room = 0.5 + 0.03 * count
        limits = (1 - room, count + room)
        axis.set(xlim=limits, ylim=limits, xlabel=f"rank in {literal(pair.x_label)}")
        axis.set_ylabel(f"rank in {literal(pair.y_label)}")
        axis.set_title(f"ρ {rho}, n = {count}", fontsize=SMALL + 2)
        axis.set_box_aspect(1.0)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(MaxNLocator(5, integer=True))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=SMALL, frameon=False)
    write(path, figure)


def draw_finals(path: Path, panels: Sequence[tuple[str, Sequence[Finalist]]]) -> None:
    """Draw the runs of every loss as dots, and their mean with its interval, a panel for each number.

    Args:
      path: file to write, as its suffix says.
      panels: (what is measured, losses, the first the one that the others are compared with).
    """
    count = max(len(losses) for _, losses in panels)
    figure = new_figure(4.2 * len(panels), 1.3 + 0.36 * count)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (label, losses) in zip(axes, panels, strict=True):
        dress(axis)
        if math.isfinite(losses[0].mean):
            axis.axvline(losses[0].mean, color=GREY, lw=0.9, ls="--", zorder=1)
        for y, (_, values, mean, low, high) in enumerate(losses):
            colour = ORANGE if y == 0 else BLUE
            seen = [value for value in values if math.isfinite(value)]
            axis.plot(seen, [y] * len(seen), "o", ms=3.5, mfc="none", color=colour, alpha=0.7, label="a run")
            if math.isfinite(low) and math.isfinite(high):
                axis.plot([low, high], [y, y], color=colour, lw=1.8, solid_capstyle="butt", label="95 % interval")
            if math.isfinite(mean):
                axis.plot(mean, y, "D", ms=5.5, color=colour, label="mean")
            if not seen:
                axis.annotate("diverged", (0.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL)
        axis.set(xlabel=label, xlim=_limits(losses), ylim=(len(losses) - 0.5, -0.5))
    axes[0].set_yticks(range(count), [literal(each.name, 40) for each in panels[0][1]], fontsize=SMALL + 1)
    found: dict[str, Any] = {}
    for handle, name in zip(*axes[0].get_legend_handles_labels(), strict=True):
        found.setdefault(name, handle)
    if found:
        figure.legend([*found.values()], [*found], loc="outside lower right", ncols=3, fontsize=SMALL, frameon=False)
    write(path, figure)


def _limits(losses: Sequence[Finalist]) -> tuple[float, float]:
    """Return limits that hold all runs, and intervals as far as they reach no further than these are apart."""
    values = [value for each in losses for value in each.values if math.isfinite(value)] or [0.0]
    bounds = [bound for each in losses for bound in (each.low, each.high) if math.isfinite(bound)] or values
    low, high = min(values), max(values)
    span = high - low or 0.01
    left, right = max(min([low, *bounds]), low - span), min(max([high, *bounds]), high + span)
    room = 0.04 * (right - left) or 0.01
    return left - room, right + room
