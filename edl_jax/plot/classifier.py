"""Figures of a downstream run: training curves, reliability diagram, confusion matrix."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edl_jax.core.errors import require
from edl_jax.plot.style import (
    AGAIN,
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SMALL,
    draw_all,
    dress,
    log_numbers,
    new_figure,
    write,
)
from edl_jax.plot.text import literal, literals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("reliability", "confusion", "curves")  # what a run leaves behind
_WRITTEN = 12  # classes up to which every cell of a confusion matrix is written
_TICKS = 20  # most ticks of a confusion matrix
_LONG_TITLE = 120  # characters of a title
_POINTS = 30  # epochs up to which each is a marked point


def draw(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    bins: tuple[np.ndarray, np.ndarray, np.ndarray],
    confusion: np.ndarray,
    loss: str,
    names: Sequence[str],
    title: str,
    prefix: str = "",
    figure_format: str = "png",
    again: str = AGAIN,
) -> None:
    """Write reliability, confusion and, where there are rows, curves to `folder` as `<prefix><name>.<format>`.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: is made.
      rows: lines of metrics.jsonl.
      bins: [bins] each: examples, correct predictions and sum of confidence by confidence.
      confusion: [C, C] examples by label and prediction.
      loss: name of the loss that was trained with.
      names: [C] names of the classes.
      title: of the figures of one evaluation.
      prefix: of the file names.
      figure_format: png, pdf or svg.
      again: what a person does to have them drawn once more.
    """
    figures: dict[str, Callable[[Path], None]] = {
        "reliability": lambda path: reliability(path, *bins, title=title),
        "confusion": lambda path: confusion_matrix(path, confusion, names=names, title=title),
    }
    if rows:
        figures["curves"] = lambda path: training_curves(path, rows, loss=loss)
    draw_all({folder / f"{prefix}{name}.{figure_format}": draw for name, draw in figures.items()}, again)


def training_curves(path: Path, rows: Sequence[Mapping[str, Any]], *, loss: str = "the loss") -> None:
    """Write `training_curves_figure` to `path`."""
    write(path, training_curves_figure(rows, loss=loss))


def training_curves_figure(rows: Sequence[Mapping[str, Any]], *, loss: str = "the loss") -> "Figure":
    """Draw accuracy, training loss and NLL against epochs: of training, of the test set, of any validation part.

    The training loss has its own panel, for a learned loss has neither the scale nor the zero of the NLL, whose
    axis is logarithmic. Training accuracy is that of training mode on augmented images, as the epoch saw them.

    Args:
      rows: lines of metrics.jsonl: `epoch`, `train_accuracy`, `test_accuracy`, `train_loss`, `test_nll`, and perhaps
        `val_accuracy` and `val_nll`; a value that is absent, None or not finite leaves a gap.
      loss: name of the loss that was trained with.

    Raises:
      UserError: no rows.
    """
    require(len(rows) > 0, "no epochs to draw: metrics.jsonl is empty")
    epochs = _column(rows, "epoch")
    figure = new_figure(11.0, 3.4)
    accuracy, train_loss, nll = figure.subplots(1, 3)
    parts = (("val", GREEN), ("test", BLUE)) if any("val_accuracy" in row for row in rows) else (("test", BLUE),)
    accuracies = [(part, f"{part}_accuracy", colour) for part, colour in (("train", ORANGE), *parts)]
    panels = (
        (accuracy, "accuracy (%)", accuracies),
        (train_loss, f"training loss ({literal(loss)})", [("train", "train_loss", ORANGE)]),
        (nll, f"{' and '.join(part for part, _ in parts)} NLL", [(part, f"{part}_nll", c) for part, c in parts]),
    )
    for axis, title, lines in panels:
        dress(axis)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        margin = max(0.5, 0.03 * (epochs[-1] - epochs[0]))
        axis.set_xlim(epochs[0] - margin, epochs[-1] + margin)
        marker = "o" if len(rows) <= _POINTS else None
        for name, column, colour in lines:
            values = (100.0 if axis is accuracy else 1.0) * _column(rows, column)
            axis.plot(epochs, values, color=colour, marker=marker, ms=3, lw=1.4, label=name)
    chosen_by = parts[0][0]
    values = _column(rows, f"{chosen_by}_accuracy")
    if np.isfinite(values).any():
        best = int(np.nanargmax(values))
        label = f"best {chosen_by}: {100 * values[best]:.1f} %, epoch {epochs[best]:g}"
        accuracy.plot(
            epochs[best], 100 * values[best], "D", color=BLACK, mfc="none", ms=6, zorder=3, ls="", label=label
        )
    accuracy.legend(fontsize=SMALL, loc="best")
    # From the thousandths of a fitted set to several nats, which a linear axis would show as one curve at 0.
    if any((_column(rows, f"{part}_nll") > 0.0).any() for part, _ in parts):
        nll.set_yscale("log")
        log_numbers(nll.yaxis)
    if len(parts) > 1:
        nll.legend(fontsize=SMALL, loc="best")
    return figure


def reliability(path: Path, count: np.ndarray, correct: np.ndarray, confidence: np.ndarray, *, title: str = "") -> None:
    """Write `reliability_figure` to `path`."""
    write(path, reliability_figure(count, correct, confidence, title=title))


def reliability_figure(count: np.ndarray, correct: np.ndarray, confidence: np.ndarray, *, title: str = "") -> "Figure":
    """Draw accuracy against confidence in bins of equal width, and the examples of each bin below.

    As Guo et al. 2017 (1706.04599), figure 1: a bar below the diagonal is a bin that was too sure. The orange mark of a
    bin is its mean confidence, on the diagonal; its distance to the bar's end is the gap that ECE averages.

    Args:
      count: [bins] examples, `EvalSums.bin_count`.
      correct: [bins] correct predictions, `EvalSums.bin_correct`.
      confidence: [bins] sum of confidence, `EvalSums.bin_confidence`.
      title: of the figure, before the ECE.

    Raises:
      UserError: arrays of different shapes, or no examples.
    """
    count, correct, confidence = (np.asarray(values, np.float64) for values in (count, correct, confidence))
    require(
        count.ndim == 1 and count.shape == correct.shape == confidence.shape,
        f"bins have shapes {count.shape}, {correct.shape} and {confidence.shape}, expected [bins] for each",
    )
    require(bool(count.sum() > 0), "no examples to draw a reliability diagram of")
    edges = np.linspace(0.0, 1.0, len(count) + 1)
    used = count > 0
    accuracy, sure = correct[used] / count[used], confidence[used] / count[used]
    ece = float(np.abs(correct - confidence).sum() / count.sum())

    figure = new_figure(4.4, 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
    for axis in (upper, lower):
        dress(axis)
    bars = {"width": 1.0 / len(count), "align": "edge", "edgecolor": "white", "lw": 0.6, "color": BLUE}
    upper.bar(edges[:-1][used], accuracy, **bars, label="accuracy")
    upper.plot([0, 1], [0, 1], color=GREY, lw=1.0, ls="--", label="calibrated")
    upper.vlines(sure, np.minimum(accuracy, sure), np.maximum(accuracy, sure), color=ORANGE, lw=1.4)
    upper.plot(sure, sure, "o", color=ORANGE, ms=4, label="mean confidence and gap", clip_on=False)
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    shown = f"{literal(title, _LONG_TITLE, width=48)}, " if title else ""
    upper.set_title(f"{shown}ECE {ece:.4f}", fontsize=10)
    upper.legend(fontsize=SMALL, loc="upper left")
    lower.bar(edges[:-1], 100.0 * count / count.sum(), **bars)
    lower.set(xlabel="confidence", ylabel="examples (%)")
    return figure


def confusion_matrix(path: Path, matrix: np.ndarray, *, names: Sequence[str] | None = None, title: str = "") -> None:
    """Write `confusion_matrix_figure` to `path`."""
    write(path, confusion_matrix_figure(matrix, names=names, title=title))


def confusion_matrix_figure(matrix: np.ndarray, *, names: Sequence[str] | None = None, title: str = "") -> "Figure":
    """Draw the share of each label's examples by prediction: rows are labels, columns predictions, rows sum to 100 %.

    Colour follows the square root of the share, so that confusions of few per cent are seen. Up to 12 classes the
    percentages are written and every class named; beyond, ticks are thinned. A class without examples is grey.

    Args:
      matrix: [C, C] examples by label and prediction.
      names: [C] names of the classes (default: their numbers).
      title: of the figure.

    Raises:
      UserError: a matrix that is not square or is empty, or another number of names.
    """
    matrix = np.asarray(matrix, np.float64)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] and len(matrix) > 0
    require(square, f"confusion matrix has shape {matrix.shape}, expected [C, C]")
    size = len(matrix)
    require(names is None or len(names) == size, f"{len(names or ())} names for {size} classes")
    names = literals(range(size) if names is None else names)
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(100.0 * matrix, totals, out=np.full_like(matrix, np.nan), where=totals > 0)

    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    figure = new_figure(6.2, 5.4)
    axis = figure.subplots()
    colours = colormaps["Blues"].with_extremes(bad="#cccccc")
    image = axis.imshow(
        np.ma.masked_invalid(share), cmap=colours, norm=PowerNorm(0.5, 0.0, 100.0), interpolation="nearest"
    )
    if size <= _WRITTEN:
        for row, column in zip(*np.nonzero(np.nan_to_num(share) > 0), strict=True):
            value = share[row, column]
            colour = "white" if value > 35.0 else BLACK
            text = f"{value:.1f}" if value < 99.95 else "100"
            axis.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=colour)
    stride = next(step for step in _strides() if size <= _TICKS * step)
    ticks = range(0, size, stride)
    shown = [names[i] for i in ticks]
    axis.set_xticks(ticks, shown, fontsize=SMALL)
    axis.set_yticks(ticks, shown, fontsize=SMALL)
    if max(map(len, shown)) > 3:
        axis.tick_params(axis="x", labelrotation=45)
        for label in axis.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axis.set(xlabel="prediction", ylabel="label" if (totals > 0).all() else "label (grey: no examples)")
    if title:
        axis.set_title(literal(title, _LONG_TITLE, width=64), fontsize=10)
    bar = figure.colorbar(image, ax=axis, shrink=0.85, ticks=[0, 1, 5, 10, 25, 50, 100], format="{x:g}")
    bar.set_label("share of the label's examples (%)", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return figure


def _strides() -> Sequence[int]:
    """Return the distances that thinned ticks may have: 1, 2, 5, 10, 20, 50 ..."""
    return [digit * 10**power for power in range(7) for digit in (1, 2, 5)]


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """Return a column [rows] float64, NaN where a value is absent, None or infinite."""
    values = [row.get(name) for row in rows]
    column = np.array([np.nan if value is None else value for value in values], np.float64)
    return np.where(np.isfinite(column), column, np.nan)
