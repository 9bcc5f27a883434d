"""How far two measures order the same things alike: rank correlations and shares of the best; NumPy float64.

Every statistic takes weights: a bootstrap resample is how often each thing was drawn, so that all resamples are a few
matrix products. Infinite values are ranked as they are, ties share the mean of their ranks.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy import stats

from edl_jax.core.errors import require
from edl_jax.stats import intervals

RESAMPLES = 1_999
_SEED = 0
_BATCH = 2**21  # numbers of an array [resamples, things]


class Estimate(NamedTuple):
    """A statistic of all things and its percentile bootstrap interval; NaN where there is none."""

    value: float
    low: float
    high: float


NOTHING = Estimate(np.nan, np.nan, np.nan)
"""The estimate of a statistic that is not defined, as a correlation of fewer than 3 things or of equal values."""

# Weights [B, n] -> values [B]
Statistic = Callable[[np.ndarray], np.ndarray]


def spearman(x: intervals.Values, y: intervals.Values, *, level: float = 0.95) -> Estimate:
    """Return Spearman's rank correlation of two measures of n things, and its interval over things.

    Args:
      x: `[n]`; infinite values are allowed, NaN is not.
      y: `[n]`, likewise.
      level: confidence level.

    Raises:
      UserError: measures of different lengths or none, NaN, or a level outside (0, 1).
    """
    return _correlation(_spearman, x, y, level)


def kendall(x: intervals.Values, y: intervals.Values, *, level: float = 0.95) -> Estimate:
    """Return Kendall's tau-b of two measures of n things, and its interval over things: see `spearman`."""
    return _correlation(_kendall, x, y, level)


def bootstrap(statistic: Statistic, count: int, *, level: float = 0.95) -> Estimate:
    """Return a statistic of `count` things and its percentile bootstrap interval of 1,999 fixed resamples.

    Args:
      statistic: of weights `[B, n]`, how often each thing counts, whose rows sum to n -> values `[B]`. Resamples whose
        value is NaN are left out.
      count: n.
      level: confidence level.
    """
    value = float(statistic(np.ones((1, count)))[0])
    if np.isnan(value):
        return NOTHING
    found = np.concatenate([statistic(weights) for weights in _resamples(count)])
    low, high = np.nanquantile(found, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Estimate(value, float(low), float(high))


def among_best(values: np.ndarray, best: float) -> Statistic:
    """Return the share of each thing that is among the `best` least, weights `[B, n]` -> `[B, n]`.

    Of things that are equal and of which some only have room, each has the same share.

    Args:
      values: `[n]`, infinite ones among them.
      best: how many.
    """
    less = (values[None, :] < values[:, None]).astype(float)
    equal = (values[None, :] == values[:, None]).astype(float)

    def share(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.nan_to_num(np.clip((best - weights @ less.T) / (weights @ equal.T), 0.0, 1.0))

    return share


def recall(reference: np.ndarray, other: np.ndarray, best: int, within: int) -> Statistic:
    """Return which share of the `best` things of a reference is among the best `within` of another measure.

    Args:
      reference: `[n]`, the smaller, the better.
      other: `[n]`, likewise.
      best: how many of the reference.
      within: how many of the other; by chance the share is within / n.
    """
    wanted, found = among_best(reference, best), among_best(other, within)
    # Of a thing that was drawn several times the same copies come first in both orders.
    alone = _is_alone(reference) & _is_alone(other)

    def share(weights: np.ndarray) -> np.ndarray:
        a, b = wanted(weights), found(weights)
        return np.sum(weights * np.where(alone, np.minimum(a, b), a * b), axis=1) / best

    return share


def regret(reference: np.ndarray, other: np.ndarray, tried: int = 1) -> Statistic:
    """Return how much worse than the best the reference finds what the other measure would choose.

    Args:
      reference: `[n]` finite, the smaller, the better.
      other: `[n]`, the smaller, the better.
      tried: of so many that the other finds best, the reference's best is chosen; of equal ones at the end all are
        tried, but of equal best ones with `tried` 1 the mean counts.
    """
    chosen = among_best(other, tried)

    def difference(weights: np.ndarray) -> np.ndarray:
        share = weights * chosen(weights)
        least = np.where(weights > 0.0, reference, np.inf).min(axis=1)
        mean = share @ reference if tried == 1 else np.where(share > 0.0, reference, np.inf).min(axis=1)
        return mean - least

    return difference


def _correlation(
    coefficient: Callable[[np.ndarray, np.ndarray], Statistic], x: intervals.Values, y: intervals.Values, level: float
) -> Estimate:
    a, b = (stats.rankdata(intervals.checked(values, level)) for values in (x, y))
    require(len(a) == len(b), f"{len(a)} and {len(b)} values, expected two measures of the same things")
    if len(a) < 3:
        return NOTHING
    return bootstrap(coefficient(a, b), len(a), level=level)


def _spearman(x: np.ndarray, y: np.ndarray) -> Statistic:
    below = [0.5 + 0.5 * np.sign(values[None, :] - values[:, None]) for values in (x, y)]  # [j, i]: j is less than i
    centre = 0.5 * len(x)

    def statistic(weights: np.ndarray) -> np.ndarray:
        # The rank of thing i in a resample is half more than what lies below it, of what is equal the half.
        a, b = (weights @ matrix - centre for matrix in below)
        return _ratio(np.sum(weights * a * b, 1), np.sum(weights * a * a, 1), np.sum(weights * b * b, 1))

    return statistic


def _kendall(x: np.ndarray, y: np.ndarray) -> Statistic:
    a, b = (np.sign(values[None, :] - values[:, None]) for values in (x, y))

    def statistic(weights: np.ndarray) -> np.ndarray:
        # A thing drawn twice is a tie in both measures.
        return _ratio(*(np.sum((weights @ matrix) * weights, 1) for matrix in (a * b, np.abs(a), np.abs(b))))

    return statistic


def _ratio(both: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return both / sqrt(first second), NaN where one of them is 0: all values are equal."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((first > 0.0) & (second > 0.0), both / np.sqrt(first * second), np.nan)


def _is_alone(values: np.ndarray) -> np.ndarray:
    """Return which things `[n]` no other is equal to."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[place] == 1


def _resamples(count: int) -> Iterator[np.ndarray]:
    """Yield weights `[B, count]` of all resamples in batches."""
    rng = np.random.default_rng(_SEED)
    size = max(_BATCH // count, 1)
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(float)
