"""Curves over generations and differences from the default, for an ablation study.

`convergence` and `differences` write a file; the functions with `_figure` return the Figure. Colours are safe for
colour-blind readers and never the only mark. `edl_jax.study.sensitivity_figure` has the third kind.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edl_jax.core.errors import require
from edl_jax.plot.style import (
    BLACK,
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    PANEL,
    SMALL,
    log_numbers,
    new_figure,
    row_of_axes,
    write,
)
from edl_jax.plot.text import literal
from edl_jax.stats import intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINES_PER_PANEL = 8
_FAR = 5.0  # times the linear part of a difference's axis: what lies nearer is drawn on a linear one


def convergence(path: Path, curves: Mapping[str, np.ndarray], **options: Any) -> None:
    """Write `convergence_figure` to `path`."""
    write(path, convergence_figure(curves, **options))


def convergence_figure(
    curves: Mapping[str, np.ndarray],
    *,
    ylabel: str,
    reference: float | None = None,
    reference_label: str = "",
    x: np.ndarray | Mapping[str, np.ndarray] | None = None,
    xlabel: str = "generation",
    default: str | None = None,
    log_x: bool = False,
    log_y: bool = False,
) -> "Figure":
    """Draw the mean over runs of each label against x, with 95 % intervals point by point.

    Labels are listed in the order in which the curves end, the highest first. More than 8 make several panels
    with shared axes. With `log_y` mean and interval are those of the logarithm: the curve is the geometric mean.
    Points at which a run is not finite (with `log_y`: not positive) have no mean and are left out.

    Args:
      curves: label to values `[runs, points]`.
      ylabel: what is drawn.
      reference: height of a horizontal line, such as the optimal fitness F*.
      reference_label: its name in the legend.
      x: `[points]`, one for all labels or one each; 1, 2, ... by default.
      xlabel: what x is.
      default: label drawn in black, and in every panel.
      log_x: logarithmic x, which must be positive.
      log_y: logarithmic y.

    Raises:
      UserError: no curves, or a default that is not among them.
    """
    require(len(curves) > 0, "no curves to draw")
    require(default is None or default in curves, f"default {default!r} is not among the curves: {', '.join(curves)}")
    drawn = {label: _summary(label, values, x, log_y) for label, values in curves.items()}
    # The default is in every panel, where the others are spread evenly.
    others = [label for label in curves if label != default]
    room = LINES_PER_PANEL - (default is not None)
    panels = np.array_split(np.array(others, object), max(1, math.ceil(len(others) / room)))
    figure = new_figure((PANEL[0] + 1.8) * len(panels), PANEL[1])
    axes = row_of_axes(figure, len(panels))
    for axis, members in zip(axes, panels, strict=True):
        # Scales first: limits found on linear axes do not suit logarithmic ones.
        axis.set(xlabel=xlabel, xscale="log" if log_x else "linear", yscale="log" if log_y else "linear")
        for scaled, numbers in ((log_x, axis.xaxis), (log_y, axis.yaxis)):
            if scaled:
                log_numbers(numbers)
        if reference is not None:
            named = literal(reference_label) if reference_label else None
            axis.axhline(reference, color=GREY, lw=0.9, ls=":", zorder=1, label=named)
        for i, label in enumerate(members):
            _curve(axis, label, drawn[label], COLOURS[i % len(COLOURS)], "-" if i < len(COLOURS) else "--")
        if default is not None:
            _curve(axis, default, drawn[default], BLACK, "-")
        _legend(axis, _runs(curves, "geometric mean" if log_y else "mean"))
    axes[0].set_ylabel(ylabel)
    _limit(axes[0], drawn, reference, log_y)
    return figure


def differences(path: Path, rows: Sequence[tuple[str, float, float, float]], **options: Any) -> None:
    """Write `differences_figure` to `path`."""
    write(path, differences_figure(rows, **options))


def differences_figure(
    rows: Sequence[tuple[str, float, float, float]], *, xlabel: str, linear_within: float | None = None
) -> "Figure":
    """Draw differences from the default with their intervals, one a line, and a line at zero.

    Intervals that leave out zero are filled and orange, others open and blue; a difference that is not finite
    is said in words.

    Args:
      rows: (label, difference, lower bound, upper bound), from top to bottom; NaN bounds draw no interval.
      xlabel: what the difference is of, and which side is better.
      linear_within: makes x linear within this distance from 0 and logarithmic beyond, where bounds reach further than
        5 times that; the label of x says so.

    Raises:
      UserError: no rows.
    """
    require(len(rows) > 0, "no differences to draw")
    figure = new_figure(6.4, 1.3 + 0.27 * len(rows))
    (axis,) = row_of_axes(figure)
    bounds = np.array([row[1:] for row in rows], np.float64)
    reach = float(np.max(np.abs(bounds), where=np.isfinite(bounds), initial=0.0))
    if linear_within is not None and reach > _FAR * linear_within:
        axis.set_xscale("symlog", linthresh=linear_within)
        axis.set_xticks(_symlog_ticks(linear_within, reach))
        axis.set_xticks([], minor=True)  # without labels, ticks of two scales mislead
        axis.xaxis.set_major_formatter("{x:g}")
        xlabel = f"{xlabel}\nlinear within ±{linear_within:g}, logarithmic beyond"
    axis.axvline(0.0, color=GREY, lw=0.9, zorder=1)
    drawn: dict[str, Any] = {}
    for y, (_, mean, low, high) in enumerate(rows):
        if not math.isfinite(mean):
            text = "no mean: runs that never got there"
            axis.annotate(
                text, (0.0, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7, color=GREY
            )
            continue
        clear = low > 0.0 or high < 0.0
        colour = ORANGE if clear else BLUE
        known = math.isfinite(low) and math.isfinite(high)
        if known:
            axis.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="butt")
        style = {"marker": "o", "ms": 5, "color": colour, "mfc": colour if clear else "white"}
        axis.plot(mean, y, **style)
        label = "no interval" if not known else f"95 % interval {'leaves out' if clear else 'holds'} 0"
        drawn[label] = {**style, "lw": 1.6 if known else 0.0}
    axis.set_yticks(range(len(rows)), [literal(label) for label, *_ in rows], fontsize=SMALL)
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    _differences_legend(figure, drawn)
    return figure


def _symlog_ticks(linear_within: float, reach: float) -> list[float]:
    """Return ticks from -reach to reach: 0, the bounds of the linear part, and beyond them 1 (2, 5) of each decade."""
    decades = math.floor(math.log10(reach / linear_within) + 1e-9)
    digits = (1, 2, 5) if decades < 2 else (1,)
    beyond = [digit * 10.0**power * linear_within for power in range(decades + 1) for digit in digits]
    ticks = [float(f"{tick:.6g}") for tick in beyond if tick <= reach]
    return [*(-tick for tick in reversed(ticks)), 0.0, *ticks]


def _differences_legend(figure: "Figure", drawn: Mapping[str, Mapping[str, Any]]) -> None:
    """List the marks that occur."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=label, **drawn[label]) for label in sorted(drawn)]
    if handles:
        figure.legend(handles=handles, loc="outside lower right", ncols=len(handles), fontsize=SMALL, frameon=False)


def _summary(label: str, values: np.ndarray, x: Any, log_y: bool) -> tuple[np.ndarray, ...]:
    """Return x, mean and bounds of one label, all `[points]`."""
    values = np.asarray(values, np.float64)
    require(values.ndim == 2 and values.size > 0, f"{label} has shape {values.shape}, expected [runs, points]")
    at = x[label] if isinstance(x, Mapping) else x
    at = np.arange(1, values.shape[1] + 1) if at is None else np.asarray(at, np.float64)
    require(at.shape == values.shape[1:], f"{label} has {values.shape[1]} points and x {at.shape}")
    if not log_y:
        return at, *intervals.band(values)
    logs = np.log(values, out=np.full_like(values, np.nan), where=values > 0.0)
    return at, *(np.exp(part) for part in intervals.band(logs))


def _curve(axis: Any, label: str, drawn: tuple[np.ndarray, ...], colour: str, style: str) -> None:
    x, mean, low, high = drawn
    axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    axis.plot(x, mean, label=literal(label), lw=1.4, color=colour, ls=style)


def _legend(axis: Any, title: str) -> None:
    """List the lines beside the axes in the order in which they end."""
    handles, labels = axis.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: -_end(handles[i].get_ydata()))
    axis.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        fontsize=SMALL,
        frameon=False,
        title=title,
        title_fontsize=SMALL,
        alignment="left",
    )


def _end(heights: Any) -> float:
    """Return the last finite height."""
    finite = np.asarray(heights, np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite[-1]) if len(finite) else -math.inf


def _limit(axis: Any, drawn: Mapping[str, tuple[np.ndarray, ...]], reference: float | None, log_y: bool) -> None:
    """Limit y to what is worth seeing."""
    # A linear axis leaves out the first twentieth: many times worse, it would flatten the rest.
    seen = [part if log_y else part[len(part) // 20 :] for _, *parts in drawn.values() for part in parts]
    means = np.concatenate([*seen[::3], [math.nan if reference is None else reference]])
    bounds = np.concatenate(seen)
    means, bounds = means[np.isfinite(means)], bounds[np.isfinite(bounds)]
    if not len(means):
        return
    low, high = min([*means, *bounds]), max([*means, *bounds])
    if log_y:
        # Bounds far below every mean are noise on their way to zero.
        axis.set_ylim(max(low, means.min() / 3.0) / 1.1, high * 1.1)
    else:
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        axis.set_ylim(low - room, high + room)


def _runs(curves: Mapping[str, np.ndarray], mean: str) -> str:
    """Return what the curves are, as the legend's title."""
    counts = sorted({len(values) for values in curves.values()})
    if counts[-1] == 1:
        return "one run"
    return f"{mean}, 95 % interval\nover {counts[0] if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'} runs"
