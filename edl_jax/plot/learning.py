"""Figures of how networks learn with several losses: curves over epochs, and reliability before and after scaling."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edl_jax.core.errors import require
from edl_jax.plot.style import BLUE, COLOURS, GREY, ORANGE, SMALL, dress, log_numbers, new_figure, write
from edl_jax.plot.text import literal
from edl_jax.stats import intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLES = ("-", "--", ":", "-.")
_COLUMNS = 4  # of reliability diagrams, at most
_FEW = 0.01  # share of the examples that a bin must have to be on the line
_POINTS = 30  # epochs up to which each is a marked point


class Panel(NamedTuple):
    """A quantity over epochs.

    Attributes:
      ylabel: what it is.
      curves: label -> `[runs, epochs]`, NaN where it is not known.
      log_y: whether its axis is logarithmic.
    """

    ylabel: str
    curves: Mapping[str, np.ndarray]
    log_y: bool = False


class Bins(NamedTuple):
    """Predictions by their confidence, in bins of equal width.

    Attributes:
      examples: `[bins]` how many.
      correct: `[bins]` correct predictions.
      confidence: `[bins]` sum of confidence.
    """

    examples: np.ndarray
    correct: np.ndarray
    confidence: np.ndarray

    @property
    def ece(self) -> float:
        """Return the expected calibration error."""
        return float(np.abs(self.correct - self.confidence).sum() / self.examples.sum())

    def plus(self, other: "Bins") -> "Bins":
        """Return the bins of both together."""
        return Bins(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def draw_curves(path: Path, panels: Sequence[Panel]) -> None:
    """Write `curves_figure` to `path`."""
    write(path, curves_figure(panels))


def curves_figure(panels: Sequence[Panel]) -> "Figure":
    """Draw the mean over runs of each label against epochs, with 95 % intervals point by point, a panel a quantity.

    The y-axis holds every run. The interval of two or three runs can be many times as wide, and is then cut.

    Args:
      panels: quantities, with the same labels.

    Raises:
      UserError: no panels.
    """
    require(len(panels) > 0, "no curves to draw")
    figure = new_figure(3.4 * len(panels) + 0.4, 3.3)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    handles: dict[str, Any] = {}
    for axis, panel in zip(axes, panels, strict=True):
        dress(axis)
        axis.set(xlabel="epoch", ylabel=panel.ylabel, yscale="log" if panel.log_y else "linear")
        if panel.log_y:
            log_numbers(axis.yaxis)
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        for i, (label, values) in enumerate(panel.curves.items()):
            mean, low, high = (np.asarray(part, np.float64) for part in intervals.band(np.asarray(values, np.float64)))
            x = np.arange(1, len(mean) + 1)
            colour = COLOURS[i % len(COLOURS)]
            if panel.log_y:  # an interval that reaches 0 has no place there
                low = np.maximum(low, mean / 10.0)
            axis.fill_between(x, low, high, color=colour, alpha=0.13, lw=0)
            style = {"color": colour, "ls": _STYLES[i // len(COLOURS) % len(_STYLES)], "lw": 1.4}
            marker = "o" if len(x) <= _POINTS else None
            handles[label] = axis.plot(x, mean, marker=marker, ms=3, label=literal(label), **style)[0]
        _hold_runs(axis, panel)
    columns = min(len(handles), 2 * len(panels))
    figure.legend(handles=[*handles.values()], loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
    return figure


def _hold_runs(axis: Any, panel: Panel) -> None:
    """Limit the y-axis to the range of all runs, with some room."""
    values = np.concatenate([np.ravel(runs) for runs in panel.curves.values()])
    seen = values[np.isfinite(values) & (values > 0.0)] if panel.log_y else values[np.isfinite(values)]
    if not len(seen):
        return
    low, high = (np.log(seen.min()), np.log(seen.max())) if panel.log_y else (seen.min(), seen.max())
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    limits = np.array([low - room, high + room])
    axis.set_ylim(np.exp(limits) if panel.log_y else limits)


def draw_reliability(path: Path, panels: Mapping[str, tuple[Bins, Bins | None]]) -> None:
    """Write `reliability_figure` to `path`."""
    write(path, reliability_figure(panels))


def reliability_figure(panels: Mapping[str, tuple[Bins, Bins | None]]) -> "Figure":
    """Draw accuracy minus confidence by confidence, as predicted and at a temperature, a panel a label.

    A point above 0 is a bin that was not sure enough, one below 0 one that was too sure. Its size says how many of the
    examples are in it; bins with less than 1 % of them are beside the line.

    Args:
      panels: label -> the bins as predicted, and those at a temperature where there are any.

    Raises:
      UserError: no panels, or bins without examples.
    """
    require(len(panels) > 0, "no reliability diagrams to draw")
    rows = math.ceil(len(panels) / _COLUMNS)
    columns = math.ceil(len(panels) / rows)
    figure = new_figure(2.6 * columns + 0.4, 2.5 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    handles: dict[str, Any] = {}
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (label, (before, after)) in zip(axes.flat, panels.items(), strict=False):
        dress(axis)
        axis.axhline(0.0, color=GREY, lw=0.9, ls="--", zorder=1)
        for bins, style in (
            (before, ("as predicted", ORANGE, "o", "-")),
            (after, ("at its temperature", BLUE, "s", ":")),
        ):
            if bins is not None:
                handles[style[0]] = _gaps(axis, bins, *style)
        title = f"ECE {before.ece:.4f}" + (f" → {after.ece:.4f}" if after is not None else "")
        axis.set_title(f"{literal(label, 28)}\n{title}", fontsize=SMALL + 1)
        axis.set(xlim=(0.0, 1.02))
    for axis in axes[:, 0]:
        axis.set_ylabel("accuracy − confidence", fontsize=SMALL + 1)
    for column in range(columns):
        lowest = axes[(len(panels) - 1 - column) // columns, column]
        lowest.set_xlabel("confidence", fontsize=SMALL + 1)
        lowest.tick_params(labelbottom=True)
    figure.legend(handles=[*handles.values()], loc="outside lower center", ncols=2, fontsize=SMALL, frameon=False)
    return figure


def _gaps(axis: Any, bins: Bins, label: str, colour: str, marker: str, line: str) -> Any:
    """Draw a point for each bin that has examples, larger for more; return what a legend shows."""
    from matplotlib.lines import Line2D

    count, correct, confidence = (np.asarray(part, np.float64) for part in bins)
    require(bool(count.sum() > 0), f"{label}: no examples to draw a reliability diagram of")
    used = count > 0
    x, gap = confidence[used] / count[used], (correct[used] - confidence[used]) / count[used]
    sizes = 6.0 + 90.0 * count[used] / count.sum()
    many = count[used] >= _FEW * count.sum()
    axis.plot(x[many], gap[many], color=colour, ls=line, lw=1.0, alpha=0.8)
    axis.scatter(x, gap, sizes, color=colour, marker=marker, lw=0, alpha=0.85, zorder=3)
    return Line2D([], [], color=colour, marker=marker, ls=line, ms=5, label=label)
