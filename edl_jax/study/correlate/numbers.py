"""What pretraining says of a loss: fitness, ranking, gradients and shape on predictions of one mixture.

Losses are tables of slopes, so that no loss is a program of its own. A loss of the form sum_c g(y_c, p_c) is found from
its slopes up to a constant, which none of these numbers sees.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import cumulative_trapezoid

from edl_jax.pretrain import ObjectiveConfig, solve_optimum
from edl_jax.search.tables import EXACT_LOG_P, LOGIT_P, SIZE
from edl_jax.synthetic import draw_predictions, ranking_accuracy, severity
from edl_jax.synthetic.optimum import Optimum
from edl_jax.synthetic.ranking import grouped_pairs, grouped_ranking_fitness

Array = np.ndarray
PULLS = (0.01, 0.5, 0.99)
_MOST = 2**22  # probabilities of a sample
_KEY = 7


class Number(NamedTuple):
    """What is said of a number.

    Attributes:
      title: for tables and figures.
      sign: 1 where more, -1 where less is expected to go with higher accuracy.
    """

    title: str
    sign: int


NUMBERS: Mapping[str, Number] = {
    "fitness_ratio": Number("F / F*", -1),
    "own_fitness_ratio": Number("F / F* on its own mixture", -1),
    "ranking_accuracy": Number("ranking accuracy", 1),
    "wrong_way_share": Number("wrong-way share", -1),
    "r_squared_cross_entropy": Number("R² with cross-entropy", 1),
    "r_squared_optimum": Number("R² with the optimum", 1),
    **{f"pull_{100 * p:02.0f}": Number(f"pull at p_t = {p:g}", 1) for p in PULLS},
    "mean_pull": Number("mean pull", 1),
    "students_clean": Number("students, clean labels", 1),
    "students_noisy": Number("students, noisy labels", 1),
}
"""The numbers of an artifact by key; those of students are of `students`."""


class Predictions(NamedTuple):
    """Predictions of a mixture, with what is the same for all losses.

    Attributes:
      objective: what is minimised on them.
      optimum: the best possible loss.
      labels: `[N]` classes.
      log_p: `[N, C]` float64.
      severity: `[N]` float64.
      fitness: F*, the optimum's objective on these pairs.
    """

    objective: ObjectiveConfig
    optimum: Optimum
    labels: Array
    log_p: Array
    severity: Array
    fitness: float


def draw(objective: ObjectiveConfig, pairs: int, seed: int) -> Predictions:
    """Return fresh predictions of the mixture of an objective: as many as pairs, each paired with the next.

    Args:
      objective: mixture, severity, beta, margin and number of classes.
      pairs: how many, at most so many that they hold 4 million probabilities.
      seed: of the draw, which evolution with the same seed does not share.
    """
    count = min(pairs, max(_MOST // objective.num_classes, 1024))
    key = jax.random.fold_in(jax.random.key(seed), _KEY)
    labels, log_p = draw_predictions(key, objective.mixture, objective.num_classes, count)
    labels, exact = np.asarray(labels), np.asarray(log_p, np.float64)
    found = severity.get(objective.severity)(exact, labels)
    optimum = solve_optimum(objective)
    return Predictions(objective, optimum, labels, exact, found, optimum.fitness_on(*grouped_pairs(found[None], 1)))


class Places:
    """Where predictions lie in a table, found once for all losses."""

    def __init__(self, log_p: Array, labels: Array) -> None:
        """Take predictions `[N, C]` and labels `[N]`."""
        self.log_p, self.labels, self._rows = log_p, labels, np.arange(len(labels))
        with np.errstate(divide="ignore"):
            logit = log_p - np.log(-np.expm1(log_p))
        step = (LOGIT_P[-1] - LOGIT_P[0]) / (SIZE - 1)
        place = np.clip((logit - LOGIT_P[0]) / step, 0.0, SIZE - 1.0)
        self._cell = np.minimum(place.astype(np.int32), SIZE - 2)
        self._share = place - self._cell
        self._below = np.minimum(log_p - EXACT_LOG_P[0], 0.0)
        true = np.zeros(log_p.shape, bool)
        true[self._rows, labels] = True
        self._rival = np.argmax(np.where(true, -np.inf, log_p), axis=1)
        self._true = true

    def losses(self, table: Array) -> Array:
        """Return the losses `[N]` of a table `[2, K]`, up to a constant."""
        slopes = np.asarray(table, np.float64)
        # dg/ds = d (1 - p), of s = ln(p / (1 - p)).
        rest = -np.expm1(EXACT_LOG_P)
        curves = cumulative_trapezoid(slopes * rest, LOGIT_P, axis=1, initial=0.0)
        return self._look_up(curves, slopes[:, 0]).sum(axis=1)

    def gradients(self, table: Array) -> Array:
        """Return the gradients in the logits `[N, C]` of a table `[2, K]`."""
        d = self._look_up(np.asarray(table, np.float64))
        return d - np.exp(self.log_p) * d.sum(axis=1, keepdims=True)

    def pulls(self, gradients: Array) -> Array:
        """Return the gradients in the true class's logit `[N]` over cross-entropy's, p_t - 1."""
        error = np.expm1(self.log_p[self._rows, self.labels])
        return gradients[self._rows, self.labels] / np.where(error < 0.0, error, math.nan)

    def wrong_way(self, gradients: Array) -> Array:
        """Return bool `[N]`: whether descent lowers the true class's margin over the strongest wrong one."""
        return gradients[self._rows, self.labels] > gradients[self._rows, self._rival]

    def cross_entropy_norm(self) -> float:
        """Return the mean norm of cross-entropy's gradients in the logits."""
        return float(np.mean(np.linalg.norm(np.exp(self.log_p) - self._true, axis=1)))

    def _look_up(self, rows: Array, ends: Array | None = None) -> Array:
        """Return columns `[2, K]` of wrong and true classes at the predictions; `ends`: their slopes below."""
        found = np.empty(self.log_p.shape)
        for row, chosen in ((0, ~self._true), (1, self._true)):
            cell, column = self._cell[chosen], rows[row]
            found[chosen] = column[cell] + self._share[chosen] * np.diff(column)[cell]
            if ends is not None:
                found[chosen] += ends[row] * self._below[chosen]
        return found


def places_of(predictions: Predictions) -> Places:
    """Return where predictions lie in a table."""
    return Places(predictions.log_p, predictions.labels)


def scale_of(table: Array, places: Places) -> float:
    """Return the factor by which the mean norm of a loss's gradients is cross-entropy's; NaN where there is none."""
    norm = float(np.mean(np.linalg.norm(places.gradients(table), axis=1)))
    return places.cross_entropy_norm() / norm if 0.0 < norm < math.inf else math.nan


def fitness_of(losses: Array, predictions: Predictions) -> tuple[float, float]:
    """Return (F, ranking accuracy) of losses `[N]`: the ranking objective without penalties."""
    with jax.enable_x64(True):
        found = _ranking(losses, predictions.severity, predictions.objective.beta, predictions.objective.margin)
    return float(found[0]), float(found[1])


@jax.jit
def _ranking(losses: jax.Array, severities: jax.Array, beta: float, margin: float) -> tuple[jax.Array, jax.Array]:
    fitness = grouped_ranking_fitness(losses[None], severities[None], beta=beta, margin=margin)
    (loss_a, loss_b), (severity_a, severity_b) = (grouped_pairs(x[None], 1) for x in (losses, severities))
    return jnp.asarray(fitness), ranking_accuracy(loss_a, loss_b, severity_a, severity_b)


def measure(table: Array, predictions: Predictions, places: Places) -> dict[str, float]:
    """Return what pretraining says of a loss.

    Args:
      table: `[2, K]` slopes, on the common scale.
      predictions: of the mixture.
      places: of these in a table.

    Returns:
      `fitness` and the numbers of `NUMBERS` that take no training, but for that of its own mixture.
    """
    losses, gradients = places.losses(table), places.gradients(table)
    fitness, accuracy = fitness_of(losses, predictions)
    nll = -predictions.log_p[np.arange(len(predictions.labels)), predictions.labels]
    best = predictions.optimum.loss_of_severity(predictions.severity)
    return {
        "fitness": fitness,
        "fitness_ratio": fitness / predictions.fitness,
        "ranking_accuracy": accuracy,
        "wrong_way_share": float(np.mean(places.wrong_way(gradients))),
        "r_squared_cross_entropy": _rising_r_squared(losses, nll),
        "r_squared_optimum": _rising_r_squared(losses, best),
        **_pulls(table, predictions.objective.num_classes),
        "mean_pull": float(np.nanmean(places.pulls(gradients))),
    }


def _pulls(table: Array, num_classes: int) -> dict[str, float]:
    """Return the pull over cross-entropy's at some p_t, the other classes equal."""
    p = np.array(PULLS)
    log_p = np.repeat(np.log((1.0 - p) / (num_classes - 1))[:, None], num_classes, axis=1)
    log_p[:, 0] = np.log(p)
    places = Places(log_p, np.zeros(len(p), np.int32))
    found = places.pulls(places.gradients(table))
    return {f"pull_{100 * at:02.0f}": float(value) for at, value in zip(PULLS, found, strict=True)}


def _rising_r_squared(x: Array, y: Array) -> float:
    """Return R^2 of the straight line between two vectors; 0 where it falls or one of them is constant."""
    if np.std(x) == 0.0 or np.std(y) == 0.0:
        return 0.0
    return float(max(np.corrcoef(x, y)[0, 1], 0.0) ** 2)
