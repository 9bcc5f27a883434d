"""The loss that minimises the ranking objective, on a grid, for any mixture and severity.

The best loss is a function of severity alone, increasing, and unique up to a l + b (docs/theory.md). So the
objective is minimised over the values of a function on quantile bins of the severity:

    F(l) = mean over pairs e_i < e_j of softplus(beta (m (e_j - e_i) / s_e - (l_j - l_i) / s_l)) / beta

Over functions with s_l <= 1 this is a convex problem whose solution has s_l = 1. The distance of a solution
from the true minimum over the grid is therefore bounded by a number that can be computed, `Optimum.gap`.
"""

import dataclasses
import math

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from edl_jax.core.errors import require
from edl_jax.synthetic import severity as severities
from edl_jax.synthetic.mixture import MixtureConfig, draw_predictions

Array = NDArray[np.float64]

BINS = 256
# Predictions drawn, and probabilities drawn for them at the most unless that leaves too few predictions.
_PREDICTIONS, _PROBABILITIES, _LEAST = 1 << 17, 1 << 23, 1 << 14
# Probabilities in one program: bounds the memory at large C.
_CHUNK = 1 << 21
# Bins at each end whose slope continues the loss beyond the grid.
_END = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Bins:
    """A law of severities as K bins in increasing order.

    Attributes:
      severity: `[K]` float64 mean severity of each bin, strictly increasing.
      mass: `[K]` share of the predictions in each bin, sums to 1.
      tied: `[K]` share of the pairs inside a bin whose severities are equal: 1 in an atom.
      lowest: smallest severity of the sample.
      highest: largest severity of the sample.
    """

    severity: Array
    mass: Array
    tied: Array
    lowest: float
    highest: float

    @property
    def quantile(self) -> Array:
        """Return `[K]` distribution function of the severity at each bin, mid-rank."""
        return np.cumsum(self.mass) - 0.5 * self.mass


@dataclasses.dataclass(frozen=True, eq=False)
class Optimum:
    """The minimiser of the ranking objective.

    Attributes:
      severity: name of the severity.
      margin: m of the objective.
      beta: beta of the objective.
      e: `[K]` float64 severities, strictly increasing.
      values: `[K]` float64, the optimal loss there, non-decreasing: standard deviation 1 over the mixture, minimum 0.
      fitness: F*, the objective of the optimal loss over the mixture; pairs of equal severity do not count.
      gap: bound on how far `fitness` lies above the true minimum over the grid.
    """

    severity: str
    margin: float
    beta: float
    e: Array
    values: Array
    fitness: float
    gap: float

    def loss_of_severity(self, e: ArrayLike) -> Array:
        """Return the optimal loss `[...]` float64 at severities `[...]`.

        Linear between the points of the grid. Outside it the loss continues as a straight line with the slope
        of its end: the mixture draws nothing there, so that the objective leaves it open, and a constant would
        give no gradient to predictions worse than any that the mixture draws.
        """
        e = np.asarray(e, np.float64)
        below, above = np.minimum(e - self.e[0], 0.0), np.maximum(e - self.e[-1], 0.0)
        outside = self._slope(slice(None, _END)) * below + self._slope(slice(-_END, None)) * above
        return np.interp(e, self.e, self.values) + outside

    def fitness_on(self, severity_a: ArrayLike, severity_b: ArrayLike) -> float:
        """Return the objective of the optimal loss on pairs with severities `[N]` and `[N]`.

        On the pairs that a network is scored on, the ratio of the network's F to this one is not blurred by
        which pairs were drawn.
        """
        a, b = np.asarray(severity_a, np.float64), np.asarray(severity_b, np.float64)
        loss_a, loss_b = self.loss_of_severity(a), self.loss_of_severity(b)
        gap_e, gap_l = (b - a) / _std(np.append(a, b)), (loss_b - loss_a) / _std(np.append(loss_a, loss_b))
        x = self.margin * np.abs(gap_e) - np.sign(gap_e) * gap_l
        return float(np.mean(np.logaddexp(0.0, self.beta * x)[gap_e != 0.0]) / self.beta) if np.any(gap_e) else 0.0

    def _slope(self, end: slice) -> float:
        e, values = self.e[end], self.values[end]
        return float((values[-1] - values[0]) / (e[-1] - e[0]))


def solve(
    mixture: MixtureConfig,
    severity: str = "error",
    num_classes: int = 10,
    *,
    beta: float = 1.0,
    margin: float = 0.0,
    bins: int = BINS,
    key: jax.Array | None = None,
) -> Optimum:
    """Return the loss that minimises the ranking objective over a mixture.

    Args:
      mixture: mixture of predictions.
      severity: name of the severity.
      num_classes: C.
      beta: sharpness of the softplus, positive.
      margin: m, 0 or more.
      bins: K, quantile bins of the severity.
      key: PRNG key of the sample that stands for the mixture.

    Raises:
      UserError: unknown severity, a number out of range, or a mixture whose predictions all have the same severity.
    """
    sample = draw_severities(jax.random.key(0) if key is None else key, mixture, severity, num_classes)
    return from_severities(sample, severity, beta=beta, margin=margin, bins=bins)


def from_severities(
    sample: ArrayLike, severity: str, *, beta: float = 1.0, margin: float = 0.0, bins: int = BINS
) -> Optimum:
    """Return the loss that minimises the ranking objective, from severities `[N]` drawn from the mixture.

    Takes no compilation; see `solve` for the other arguments and the errors.
    """
    require(bins >= 2, f"bins is {bins}, expected at least 2")
    grid = reduce(sample, bins)
    require(
        len(grid.mass) > 1,
        f"every prediction of this mixture has {severity} {grid.lowest:g}: there is nothing to rank; "
        "give another component a weight",
    )
    values, fitness, gap = minimise(grid, beta=beta, margin=margin)
    e, values = _with_ends(grid, values)
    return Optimum(severity, margin, beta, e, values - values[0], fitness, gap)


def draw_severities(key: jax.Array, mixture: MixtureConfig, severity: str, num_classes: int) -> Array:
    """Return the severities `[N]`, float64, of predictions drawn from the mixture.

    Raises:
      UserError: unknown severity, num_classes < 2.
    """
    require(num_classes >= 2, f"num_classes is {num_classes}, expected at least 2")
    count = min(_PREDICTIONS, max(_PROBABILITIES // num_classes, _LEAST))
    chunks = max(1, count * num_classes // _CHUNK)
    measure = severities.get(severity)
    parts = []
    for part_key in jax.random.split(key, chunks):
        labels, log_p = draw_predictions(part_key, mixture, num_classes, count // chunks)
        parts.append(measure(log_p, labels))
    return np.concatenate(parts).astype(np.float64)


def reduce(sample: ArrayLike, bins: int) -> Bins:
    """Sort severities `[N]` into at most `bins` bins; equal severities never fall into two bins.

    The bins are narrow where predictions are many (half of the position is the quantile) and where they are
    few (half is the severity itself), because at m > 0 the rare severities decide much of s_e.
    """
    values, counts = np.unique(np.asarray(sample, np.float64), return_counts=True)
    total = counts.sum()
    quantile = (np.cumsum(counts) - 0.5 * counts) / total
    position = (values - values[0]) / max(values[-1] - values[0], np.finfo(np.float64).tiny)
    _, index = np.unique(np.floor(0.5 * bins * (quantile + position)), return_inverse=True)
    size = np.bincount(index, counts)
    pairs = size * (size - 1.0)
    tied = np.bincount(index, counts * (counts - 1.0)) / np.where(pairs > 0.0, pairs, 1.0)
    severity = np.bincount(index, counts * values) / size
    return Bins(severity, size / total, tied, float(values[0]), float(values[-1]))


def objective(grid: Bins, loss: ArrayLike, *, beta: float = 1.0, margin: float = 0.0) -> float:
    """Return F of a loss with values `[K]` on the bins, over all pairs of unequal severity."""
    return _Problem(grid, beta, margin).value_and_gradient(_standardise(np.asarray(loss, np.float64), grid.mass))[0]


def minimise(grid: Bins, *, beta: float = 1.0, margin: float = 0.0) -> tuple[Array, float, float]:
    """Minimise the objective over the values of a loss on the bins.

    Pairs inside a bin count as ties of the loss: at margin 0 and beta above about K / 4 that is too coarse.

    Returns:
      (values `[K]` with mean 0 and standard deviation 1, F of them, bound on the distance of F from the minimum).

    Raises:
      UserError: beta or margin out of range.
    """
    require(0.0 < beta < math.inf, f"beta is {beta}, expected a finite number above 0")
    require(0.0 <= margin < math.inf, f"margin is {margin}, expected a finite number, 0 or more")
    problem, mass, root = _Problem(grid, beta, margin), grid.mass, np.sqrt(grid.mass)

    # In x = sqrt(mass) l the curvature of F is much the same in every direction.
    def scale_free(x: Array) -> tuple[float, Array]:
        values = x / root
        values -= mass @ values
        std = math.sqrt(mass @ np.square(values))
        values /= std
        fitness, gradient = problem.value_and_gradient(values)
        return fitness, (gradient - (gradient @ values) * mass * values) / (std * root)

    options = {"maxiter": 1000, "maxfun": 1500, "ftol": 1e-13, "gtol": 1e-9, "maxcor": 30}
    start = _standardise(grid.quantile, mass)
    found = optimize.minimize(scale_free, root * start, jac=True, method="L-BFGS-B", options=options).x
    values = np.maximum.accumulate(_standardise(found / root, mass))  # flat to rounding where pairs hardly matter
    values = _standardise(values, mass)
    fitness, gradient = problem.value_and_gradient(values)
    # Convexity: no v with standard deviation <= 1 has an objective below fitness + gradient . (v - values).
    gap = float(gradient @ values + math.sqrt(np.sum(np.square(gradient) / mass)))
    return values, fitness, max(gap, 0.0)


class _Problem:
    """The objective as a convex function of standardised values; sums over the upper triangle of the pairs."""

    def __init__(self, grid: Bins, beta: float, margin: float) -> None:
        self.beta = beta
        self.offset = margin * _standardise(grid.severity, grid.mass)
        self.weight = np.triu(np.outer(grid.mass, grid.mass), 1)
        inside = 0.5 * np.sum(np.square(grid.mass) * (1.0 - grid.tied))
        total = np.sum(self.weight) + inside
        self.weight /= total
        # Pairs inside a bin: in the limit of small bins their losses are equal.
        self.inside = inside / total * math.log(2.0) / beta

    def value_and_gradient(self, values: Array) -> tuple[float, Array]:
        v = self.beta * (self.offset - values)
        x = v[None, :] - v[:, None]
        t = np.exp(-np.abs(x))
        softplus = np.maximum(x, 0.0) + np.log1p(t)
        slope = self.weight * (np.where(x > 0.0, 1.0, t) / (1.0 + t))
        fitness = float(np.sum(self.weight * softplus)) / self.beta + self.inside
        return fitness, slope.sum(axis=1) - slope.sum(axis=0)


def _with_ends(grid: Bins, values: Array) -> tuple[Array, Array]:
    """Add the ends of the sample's range, on the straight line through the two outer bins."""
    e, slopes = grid.severity, np.diff(values) / np.diff(grid.severity)
    if grid.lowest < e[0]:
        values = np.append(values[0] - slopes[0] * (e[0] - grid.lowest), values)
        e = np.append(grid.lowest, e)
    if grid.highest > e[-1]:
        values = np.append(values, values[-1] + slopes[-1] * (grid.highest - e[-1]))
        e = np.append(e, grid.highest)
    return e, values


def _standardise(x: Array, mass: Array) -> Array:
    centred = x - mass @ x
    std = math.sqrt(mass @ np.square(centred))
    return centred / (std if std > 0.0 else 1.0)


def _std(x: Array) -> float:
    std = float(np.std(x))
    return std if std > 0.0 else 1.0
