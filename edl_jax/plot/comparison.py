"""Figures of losses that were compared on a grid of settings."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edl_jax.core.errors import require
from edl_jax.plot.style import BLACK, BLUE, GREEN, GREY, ORANGE, SMALL, dress, log_numbers, new_figure, write
from edl_jax.plot.text import literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = 3  # at most
_WIDTH, _TITLE, _LINE = 3.0, 0.85, 0.24  # inches: of a panel, of its title and axis, of a loss in it
_MEAN, _RUNS = -0.16, (0.02, 0.32)  # places of mean and runs within a line
# verdict -> colour, marker, whether it is filled: each is told without colours, too
VERDICTS: Mapping[str, tuple[str, str, bool]] = {
    "better": (GREEN, ">", True),
    "worse": (ORANGE, "<", True),
    "level": (BLUE, "s", False),
    "open": (GREY, "o", False),
    "diverged": (BLACK, "x", True),
}


class Runs(NamedTuple):
    """A loss in a setting.

    Attributes:
      label: of the loss.
      values: of its runs.
      mean: over them.
      low: bound of the mean's interval, NaN where there is none.
      high: likewise.
    """

    label: str
    values: Sequence[float]
    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A loss against the baseline in a setting.

    Attributes:
      label: of the loss.
      difference: mean.
      low: bound of its interval, NaN where there is none.
      high: likewise.
      verdict: of `VERDICTS`.
    """

    label: str
    difference: float
    low: float
    high: float
    verdict: str


def settings(path: Path, panels: Mapping[str, Sequence[Runs]], **options: Any) -> None:
    """Write `settings_figure` to `path`."""
    write(path, settings_figure(panels, **options))


def settings_figure(panels: Mapping[str, Sequence[Runs]], *, xlabel: str) -> "Figure":
    """Draw every run as a dot, and the mean of each loss with its interval, a panel a setting.

    The vertical line is the mean of the first loss, the baseline.

    Args:
      panels: title -> losses, from top to bottom.
      xlabel: what is measured.

    Raises:
      UserError: no panels.
    """
    figure, axes = _panels(panels)
    for axis, (title, runs), named in zip(axes, panels.items(), _named(panels, lambda runs: runs.label), strict=True):
        axis.axvline(runs[0].mean, color=GREY, lw=0.9, zorder=1)
        for y, each in enumerate(runs):
            colour = GREY if y == 0 else BLUE
            shifts = np.linspace(*_RUNS, max(len(each.values), 2))[: len(each.values)]
            axis.plot(each.values, y + shifts, color=colour, marker="o", ms=2.8, lw=0, alpha=0.55, mew=0)
            if math.isfinite(each.low) and math.isfinite(each.high):
                axis.plot([each.low, each.high], [y + _MEAN] * 2, color=colour, lw=1.6, solid_capstyle="butt")
            axis.plot(each.mean, y + _MEAN, color=colour, marker="D", ms=5, mec="white", mew=0.6, lw=0)
        _lines(axis, title, [each.label for each in runs], xlabel, named=named)
    _legend(
        figure,
        {
            "a run": {"marker": "o", "ms": 2.5, "color": GREY, "alpha": 0.6, "lw": 0},
            "mean, 95 % interval": {"marker": "D", "ms": 5, "color": BLUE, "mec": "white", "lw": 2.0},
            "baseline": {"color": GREY, "lw": 0.9},
        },
    )
    return figure


def differences(path: Path, panels: Mapping[str, Sequence[Difference]], **options: Any) -> None:
    """Write `differences_figure` to `path`."""
    write(path, differences_figure(panels, **options))


def differences_figure(panels: Mapping[str, Sequence[Difference]], *, xlabel: str, margin: float) -> "Figure":
    """Draw differences to the baseline with their intervals, a panel a setting; differences that do not matter shaded.

    Args:
      panels: title -> losses, from top to bottom.
      xlabel: what the difference is of, and which side is better.
      margin: largest difference that does not matter.

    Raises:
      UserError: no panels.
    """
    figure, axes = _panels(panels, sharex=True)
    marks: dict[str, dict[str, Any]] = {}
    for axis, (title, rows), named in zip(axes, panels.items(), _named(panels, lambda row: row.label), strict=True):
        axis.axvspan(-margin, margin, color=BLUE, alpha=0.10, lw=0, zorder=0)
        axis.axvline(0.0, color=GREY, lw=0.9, zorder=1)
        for y, row in enumerate(rows):
            colour, marker, filled = VERDICTS[row.verdict]
            if math.isfinite(row.low) and math.isfinite(row.high):
                axis.plot([row.low, row.high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
            style = {"marker": marker, "ms": 6, "color": colour, "mfc": colour if filled else "white", "mew": 1.3}
            axis.plot(row.difference, y, **style, lw=0)
            marks[row.verdict] = {**style, "lw": 1.6}
        _lines(axis, title, [row.label for row in rows], xlabel, named=named)
    shown = {name: marks[name] for name in VERDICTS if name in marks}
    _legend(figure, {**shown, f"within ±{margin:g}": {"color": BLUE, "alpha": 0.2, "lw": 6}})
    return figure


def seeds_needed(path: Path, panels: Mapping[str, Sequence[tuple[str, float]]], **options: Any) -> None:
    """Write `seeds_needed_figure` to `path`."""
    write(path, seeds_needed_figure(panels, **options))


def seeds_needed_figure(panels: Mapping[str, Sequence[tuple[str, float]]], *, xlabel: str, have: int) -> "Figure":
    """Draw how many seeds a comparison takes, a panel a setting, on a logarithmic axis.

    Args:
      panels: title -> (label, seeds) of each loss, from top to bottom.
      xlabel: what the seeds are to show.
      have: seeds that there are.

    Raises:
      UserError: no panels.
    """
    figure, axes = _panels(panels, sharex=True)
    for axis, (title, rows), named in zip(axes, panels.items(), _named(panels, lambda row: row[0]), strict=True):
        axis.set_xscale("log")
        log_numbers(axis.xaxis)
        axis.axvline(have, color=GREY, lw=0.9, zorder=1)
        for y, (_, seeds) in enumerate(rows):
            enough = seeds <= have
            axis.plot([1.0, seeds], [y, y], color=GREY, lw=0.8, alpha=0.5, zorder=1)
            style = {"marker": "o", "ms": 6, "color": BLUE if enough else ORANGE, "mfc": BLUE if enough else "white"}
            axis.plot(seeds, y, **style, lw=0)
            shift = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 7, "color": GREY}
            axis.annotate(f"{seeds:,.0f}", (seeds, y), **shift)
        _lines(axis, title, [label for label, _ in rows], xlabel, named=named)
    most = max([have, *(seeds for rows in panels.values() for _, seeds in rows)])
    axes[0].set_xlim(1.0, 4.0 * most)  # room for the number beside the last dot
    _legend(
        figure,
        {
            f"seeds at hand: {have}": {"color": GREY, "lw": 0.9},
            "enough": {"marker": "o", "ms": 6, "color": BLUE, "lw": 0},
            "more needed": {"marker": "o", "ms": 6, "color": ORANGE, "mfc": "white", "lw": 0},
        },
    )
    return figure


def _panels(panels: Mapping[str, Sequence[Any]], *, sharex: bool = False) -> tuple["Figure", list[Any]]:
    """Return a figure and an axis for each panel, in rows of 3."""
    require(len(panels) > 0, "no panels to draw")
    columns = _columns(panels)
    rows = -(-len(panels) // columns)
    lines = max(len(losses) for losses in panels.values())
    figure = new_figure(1.6 + _WIDTH * columns, 0.4 + rows * (_TITLE + _LINE * max(lines, 2)))
    grid = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=False)
    axes = list(grid.flat)
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis in axes[: len(panels)]:
        dress(axis)
        axis.tick_params(axis="x", labelbottom=True)
    return figure, axes[: len(panels)]


def _columns(panels: Mapping[str, Any]) -> int:
    """Return the panels of a row."""
    return 2 if len(panels) == 4 else min(_COLUMNS, len(panels))


def _lines(axis: Any, title: str, labels: Sequence[str], xlabel: str, *, named: bool) -> None:
    """Name the losses of a panel, where the panel to its left does not."""
    axis.set_yticks(range(len(labels)), [literal(label) if named else "" for label in labels])
    axis.tick_params(axis="y", length=0, labelsize=SMALL)
    axis.tick_params(axis="x", labelsize=SMALL)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.spines["left"].set_visible(False)
    axis.set_title("\n".join(literal(line, 60) for line in title.split("\n")), fontsize=SMALL + 0.5, loc="left")
    axis.set_xlabel(xlabel, fontsize=SMALL)


def _named(panels: Mapping[str, Sequence[Any]], label: Callable[[Any], str]) -> list[bool]:
    """Return for each panel whether its losses are named: not where the first panel of its row has the same."""
    labels = [[label(each) for each in losses] for losses in panels.values()]
    starts = [i - i % _columns(panels) for i in range(len(labels))]
    return [i == start or labels[i] != labels[start] for i, start in enumerate(starts)]


def _legend(figure: "Figure", marks: Mapping[str, Mapping[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **style) for label, style in marks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=SMALL, frameon=False)
