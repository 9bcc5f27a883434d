"""The sensitivity figure of an ablation study: one panel a factor, every run a point."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edl_jax.core.errors import require
from edl_jax.plot.style import BLUE, GREY, ORANGE, SMALL, dress, log_numbers, new_figure, write
from edl_jax.plot.text import literal
from edl_jax.stats import intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Level = str | float

# Room of a row, in levels side by side, and of a panel.
_LEVELS_PER_ROW = 18
_NARROWEST = 4
_LEVEL_WIDTH = 0.61


def sensitivity(path: Path, factors: Mapping[str, tuple[Sequence[Level], np.ndarray]], **options: Any) -> None:
    """Write `sensitivity_figure` to `path`."""
    write(path, sensitivity_figure(factors, **options))


def sensitivity_figure(
    factors: Mapping[str, tuple[Sequence[Level], np.ndarray]],
    *,
    ylabel: str,
    default: Mapping[str, Level],
    reference: float | None = None,
    log_y: bool = False,
) -> "Figure":
    """Draw one panel a factor: every run as a point, mean and 95 % interval of each level, y shared.

    The default level is orange, a square, and shaded. Infinite values (runs that never got there) are triangles at the
    upper edge; their level has no mean, and its median is drawn as a bar instead. Numeric levels stand at their values,
    logarithmic where they span a factor of 8, unless that would crowd them.

    Args:
      factors: factor to its levels and values `[levels, runs]`; NaN pads levels with fewer runs.
      ylabel: what is drawn.
      default: default level of each factor; factors without one have no mark.
      reference: height of a horizontal line.
      log_y: logarithmic y; intervals stay those of the values.

    Raises:
      UserError: no factors, values without one row a level, or a default that is not a level of its factor.
    """
    require(len(factors) > 0, "no factors to draw")
    rows = _pack({name: max(_NARROWEST, len(levels)) for name, (levels, _) in factors.items()})
    columns = max(sum(width for _, width in row) for row in rows)
    figure = new_figure(max(5.0, _LEVEL_WIDTH * columns), 2.9 * len(rows))
    grid = figure.add_gridspec(len(rows), columns)
    first = None
    infinite = False
    for row, members in enumerate(rows):
        start = 0
        for name, width in members:
            axis = figure.add_subplot(grid[row, start : start + width], sharey=first)
            first = first or axis
            dress(axis)
            levels, values = factors[name]
            values = np.asarray(values, np.float64)
            shape = f"values of {name} have shape {values.shape}, expected one row for each of {len(levels)} levels"
            require(values.ndim == 2 and len(values) == len(levels), shape)
            chosen = default.get(name)
            known = f"default {chosen!r} is not a level of {name}: {', '.join(map(str, levels))}"
            require(chosen is None or chosen in levels, known)
            infinite |= bool(np.isposinf(values).any())
            _levels(axis, levels, values, chosen)
            if reference is not None:
                axis.axhline(reference, color=GREY, lw=0.9, ls=":", zorder=1)
            axis.set_title(literal(name), fontsize=10)
            if start == 0:
                axis.set_ylabel(ylabel)
            else:
                axis.tick_params(which="both", labelleft=False)
            if log_y:
                axis.set_yscale("log")
                log_numbers(axis.yaxis)
            start += width
    _sensitivity_legend(figure, infinite, bool(default))
    return figure


def _levels(axis: Any, levels: Sequence[Level], values: np.ndarray, chosen: Level | None) -> None:
    """Draw the levels of one factor."""
    at = _positions(levels)
    gap = float(np.min(np.diff(np.sort(at)))) if len(at) > 1 else 1.0
    means = []
    for level, x, runs in zip(levels, at, values, strict=True):
        runs = runs[~np.isnan(runs)]
        is_default = chosen is not None and level == chosen
        colour = ORANGE if is_default else BLUE
        if is_default:
            axis.axvspan(x - 0.42 * gap, x + 0.42 * gap, color=ORANGE, alpha=0.1, lw=0)
        # Runs of one value stay apart.
        beside = x + gap * np.linspace(-0.22, 0.22, len(runs)) if len(runs) > 1 else np.full(len(runs), x)
        finite = np.isfinite(runs)
        axis.plot(beside[finite], runs[finite], ls="", marker=".", ms=4, color=colour, alpha=0.45, mew=0)
        if np.any(runs == np.inf):
            upper = axis.get_xaxis_transform()
            never = beside[runs == np.inf]
            style = {"ls": "", "marker": "^", "ms": 4, "mfc": "none", "mew": 0.8, "clip_on": False}
            axis.plot(never, np.full(len(never), 0.98), color=colour, transform=upper, **style)
        mean, low, high = intervals.interval(runs) if len(runs) else (math.nan,) * 3
        means.append(mean)
        if math.isfinite(mean):
            error = [[mean - low], [high - mean]] if math.isfinite(low) else None
            marker = "s" if is_default else "o"
            axis.errorbar(x, mean, error, fmt=marker, ms=5, color=colour, capsize=2.5, lw=1.4, zorder=4)
        elif len(runs) and math.isfinite(median := intervals.median_interval(runs).mean):
            axis.plot([x - 0.3 * gap, x + 0.3 * gap], [median] * 2, color=colour, lw=1.8, zorder=4)
    if _numeric(levels):
        order = np.argsort(at)
        axis.plot(at[order], np.array(means)[order], color=BLUE, lw=0.8, alpha=0.6, zorder=2)
    names = [str(level) if isinstance(level, (str, bool)) else f"{level:g}" for level in levels]
    slanted = max(map(len, names)) > 5
    turn = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axis.set_xticks(at, [literal(name, width=16) for name in names], fontsize=SMALL, **turn)
    axis.set_xlim(np.min(at) - 0.6 * gap, np.max(at) + 0.6 * gap)
    axis.grid(False, axis="x")


def _positions(levels: Sequence[Level]) -> np.ndarray:
    """Return where levels stand: at their (logarithmic) values, or one after another if that would crowd them."""
    if _numeric(levels) and len(levels) > 1:
        at = np.array(levels, np.float64)
        if at.min() > 0.0 and at.max() >= 8.0 * at.min():
            at = np.log(at)
        if np.min(np.diff(np.sort(at))) >= 0.7 * np.ptp(at) / (len(at) - 1):
            return at
        return np.argsort(np.argsort(at)).astype(np.float64)
    return np.arange(len(levels), dtype=np.float64)


def _numeric(levels: Sequence[Level]) -> bool:
    return not any(isinstance(level, (str, bool)) for level in levels)


def _pack(widths: Mapping[str, int]) -> list[list[tuple[str, int]]]:
    """Return rows of (factor, width), in order, none wider than the figure."""
    rows: list[list[tuple[str, int]]] = [[]]
    for name, width in widths.items():
        width = min(width, _LEVELS_PER_ROW)
        if sum(w for _, w in rows[-1]) + width > _LEVELS_PER_ROW:
            rows.append([])
        rows[-1].append((name, width))
    return rows


def _sensitivity_legend(figure: "Figure", infinite: bool, default: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="", marker=".", color=BLUE, alpha=0.6, label="one run"),
        Line2D([], [], marker="o", ms=5, color=BLUE, label="mean, 95 % interval"),
    ]
    if default:
        handles.append(Line2D([], [], marker="s", ms=5, color=ORANGE, label="default level"))
    if infinite:
        handles += [
            Line2D([], [], ls="", marker="^", ms=4, mfc="none", color=BLUE, label="run that never got there"),
            Line2D([], [], lw=1.8, color=BLUE, label="median, where some never did"),
        ]
    columns = len(handles) if figure.get_figwidth() > 9.0 else 2
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
