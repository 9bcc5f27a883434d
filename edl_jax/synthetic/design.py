"""Mixtures by design: the predictions on which ranking has a wanted loss as its optimum.

At m = 0 the optimum of the ranking objective is a fixed increasing function of the rank of a prediction's
severity (docs/theory.md). A loss l that falls with p_t is therefore the optimum of the mixture in which l has
the law of that function of a uniform variable; for small beta this is density of p_t proportional to -dl/dp_t.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import numpy as np
from numpy.typing import NDArray

from edl_jax.core.errors import UserError, require
from edl_jax.loss import Loss
from edl_jax.synthetic import optimum
from edl_jax.synthetic.mixture import COMPONENTS, MixtureConfig

Array = NDArray[np.float64]

KNOTS = 65
# Points of a loss's profile, and the logit of p_t at its right end: 1 - p_t = 1e-13.
_POINTS, _HIGHEST_LOGIT = 4096, 30.0
# Share of the loss's range by which it may rise, or depend on more than p_t, and still count as falling with p_t.
_RISE, _SPREAD = 1e-3, 1e-2
# Share of 1 - p_t on the strongest wrong class in the profile with one rival.
_RIVAL = 0.99
# Shift of all logits, which no function of the probabilities sees.
_SHIFT = 3.0


@dataclasses.dataclass(frozen=True, eq=False)
class DesignReport:
    """How well the optimum of a mixture matches a target loss.

    Attributes:
      r_squared: R^2 of the straight-line fit of the optimum to the target over the mixture.
      largest_deviation: largest distance of the fitted optimum from the target over the mixture, as a share of the
        target's range.
      fitness: F*, the objective of the optimum.
      log_p: `[P]` ln p_t, ascending.
      target: `[P]` target loss there, the wrong classes sharing 1 - p_t equally.
      optimum: `[P]` the optimum there, fitted to the target by a straight line.
    """

    r_squared: float
    largest_deviation: float
    fitness: float
    log_p: Array
    target: Array
    optimum: Array


def mixture_for(
    loss: Loss,
    num_classes: int = 10,
    log_p_min: float = -9.0,
    *,
    beta: float = 1.0,
    spread: float = 1.0,
    knots: int = KNOTS,
    name: str | None = None,
) -> MixtureConfig:
    """Return the mixture whose optimum, at margin 0, has the shape of a loss.

    Args:
      loss: the wanted loss, a function of p_t alone that falls with p_t.
      num_classes: C.
      log_p_min: smallest ln p_t of the mixture, below 0; below it the mixture says nothing about the loss.
      beta: sharpness of the objective that the mixture is meant for.
      spread: concentration of the wrong classes.
      knots: quantiles of ln p_t in the mixture.
      name: what error messages call the loss; default: the name of the function.

    Returns:
      A mixture of the component `designed` alone.

    Raises:
      UserError: the loss rises somewhere with p_t, is constant or not finite, or depends on more than p_t; or a
        number is out of range.
    """
    require(num_classes >= 2, f"num_classes is {num_classes}, expected at least 2")
    require(-80.0 <= log_p_min < 0.0, f"log_p_min is {log_p_min}, expected a number from -80 to below 0")
    require(2 <= knots <= 4096, f"knots is {knots}, expected a number from 2 to 4096")
    require(0.0 < beta < math.inf, f"beta is {beta}, expected a finite number above 0")
    log_p, values = profile(loss, num_classes, log_p_min, name=name)
    level = np.minimum.accumulate(values)
    level = (level - level[-1]) / (level[0] - level[-1])
    # Where the loss is flat no prediction is needed: keep the highest p_t of its top, the lowest of the others.
    first = int(np.flatnonzero(level == level[0])[-1])
    log_p, level = log_p[first:], level[first:]
    falls = np.append(True, np.diff(level) < 0.0)
    log_p, level = log_p[falls], level[falls]
    wanted = rank_law(beta)(np.linspace(1.0, 0.0, knots))
    quantiles = np.interp(wanted, level[::-1], log_p[::-1])
    weights: dict[str, float] = {**dict.fromkeys(COMPONENTS, 0.0), "designed": 1.0}
    return MixtureConfig(
        **weights,
        spread=spread,
        log_p_min=log_p_min,
        designed_log_p=tuple((np.round(np.maximum.accumulate(quantiles), 7) + 0.0).tolist()),
    )


def report(
    mixture: MixtureConfig,
    loss: Loss,
    num_classes: int = 10,
    *,
    beta: float = 1.0,
    margin: float = 0.0,
    severity: str = "nll",
    key: jax.Array | None = None,
) -> DesignReport:
    """Compare a target loss with the optimum of the ranking objective over a mixture.

    Args:
      mixture: the mixture, as `mixture_for` returns it or any other.
      loss: the target.
      num_classes: C.
      beta: sharpness of the objective.
      margin: m of the objective.
      severity: severity of the objective, a function of p_t: error or nll.
      key: PRNG key.

    Raises:
      UserError: as `optimum.solve` and `mixture_for`; a severity that is not a function of p_t.
    """
    require(severity in ("error", "nll"), f"severity is {severity!r}, expected error or nll: functions of p_t")
    solve_key, draw_key = jax.random.split(jax.random.key(0) if key is None else key)
    best = optimum.solve(mixture, severity, num_classes, beta=beta, margin=margin, key=solve_key)
    log_p, values = profile(loss, num_classes, mixture.log_p_min)
    drawn = _log_p(severity, optimum.draw_severities(draw_key, mixture, severity, num_classes))
    target, found = np.interp(drawn, log_p, values), best.loss_of_severity(_severity(severity, drawn))
    slope, offset = np.polyfit(found, target, 1)
    deviation = np.abs(slope * found + offset - target)
    grid = np.linspace(mixture.log_p_min, 0.0, 513)
    return DesignReport(
        r_squared=float(np.corrcoef(target, found)[0, 1] ** 2),
        largest_deviation=float(deviation.max() / np.ptp(target)),
        fitness=best.fitness,
        log_p=grid,
        target=np.interp(grid, log_p, values),
        optimum=slope * best.loss_of_severity(_severity(severity, grid)) + offset,
    )


def profile(loss: Loss, num_classes: int, log_p_min: float, *, name: str | None = None) -> tuple[Array, Array]:
    """Return (ln p_t `[P]` ascending from log_p_min to 0, the loss there `[P]`), the rest of the mass spread equally.

    Raises:
      UserError: as `mixture_for`.
    """
    name = _name(loss) if name is None else name
    lowest = log_p_min - math.log(-math.expm1(log_p_min))
    logit = np.linspace(lowest, _HIGHEST_LOGIT, _POINTS)
    log_p, log_rest = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
    values = _evaluate(loss, log_p, log_rest, num_classes, 1.0 / (num_classes - 1), 0.0)
    wrong = ~np.isfinite(values)
    if np.any(wrong):
        place = np.exp(log_p[np.argmax(wrong)])
        raise UserError(f"{name} is not finite at p_t = {place:.2g}: choose a loss that is finite for 0 < p_t < 1")
    span = float(np.ptp(values))
    require(span > 0.0, f"{name} is constant in p_t: no mixture has it as optimum; choose a loss that falls with p_t")
    low = np.minimum.accumulate(values)
    rises = values > low + _RISE * span
    if np.any(rises):
        until = int(np.argmax(rises))
        bottom = int(np.argmin(values[:until]))
        again = "again " if values[0] > low[bottom] + _RISE * span else ""
        raise UserError(
            f"{name} turns up {again}at p_t = {np.exp(log_p[bottom]):.2g}: no mixture has it as optimum, because the "
            "optimum of ranking falls with p_t; choose a loss that falls with p_t"
        )
    if num_classes > 2:
        _same(name, log_p, values, _evaluate(loss, log_p, log_rest, num_classes, _RIVAL, 0.0), "all on one rival")
    shifted = _evaluate(loss, log_p, log_rest, num_classes, 1.0 / (num_classes - 1), _SHIFT)
    _same(name, log_p, values, shifted, f"so too, and {_SHIFT:g} added to every logit")
    return log_p, values


@functools.lru_cache(maxsize=16)
def rank_law(beta: float, points: int = optimum.BINS) -> Callable[[Array], Array]:
    """Return the optimum at m = 0 as a function of the rank of the severity in [0, 1], from 0 to 1.

    It depends on beta alone: the identity for small beta, steeper at both ends for large.
    """
    rank = (np.arange(points) + 0.5) / points
    flat = np.zeros(points)
    grid = optimum.Bins(rank, np.full(points, 1.0 / points), flat, 0.0, 1.0)
    values, _, _ = optimum.minimise(grid, beta=beta)
    values = 0.5 * (values - values[::-1])  # symmetric under reversal of the ranks
    ends = 1.5 * values[-1] - 0.5 * values[-2]
    rank, values = np.concatenate([[0.0], rank, [1.0]]), np.concatenate([[-ends], values, [ends]])
    values = 0.5 + 0.5 * values / ends
    return lambda q: np.interp(q, rank, values)


def _evaluate(loss: Loss, log_p: Array, log_rest: Array, num_classes: int, rival: float, shift: float) -> Array:
    """Return the loss `[P]` in float64, class 1 getting the share `rival` of the mass outside class 0."""
    share = np.full(num_classes - 1, (1.0 - rival) / max(num_classes - 2, 1))
    share[0] = rival
    logits = np.concatenate([log_p[:, None], log_rest[:, None] + np.log(share)], axis=1) + shift
    with jax.enable_x64(True):
        return np.asarray(loss(logits, np.zeros(len(log_p), np.int32)), np.float64)


def _same(name: str, log_p: Array, values: Array, others: Array, how: str) -> None:
    """Refuse a loss that depends on more than p_t."""
    worst = int(np.argmax(np.abs(values - others)))
    if not abs(values[worst] - others[worst]) <= _SPREAD * np.ptp(values):  # not `>`: NaN
        place = np.exp(log_p[worst])
        raise UserError(
            f"{name} is not a function of p_t alone: at p_t = {place:.2g} it is {values[worst]:.3g} with the "
            f"rest spread equally and {others[worst]:.3g} with the rest {how}; choose a loss that p_t decides"
        )


def _severity(name: str, log_p: Array) -> Array:
    return -log_p if name == "nll" else -np.expm1(log_p)


def _log_p(name: str, severity: Array) -> Array:
    return -severity if name == "nll" else np.log1p(-np.minimum(severity, 1.0 - 1e-16))


def _name(loss: Loss) -> str:
    function = loss.func if isinstance(loss, functools.partial) else loss
    name = getattr(function, "__name__", "")
    return name if name.isidentifier() else "this loss"
