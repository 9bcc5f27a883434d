"""The mixture that would have matched real predictions, and the loss that ranking would make of it.

At margin 0 the optimum of the ranking objective is a function of the rank of p_t alone (docs/theory.md, section 3). For
small beta its pull on the logit of the true class is, up to a factor, the density of logit p_t. So the mixture is
fitted where the loss is decided: the real density of logit p_t, in bins of equal width, as a sum of the components'
densities with weights of 0 or more, by least squares.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.optimize import nnls

from edl_jax import loss
from edl_jax.core.config import to_dict
from edl_jax.pretrain import ObjectiveConfig
from edl_jax.synthetic import optimum
from edl_jax.synthetic.law import OF_P_T, Law
from edl_jax.synthetic.mixture import COMPONENTS, MixtureConfig
from edl_jax.synthetic.optimum_loss import optimum_artifact

LOGITS = np.arange(-12.0, 12.01, 0.25)
"""Edges `[B - 1]` of the bins of logit p_t; what lies beyond the ends is in a bin of its own."""
COARSE = LOGITS[::2]
"""Edges of bins twice as wide, for figures."""
_FAR = 80.0  # a ln p_t below all
_SUM = 1e3  # weight of the equation that the weights sum to 1
_KNOTS = 65
# Quantiles of ln p_t: the lowest and the highest, how far they are apart at least, and the highest of the lowest one.
_LOWEST, _HIGHEST, _APART, _HIGHEST_LEAST = -79.0, -1e-6, 1e-8, -1e-3
_LEAST_SHARE = 1e-4  # of a weight that is kept


class Fit(NamedTuple):
    """A mixture fitted to a law of p_t.

    Attributes:
      weights: component -> its weight; they sum to 1.
      left: share of the predictions that would have to move to other bins: the total variation distance.
      by_chance: the mean of that distance between a sample of as many predictions and the fitted law itself.
    """

    weights: dict[str, float]
    left: float
    by_chance: float


def only(mixture: MixtureConfig, component: str) -> MixtureConfig:
    """Return the mixture that is one component of a mixture."""
    return with_weights(mixture, {component: 1.0})


def with_weights(mixture: MixtureConfig, weights: Mapping[str, float]) -> MixtureConfig:
    """Return a mixture with other weights, 0 where none is given."""
    return dataclasses.replace(mixture, **_weights(weights))


def _weights(given: Mapping[str, float]) -> dict[str, Any]:
    return {name: given.get(name, 0.0) for name in COMPONENTS}


def candidates(mixture: MixtureConfig) -> list[str]:
    """Return the components that a fit may use: all with a law of their own."""
    return [name for name in COMPONENTS if name != "designed" or mixture.designed > 0.0]


def shares(logit_p_t: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the share of predictions in each bin `[B]`, from their logit p_t `[N]` and their weights `[N]`."""
    index = np.searchsorted(LOGITS, logit_p_t, side="right")
    counts = np.bincount(index, weights, len(LOGITS) + 1)
    return counts / counts.sum()


def coarse(found: np.ndarray) -> np.ndarray:
    """Return the share in each of the bins of `COARSE`, from those in the bins of `LOGITS`."""
    return np.concatenate([found[:1], found[1:-1].reshape(-1, 2).sum(axis=1), found[-1:]])


def fit(real: np.ndarray, mixture: MixtureConfig, num_classes: int, count: int, *, seed: int = 0) -> Fit:
    """Return the weights of a mixture's components with which it matches the real law of p_t best.

    Args:
      real: share of real predictions in each bin `[B]`, of `shares`.
      mixture: whose components, concentrations included, are used.
      num_classes: C.
      count: predictions that the shares are of.
      seed: of the samples that say what is left by chance.
    """
    names = candidates(mixture)
    laws = np.stack([component_shares(mixture, name, num_classes) for name in names], axis=1)
    rows, wanted = np.vstack([laws, np.full(len(names), _SUM)]), np.append(real, _SUM)
    found = nnls(rows, wanted)[0]
    found = np.where(found < _LEAST_SHARE * found.sum(), 0.0, found)
    found /= found.sum()
    law = laws @ found
    samples = np.random.default_rng(seed).multinomial(count, law / law.sum(), size=200) / count
    by_chance = float(np.mean(0.5 * np.abs(samples - law).sum(axis=1)))
    weights = dict(zip(names, found.tolist(), strict=True))
    return Fit(weights, float(0.5 * np.abs(real - law).sum()), by_chance)


def component_shares(mixture: MixtureConfig, component: str, num_classes: int) -> np.ndarray:
    """Return the share of a component's predictions in each bin `[B]`."""
    edges = np.concatenate([[-_FAR], -np.logaddexp(0.0, -LOGITS), [0.0]])
    rank = Law(only(mixture, component), num_classes).rank(edges)
    rank[0], rank[-1] = 1.0, 0.0
    return -np.diff(rank)


def spans(epochs: Sequence[int]) -> np.ndarray:
    """Return the share of a training that each recorded epoch stands for, `[E]`, by the trapezoidal rule."""
    at = np.asarray(epochs, np.float64)
    if len(at) == 1:
        return np.ones(1)
    steps = np.diff(at)
    found = 0.5 * (np.append(0.0, steps) + np.append(steps, 0.0))
    return found / found.sum()


def by_quantiles(
    mixture: MixtureConfig, log_p_t: np.ndarray, weights: np.ndarray, *, knots: int = _KNOTS
) -> MixtureConfig:
    """Return the mixture of the component `designed` whose ln p_t has the quantiles of real predictions.

    Args:
      mixture: for the spread of the wrong classes.
      log_p_t: `[N]` of real predictions.
      weights: `[N]` of these.
      knots: number of quantiles.
    """
    order = np.argsort(log_p_t, kind="stable")
    at = np.cumsum(weights[order])
    at = (at - 0.5 * weights[order]) / at[-1]
    quantiles = np.interp(np.linspace(0.0, 1.0, knots), at, np.asarray(log_p_t, np.float64)[order])
    # Below 0 and without ties, which would leave the law without a density.
    steps = _APART * np.arange(knots)
    quantiles = np.clip(quantiles, _LOWEST, _HIGHEST) - steps
    quantiles = np.minimum.accumulate(quantiles[::-1])[::-1] + steps
    quantiles = np.round(quantiles, 9)
    return dataclasses.replace(
        mixture,
        **_weights({"designed": 1.0}),
        log_p_min=min(float(quantiles[0]), _HIGHEST_LEAST),
        designed_log_p=tuple(quantiles.tolist()),
    )


def implied_loss(mixture: MixtureConfig, objective: ObjectiveConfig, num_classes: int, *, seed: int) -> loss.Artifact:
    """Return the optimum of the ranking objective over a mixture, as a loss in cross-entropy's place.

    Args:
      mixture: the mixture.
      objective: its beta, margin and severity, where that is a function of p_t; else the severity is `error`.
      num_classes: C.
      seed: of the calibration.
    """
    severity, beta, margin = severity_of(objective), objective.beta, objective.margin
    solved = optimum.solve(mixture, severity, num_classes, beta=beta, margin=margin)
    return optimum_artifact(jax.random.key(seed), solved, mixture)


def severity_of(objective: ObjectiveConfig) -> str:
    """Return the severity of an objective where that is a function of p_t, else `error`."""
    return objective.severity if objective.severity in OF_P_T else "error"


def preset(mixture: MixtureConfig, objective: ObjectiveConfig, num_classes: int) -> dict[str, Any]:
    """Return the settings of pretrain that evolve a loss over a mixture, as a preset holds them."""
    return {
        "mixture": to_dict(mixture),
        "margin": objective.margin,
        "beta": objective.beta,
        "num_classes": num_classes,
    }
