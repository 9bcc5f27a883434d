"""Figures of a search for a loss, drawn from its metrics and its best candidates."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edl_jax.plot.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PANEL,
    SMALL,
    draw_all,
    dress,
    log_numbers,
    new_figure,
    write,
)
from edl_jax.plot.text import literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_WINNERS = 5
"""Losses of a figure."""
PARTS: Mapping[str, str] = {
    "seconds_kernels": "kernels",
    "seconds_rejection": "rejection",
    "seconds_local_search": "local search",
    "seconds_training": "training",
    "seconds_other": "other",
}
"""Keys of the metrics -> the part of a search that their seconds went into."""

# Orange is the reference's, as in other figures. Later lines are thinner: where all are one curve, all are seen.
_WINNERS = (BLUE, GREEN, "#CC79A7", "#56B4E9", BLACK)
_WIDTHS = (3.0, 2.5, 2.0, 1.5, 1.0)
_REFERENCE: Mapping[str, Any] = {"color": ORANGE, "ls": "--"}
_LOGARITHMIC = 10.0  # times the least fitness that the greatest must be
_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_SHARES = (
    ("known", "known before", "#BBBBBB"),
    ("rejected", "rejected", "#E69F00"),
    ("diverged", "diverged", GREY),
    ("hopeless", "ended early", "#56B4E9"),
)
_LONGEST = 64  # characters of a formula

Curve = tuple[str, np.ndarray, np.ndarray]


def draw(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    winners: Sequence[Curve],
    num_classes: int | None,
    figure_format: str = "png",
) -> list[Path]:
    """Write convergence, gradient_profile and time into `folder`; return the paths of those that are there.

    In regression loss_shape stands in place of gradient_profile; a single generation has no convergence.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to write.
      rows: the metrics, one mapping a generation; see `convergence` and `time`.
      winners: the best losses, see `gradient_profile` and `draw_regression_shapes`, which are left out without any.
      num_classes: C, or None in regression.
      figure_format: png, pdf or svg.
    """
    figures: dict[str, Callable[[Path], None]] = {}
    if len(rows) > 1:
        figures["convergence"] = lambda path: convergence(path, rows)
    if winners and num_classes is None:
        figures["loss_shape"] = lambda path: draw_regression_shapes(path, winners)
    elif winners and num_classes is not None:
        figures["gradient_profile"] = lambda path: gradient_profile(path, winners, num_classes)
    figures["time"] = lambda path: time(path, rows)
    paths = {folder / f"{name}.{figure_format}": function for name, function in figures.items()}
    draw_all(paths)
    return [path for path in paths if path.exists()]


def convergence(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw fitness against generations, and below it which share of the candidates cost no training.

    Args:
      path: file to write, as its suffix says.
      rows: mappings with `generation`, `best` (so far), `generation_best`, `generation_median` (fitnesses, None where
        there is none), and counts of candidates: `evaluated` (those refused included), of which `rejected`, `diverged`
        and `hopeless`, and `known`.
    """
    width, height = PANEL
    figure = new_figure(1.35 * width, 1.2 * height)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    generation = _column(rows, "generation")
    best, median = _column(rows, "best"), _column(rows, "generation_median")
    own = _column(rows, "generation_best")
    seen = np.concatenate([best, own, median])
    seen = seen[np.isfinite(seen)]
    for axis in (above, below):
        dress(axis)
    if len(seen) and seen.min() > 0.0 and seen.max() > _LOGARITHMIC * seen.min():
        above.set_yscale("log")
        log_numbers(above.yaxis)
    known = np.isfinite(median)
    above.plot(generation[known], median[known], color=ORANGE, lw=1.0, alpha=0.8, label="median of the generation")
    above.plot(generation, own, color=BLUE, lw=0.0, marker="o", ms=3.5, mfc="white", label="best of the generation")
    above.step(generation, best, where="post", color=BLUE, lw=1.8, label="best so far")
    handles, labels = above.get_legend_handles_labels()
    above.legend(handles[::-1], labels[::-1], fontsize=SMALL)
    room = 0.5 + 0.01 * len(rows)
    above.set(ylabel="fitness (lower is better)", title="Fitness", xlim=(generation[0] - room, generation[-1] + room))
    _shares(below, generation, rows)
    write(path, figure)


def _shares(axis: Any, generation: np.ndarray, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw shares of the candidates of each generation on each other."""
    from matplotlib.ticker import MaxNLocator

    axis.set_axisbelow(True)
    every = _column(rows, "evaluated") + _column(rows, "known")
    bottom = np.zeros(len(rows))
    for name, label, colour in _SHARES:
        share = np.nan_to_num(100.0 * _column(rows, name) / np.where(every > 0.0, every, np.nan))
        if share.any():
            axis.bar(generation, share, 1.0, bottom=bottom, color=colour, label=label, lw=0)
            bottom = bottom + share
    axis.set(xlabel="generation", ylabel="candidates (%)", ylim=(0.0, 100.0))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if axis.containers:
        axis.legend(fontsize=SMALL, loc="upper left", bbox_to_anchor=(0.0, 1.32), ncols=3, frameon=False)


def gradient_profile(path: Path, winners: Sequence[Curve], num_classes: int) -> None:
    """Draw the pull of losses on the true class's logit beside cross-entropy's, and divided by it.

    Args:
      path: file to write, as its suffix says.
      winners: (label, gap `[N]`, pull `[N]`) of the best losses, the first 5 of which are drawn: logit of the true
        class minus the others', which are equal, and the pull there, divided by the loss's scale.
      num_classes: C.
    """
    shown = winners[:MOST_WINNERS]
    width, height = PANEL
    figure = new_figure(2.0 * width, height + 0.22 * (len(shown) + 1))
    left, right = figure.subplots(1, 2)
    for axis in (left, right):
        dress(axis)
        axis.axhline(0.0, color=GREY, lw=0.8, zorder=1)
    pulls, ratios = [], []
    for i, (label, gap, pull) in enumerate(shown):
        style: dict[str, Any] = {"color": _WINNERS[i], "lw": _WIDTHS[i], "label": literal(label, _LONGEST)}
        reference = 1.0 / (1.0 + np.exp(gap - np.log(num_classes - 1)))
        left.plot(gap, pull, **style)
        right.plot(1.0 - reference, pull / reference, **style)
        pulls += [pull, reference]
        ratios.append(pull / reference)
    left.plot(gap, reference, label="cross-entropy", **_REFERENCE)
    right.axhline(1.0, **_REFERENCE)
    left.set(
        xlabel=f"logit of the true class minus the (equal) others, {num_classes} classes",
        ylabel="pull on the true class's logit",
        title="Gradient profile, at cross-entropy's scale",
        ylim=_limits(pulls, -1.0, 2.0),
    )
    right.set(
        xlabel="$p_t$, probability of the true class",
        ylabel="pull over cross-entropy's",
        title="Relative to cross-entropy",
        xlim=(0.0, 1.0),
        ylim=_limits([*ratios, np.array([0.0, 1.5])], -1.0, 3.0),
    )
    _legend_below(figure, left)
    write(path, figure)


TARGETS = (-1.0, 0.0, 1.0)
"""Targets at which losses of a regression are drawn."""


def draw_regression_shapes(path: Path, winners: Sequence[Curve], targets: Sequence[float] = TARGETS) -> None:
    """Draw losses of a regression against the error beside the squared error, a panel for each target.

    Values are drawn times one factor a loss, plus a number for each target, by least squares: neither changes what
    is learned but for the learning rate.

    Args:
      path: file to write, as its suffix says.
      winners: (label, error `[N]`, values `[Y, N]`) of the best losses, the first 5 of which are drawn: f - y, and
        l(y, f) there for each target.
      targets: the Y targets y.
    """
    shown = winners[:MOST_WINNERS]
    width, height = PANEL
    figure = new_figure(0.8 * width * len(targets), height + 0.22 * (len(shown) + 1))
    axes = figure.subplots(1, len(targets), squeeze=False, sharex=True, sharey=True)[0]
    error = shown[0][1]
    square = np.square(error)
    for axis, target in zip(axes, targets, strict=True):
        dress(axis)
        axis.axvline(0.0, color=GREY, lw=0.8, zorder=1)
        axis.set(xlabel="error, f − y", title=f"target y = {target:g}".replace("-", "−"))
    for i, (label, at, values) in enumerate(shown):
        for axis, curve in zip(axes, _as_square(at, values), strict=True):
            axis.plot(at, curve, color=_WINNERS[i], lw=_WIDTHS[i], label=literal(label, _LONGEST))
    for axis in axes:
        axis.plot(error, square, label="squared error", **_REFERENCE)
    axes[0].set(ylabel="loss, at squared error's scale", ylim=(-0.35 * square.max(), 1.35 * square.max()))
    _legend_below(figure, axes[0])
    write(path, figure)


def _as_square(error: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return values `[Y, N]` times one factor plus a number a row, nearest to the squared error."""
    finite = np.isfinite(values)
    values = np.where(finite, np.asarray(values, np.float64), np.nan)
    square = np.where(finite, np.square(error), np.nan)
    with np.errstate(all="ignore"):
        centre, middle = (np.nansum(x, 1, keepdims=True) / finite.sum(1, keepdims=True) for x in (values, square))
        centred = values - centre
        size = np.nansum(np.square(centred))
        factor = abs(np.nansum(centred * (square - middle))) / size if size > 0.0 else 0.0
    return factor * centred + middle


def time(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the seconds that each part of a search took.

    Args:
      path: file to write, as its suffix says.
      rows: mappings with the keys of `PARTS`.
    """
    seconds = {name: float(np.nansum(_column(rows, key))) for key, name in PARTS.items()}
    seconds = {name: value for name, value in seconds.items() if value > 0.0}
    total = sum(seconds.values())
    figure = new_figure(1.35 * PANEL[0], 1.15 + 0.32 * max(len(seconds), 1))
    axis = figure.subplots()
    dress(axis)
    axis.grid(visible=False, axis="y")
    axis.set_axisbelow(True)
    unit, name = next((unit for unit in _UNITS if total >= 2.0 * unit[0]), _UNITS[-1])
    axis.barh(range(len(seconds)), [value / unit for value in seconds.values()], 0.62, color=BLUE)
    for y, value in enumerate(seconds.values()):
        place: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
        axis.annotate(f"{100.0 * value / total:.0f} %", (value / unit, y), fontsize=SMALL, color=GREY, **place)
    axis.set_yticks(range(len(seconds)), list(seconds))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.margins(x=0.1)
    axis.set(ylim=(len(seconds) - 0.45, -0.55), title=f"Where the time went: {total / unit:.3g} {name}", xlabel=name)
    write(path, figure)


def _limits(curves: Sequence[np.ndarray], least: float, most: float) -> tuple[float, float]:
    """Return limits of an axis that hold the curves, within bounds."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    low, high = max(float(values.min()), least), min(float(values.max()), most)
    room = 0.06 * (high - low)
    return low - room, high + room


def _legend_below(figure: "Figure", axis: Any) -> None:
    """List the lines of axes below a figure, one a line: formulas are long."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize=SMALL, frameon=False)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)
