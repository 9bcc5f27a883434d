"""Figures of a run, drawn from its metrics and its artifact."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from edl_jax import loss
from edl_jax.plot.style import BLUE, GREEN, GREY, ORANGE, PANEL, draw_all, dress, log_numbers, new_figure, write
from edl_jax.plot.text import literal
from edl_jax.synthetic import MixtureConfig, draw_predictions
from edl_jax.synthetic.design import DesignReport
from edl_jax.synthetic.shape import evaluate

_SMOOTH = 25  # windows of a running mean in a run
_FLOOR = 1e-5  # of F/F* - 1: below are rounding and the grid of F*
# Of a loss that takes any number of classes.
_CLASSES = 10
# A band below the learned line, which would hide a line as thin as itself.
_OPTIMUM: Mapping[str, Any] = {"color": GREEN, "lw": 5.0, "alpha": 0.35, "label": "optimum"}
_HISTOGRAM_SAMPLE = (1 << 18) // 10


def draw(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    artifact: loss.Artifact,
    mixture: MixtureConfig,
    optimum: loss.Artifact | None = None,
    figure_format: str = "png",
) -> None:
    """Write convergence, loss_shape, gradient_profile and mixture into `folder`.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to write.
      rows: the metrics of one run.
      artifact: its loss.
      mixture: its mixture.
      optimum: the optimal loss, drawn beside it.
      figure_format: png, pdf or svg.
    """
    figures: dict[str, Callable[[Path], None]] = {
        "convergence": lambda path: convergence(path, rows),
        "loss_shape": lambda path: loss_shape(path, artifact, optimum),
        "gradient_profile": lambda path: gradient_profile(path, artifact, optimum),
        "mixture": lambda path: mixture_histogram(path, mixture),
    }
    draw_all({folder / f"{name}.{figure_format}": draw for name, draw in figures.items()})


def convergence(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw fitness (as F/F* - 1 where rows have `fitness_ratio`) and ranking accuracy against generations."""
    generation = [row["generation"] for row in rows]
    ratio = _column(rows, "fitness_ratio")
    # Half an error in the held-out batch is the best that can be told from none.
    errors = 100.0 * np.maximum(1.0 - _column(rows, "ranking_accuracy"), 1e-4)
    with _axes(path, columns=2) as (left, right):
        if np.isfinite(ratio).any():
            _excess(left, generation, rows, ratio)
        else:
            _fitness(left, generation, rows)
        left.set_xlabel("generation")
        left.legend()
        right.semilogy(generation, errors, color=BLUE)
        right.axhline(1.0, color=GREY, lw=0.8, ls=":")
        right.annotate("99 % accuracy", (generation[-1], 1.0), ha="right", va="bottom", color=GREY, fontsize=8)
        right.set(xlabel="generation", ylabel="held-out pairs misordered (%)", title="Ranking error of the best")
        log_numbers(right.yaxis)


def _fitness(axis: Any, generation: Sequence[int], rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the fitness itself."""
    population, best = _column(rows, "fitness_mean"), _column(rows, "fitness_best")
    axis.plot(generation, population, color=ORANGE, lw=0.8, alpha=0.7, label="population mean, fresh pairs")
    axis.plot(generation, best, color=BLUE, label="best so far, held-out pairs")
    # The first generations are many times worse and would flatten the rest.
    settled = np.concatenate([population[len(population) // 20 :], best])
    low, high = np.nanmin(settled), np.nanmax(settled)
    room = 0.1 * (high - low) + 1e-3
    axis.set(ylim=(low - room, high + room), ylabel="fitness (lower is better)", title="Fitness")


def _excess(axis: Any, generation: Sequence[int], rows: Sequence[Mapping[str, Any]], ratio: np.ndarray) -> None:
    """Draw how far the fitness lies above the optimum's, on a logarithmic axis."""
    optimum = np.nanmedian(_column(rows, "fitness_best") / ratio)
    # Fresh pairs differ by more than what is left to gain: only a mean over generations stays above the optimum.
    window = max(len(rows) // _SMOOTH, 1)
    population = _running_mean(_column(rows, "fitness_mean"), window) / optimum - 1.0
    label = "population mean, fresh pairs" + (f", mean of {window}" if window > 1 else "")
    axis.set_yscale("log")
    log_numbers(axis.yaxis)
    axis.plot(generation, np.where(population > 0.0, population, np.nan), color=ORANGE, lw=1.0, label=label)
    axis.plot(generation, np.maximum(ratio - 1.0, _FLOOR), color=BLUE, label="best so far, held-out pairs")
    axis.axhline(0.01, color=GREEN, lw=0.9, ls="--", label="1 % above the optimum")
    axis.set(ylabel="F/F* − 1 (lower is better)", title="Fitness above the optimum's")


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return the mean of the `window` values around each, fewer at the ends; `[N]`, NaN left out."""
    known = np.isfinite(values)
    kernel = np.ones(window)
    total = np.convolve(np.where(known, values, 0.0), kernel, "same")[: len(values)]
    count = np.convolve(known.astype(float), kernel, "same")[: len(values)]
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0.0)


def loss_shape(path: Path, artifact: loss.Artifact, optimum: loss.Artifact | None = None) -> None:
    """Draw the loss against p_t beside cross-entropy and the optimum, the wrong classes equal."""
    p = np.concatenate([np.geomspace(1e-5, 0.02, 120), np.linspace(0.02, 1.0 - 1e-5, 300)])
    log_p = _spread(p, artifact.num_classes or _CLASSES)
    labels = np.zeros(len(p), np.int32)
    learned, reference = evaluate(artifact, log_p, labels)[0], -log_p[:, 0]
    with _axes(path, columns=2) as (left, right):
        for axis in (left, right):
            axis.plot(p, reference, color=ORANGE, ls="--", label="cross-entropy")
            if optimum is not None:
                axis.plot(p, evaluate(optimum, log_p, labels)[0], **_OPTIMUM)
            axis.plot(p, learned, color=BLUE, label="learned")
            axis.set(xlabel="$p_t$, probability of the true class", ylabel="loss")
            axis.legend()
        left.set(title="Loss", ylim=(-0.2, 6.0))
        right.set(title="Loss, logarithmic $p_t$", xscale="log")


def gradient_profile(path: Path, artifact: loss.Artifact, optimum: loss.Artifact | None = None) -> None:
    """Draw the slope with respect to the true class's logit beside cross-entropy's and the optimum's."""
    gap = np.linspace(-15.0, 12.0, 400)
    classes = artifact.num_classes or _CLASSES
    log_p = np.column_stack([gap, *[np.zeros_like(gap)] * (classes - 1)])
    log_p -= np.log(np.sum(np.exp(log_p), axis=1, keepdims=True))
    labels = np.zeros(len(gap), np.int32)

    with _axes(path) as (axis,):
        axis.axhline(0.0, color=GREY, lw=0.8)
        axis.plot(gap, 1.0 - np.exp(log_p[:, 0]), color=ORANGE, ls="--", label="cross-entropy")
        if optimum is not None:
            axis.plot(gap, -evaluate(optimum, log_p, labels)[1][:, 0], **_OPTIMUM)
        axis.plot(gap, -evaluate(artifact, log_p, labels)[1][:, 0], color=BLUE, label="learned")
        axis.set(
            xlabel=f"logit of the true class minus the (equal) others, {classes} classes",
            ylabel="pull on the true class's logit",
            title="Gradient profile",
        )
        axis.legend()


def mixture_histogram(path: Path, mixture: MixtureConfig) -> None:
    """Draw the sampled distribution of p_t, linear and logarithmic, for 10 classes."""
    labels, log_p = draw_predictions(jax.random.key(0), mixture, _CLASSES, _HISTOGRAM_SAMPLE)
    log_p_t = log_p[np.arange(len(labels)), labels]
    with _axes(path, columns=2) as (left, right):
        left.hist(np.exp(log_p_t), bins=50, range=(0.0, 1.0), density=True, color=BLUE)
        left.set(xlabel="$p_t$", ylabel="density", title="Mixture")
        low = max(mixture.log_p_min, float(np.quantile(log_p_t, 0.001)))
        right.hist(log_p_t, bins=50, range=(low, 0.0), density=True, color=GREEN)
        right.set(xlabel="ln $p_t$", ylabel="density", title="Mixture, logarithmic $p_t$")


def designed(path: Path, target: str, report: DesignReport) -> None:
    """Draw a target loss and the optimum of the mixture designed for it, both standardised, against p_t."""
    p, name = np.exp(report.log_p), literal(target)
    with _axes(path, columns=2) as (left, right):
        for axis, scale in ((left, "linear"), (right, "log")):
            axis.plot(p, _standard(report.target), color=ORANGE, lw=3.0, alpha=0.6, label=name)
            axis.plot(p, _standard(report.optimum), color=BLUE, ls="--", label="optimum of the mixture")
            axis.set(xlabel="$p_t$, probability of the true class", ylabel="loss, standardised", xscale=scale)
            axis.legend()
        left.set(title=f"Designed for {name}")
        right.set(title=f"$R^2$ = {report.r_squared:.5f}")


def _standard(values: Any) -> np.ndarray:
    values = np.asarray(values, float)
    return (values - values.mean()) / values.std()


def _spread(p: np.ndarray, classes: int) -> np.ndarray:
    """Return log-probabilities `[N, classes]` with p_t = p for class 0 and the rest shared equally."""
    rest = np.log1p(-p) - np.log(classes - 1)
    return np.column_stack([np.log(p), *[rest] * (classes - 1)])


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) is None else row[name] for row in rows], float)


@contextlib.contextmanager
def _axes(path: Path, columns: int = 1) -> Iterator[tuple[Any, ...]]:
    """Yield axes of a new figure and write it to `path`."""
    width, height = PANEL
    figure = new_figure(width * columns, height)
    axes = tuple(figure.subplots(1, columns, squeeze=False)[0])
    for axis in axes:
        dress(axis)
    yield axes
    write(path, figure)
