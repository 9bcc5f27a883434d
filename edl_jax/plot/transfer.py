"""Figures of synthetic predictions beside those of networks while they train."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax.plot.style import BLACK, BLUE, COLOURS, GREEN, GREY, ORANGE, PANEL, SMALL, dress, new_figure, write
from edl_jax.plot.text import literal

_COLUMNS = 4  # panels of a row
_SIDE = (2.9, 2.2)
_DASHED = "--"
# Black is the mixture, blue the real predictions.
_COMPONENT_COLOURS = {
    "uniform": "#56B4E9",
    "confident_right": GREEN,
    "confident_wrong": ORANGE,
    "boundary": "#CC79A7",
    "near_uniform": GREY,
    "log_uniform": "#E69F00",
    "designed": "#882255",
}
_RUN_MARKERS = "osD^vP"
_TICKS = (1e-5, 1e-3, 0.1, 0.5, 0.9, 0.999, 0.99999)  # p_t written at an axis of its logit


class Law(NamedTuple):
    """Densities of logit p_t after an epoch.

    Attributes:
      epoch: the epoch.
      real: part -> share of the predictions in each bin `[B]`.
    """

    epoch: int
    real: Mapping[str, np.ndarray]


class Line(NamedTuple):
    """A number by epoch.

    Attributes:
      run: of which training.
      part: `train` or `test`.
      epochs: `[E]`.
      values: `[E]`.
      low: `[E]` lower ends of intervals, or None.
      high: `[E]` upper ends, or None.
    """

    run: str
    part: str
    epochs: Sequence[int]
    values: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


class LossCurve(NamedTuple):
    """A loss along the line on which the wrong classes are equal.

    Attributes:
      name: for the legend.
      logit: `[P]` logit p_t of the points.
      values: `[P]` of the loss.
      pull: `[P]` on the true class's logit.
      style: `known` (a loss to compare with) or `implied`.
    """

    name: str
    logit: np.ndarray
    values: np.ndarray
    pull: np.ndarray
    style: str = "known"


def draw_densities(
    path: Path,
    title: str,
    edges: np.ndarray,
    laws: Sequence[Law],
    whole: np.ndarray,
    components: Mapping[str, np.ndarray],
) -> None:
    """Draw the densities of logit p_t, a panel an epoch, over those of a mixture and its components.

    Args:
      path: file to write, as its suffix says.
      title: of the figure.
      edges: `[B - 1]` edges of the bins, equally far apart; two more bins lie beyond the ends.
      laws: of the epochs.
      whole: share of the mixture's predictions in each bin `[B]`.
      components: component -> share of the mixture that is its predictions in each bin `[B]`.
    """
    rows = math.ceil(len(laws) / _COLUMNS)
    columns = math.ceil(len(laws) / rows)
    width, height = _SIDE
    figure = new_figure(width * columns + 0.5, height * rows + 1.1)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    step = float(edges[1] - edges[0])
    outer = np.concatenate([[edges[0] - step], edges, [edges[-1] + step]])
    middle = 0.5 * (outer[1:] + outer[:-1])
    for axis, law in zip(axes.flat, laws, strict=False):
        dress(axis)
        train = law.real["train"] / step
        axis.stairs(train, outer, fill=True, color=BLUE, alpha=0.35, lw=0, label="real, training images")
        axis.stairs(law.real["test"] / step, outer, color=BLUE, lw=1.2, label="real, test images")
        axis.plot(middle, whole / step, color=BLACK, lw=1.4, label="mixture")
        for name, share in components.items():
            colour = _COMPONENT_COLOURS[name]
            axis.plot(middle, share / step, color=colour, lw=1.2, ls=_DASHED, label=name.replace("_", " "))
        axis.set_title(f"epoch {law.epoch}", fontsize=SMALL + 1)
        axis.tick_params(labelsize=SMALL)
        _name_p(axis)
    for axis in axes.flat[len(laws) :]:
        axis.set_axis_off()
    for i, axis in enumerate(axes.flat[: len(laws)]):
        if i + columns >= len(laws):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel("$p_t$, spaced by its logit", fontsize=SMALL)
    for row in axes:
        row[0].set_ylabel("density", fontsize=SMALL)
    figure.suptitle(literal(title, 80), fontsize=SMALL + 2)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 8), fontsize=SMALL, frameon=False)
    write(path, figure)


def draw_lines(
    path: Path,
    panels: Mapping[str, Sequence[Line]],
    floors: Mapping[str, float],
    *,
    below: str,
    label: str = "",
    limits: tuple[float, float] | None = None,
) -> None:
    """Draw numbers by epoch, a panel a number: solid for training images, dashed for test images, a colour a run.

    Args:
      path: file to write, as its suffix says.
      panels: title -> lines.
      floors: title -> what chance gives, where it is known.
      below: what the legend calls that.
      label: of the axes of numbers.
      limits: of these axes; from 0 on where none are given.
    """
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(3.5 * columns, 2.6 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False)
    runs = list(dict.fromkeys(line.run for lines in panels.values() for line in lines))
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        dress(axis)
        for line in lines:
            i = runs.index(line.run)
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": _RUN_MARKERS[i % len(_RUN_MARKERS)]}
            style |= {"ms": 3.5, "lw": 1.3, "ls": "-" if line.part == "train" else _DASHED}
            if line.part != "train":
                style["mfc"] = "white"
            bars = None
            if line.low is not None and line.high is not None:
                value = np.asarray(line.values)
                bars = np.maximum([value - np.asarray(line.low), np.asarray(line.high) - value], 0.0)
            axis.errorbar(line.epochs, line.values, bars, capsize=2, label=f"{literal(line.run)}, {line.part}", **style)
        if title in floors:
            axis.axhline(floors[title], color=GREY, lw=1.0, ls=":", label=below)
        axis.set_title(title, fontsize=SMALL + 1)
        axis.tick_params(labelsize=SMALL)
        axis.set_ylim(*(limits or (0.0, None)))
        _epoch_axis(axis, sorted({epoch for line in lines for epoch in line.epochs}))
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for row in axes:
        row[0].set_ylabel(label, fontsize=SMALL)
    found: dict[str, Any] = {}
    for axis in axes.flat[: len(panels)]:
        found |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    found = {name: found[name] for name in sorted(found, key=lambda name: name == below)}
    # A row of the legend is as wide as the figure, at some 10 characters an inch beside the samples.
    width = 0.11 * max(map(len, found)) + 0.6
    style = {"ncols": min(len(found), max(1, int(3.5 * columns / width))), "fontsize": SMALL, "frameon": False}
    figure.legend(list(found.values()), list(found), loc="outside lower center", **style)
    write(path, figure)


def draw_weights(path: Path, weights: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Draw the weights of fitted mixtures as stacked bars, a panel a run.

    Args:
      path: file to write, as its suffix says.
      weights: run -> name of a bar, such as an epoch -> component -> weight.
    """
    bars = max(len(found) for found in weights.values())
    figure = new_figure(max(0.5 * bars + 1.2, 3.2) * len(weights), 3.4)
    axes = figure.subplots(1, len(weights), squeeze=False, sharey=True)[0]
    drawn = {name for run in weights.values() for found in run.values() for name, weight in found.items() if weight}
    used = [name for name in _COMPONENT_COLOURS if name in drawn]
    for axis, (run, found) in zip(axes, weights.items(), strict=True):
        dress(axis)
        bottom = np.zeros(len(found))
        for name in used:
            height = np.array([each.get(name, 0.0) for each in found.values()])
            label = name.replace("_", " ")
            axis.bar(range(len(found)), height, 0.8, bottom, color=_COMPONENT_COLOURS[name], label=label, zorder=2)
            bottom += height
        axis.set_xticks(range(len(found)), list(found), fontsize=SMALL)
        axis.set_title(literal(run), fontsize=SMALL + 1)
        axis.set_xlabel("epoch", fontsize=SMALL)
        axis.tick_params(axis="y", labelsize=SMALL)
    axes[0].set(ylim=(0.0, 1.0))
    axes[0].set_ylabel("weight that would have matched", fontsize=SMALL)
    handles, labels = axes[0].get_legend_handles_labels()
    columns = max(2, round(1.8 * len(weights)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)
    write(path, figure)


def draw_losses(path: Path, title: str, curves: Sequence[LossCurve]) -> None:
    """Draw losses against p_t, and their pull against its logit.

    Args:
      path: file to write, as its suffix says.
      title: of the figure.
      curves: the losses.
    """
    width, height = PANEL
    figure = new_figure(2 * width, height)
    left, right = figure.subplots(1, 2)
    known, implied = [(ORANGE, _DASHED), (GREY, _DASHED)], [(BLUE, "-"), (GREEN, "-")]
    top = 0.0
    for curve in curves:
        colour, line = (implied if curve.style == "implied" else known).pop(0)
        p = 1.0 / (1.0 + np.exp(-curve.logit))
        for axis, x, y in ((left, p, curve.values), (right, curve.logit, curve.pull)):
            axis.plot(x, y, color=colour, ls=line, lw=1.6, label=literal(curve.name))
        top = max(top, float(curve.values[p > 0.02].max()))
    left.set(xlabel="$p_t$, probability of the true class", ylabel="loss less its value at $p_t = 1$", title="Loss")
    left.set(ylim=(-0.03 * top, 1.03 * top))
    right.set(xlabel="$p_t$, spaced by its logit", ylabel="pull on the true class's logit", title="Pull")
    _name_p(right)
    for axis in (left, right):
        dress(axis)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=SMALL, frameon=False)
    figure.suptitle(literal(title, 80), fontsize=SMALL + 2)
    write(path, figure)


def _name_p(axis: Any) -> None:
    """Write probabilities at an axis of their logits."""
    low, high = axis.get_xlim()
    ticks = {math.log(p) - math.log1p(-p): p for p in _TICKS}
    shown = {at: p for at, p in ticks.items() if low <= at <= high}
    axis.set_xticks(list(shown), [f"{p:g}".replace("e-0", "e-") for p in shown.values()], fontsize=SMALL - 1)


def _epoch_axis(axis: Any, epochs: Sequence[int]) -> None:
    """Space epochs by their logarithm, 0 among them, and write them."""
    axis.set_xscale("symlog", linthresh=1.0, linscale=0.6)
    room = 1.25 if epochs[-1] > 1 else 1.0
    axis.set_xlim(-0.25, epochs[-1] * room + 0.1)
    kept: list[int] = []
    for epoch in epochs:
        if epoch >= 1.5 * (kept or [0])[-1]:
            kept.append(epoch)
    if kept[-1] != epochs[-1]:
        kept[-1] = epochs[-1]
    axis.set_xticks(kept, [str(epoch) for epoch in kept], minor=False)
    axis.set_xticks([], minor=True)
    axis.set_xlabel("epoch", fontsize=SMALL)
