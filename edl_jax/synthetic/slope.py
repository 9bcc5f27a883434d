"""The slope that the ranking objective asks for, and how far a loss is from it.

R^2 of values hardly sees slopes, which are what trains a classifier. Where F is stationary, its derivative along the
severity is zero as well (docs/theory.md, section 2). With u the rank of a prediction among all of the mixture (the
distribution function of the severity at it), l and e standardised,

    dl/du = (1 + beta m S de/du) / (c + beta S)        S(u) = mean over predictions v of s(x) s(-x)
                                                       c = mean over pairs of d s(-x) / 2
    x = beta (d - m |de|),  d = the difference of the losses, in the order of the severities,  s the logistic function

Nothing but the mixture's law and the loss itself enters, so that evolution can be told how far a member's slope is
from the one that its own values ask for. The optimum is the loss for which they agree.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.synthetic.law import OF_P_T, law_of
from edl_jax.synthetic.mixture import MixtureConfig

# Knots of u = p + ln(p) / 8, as in `tabulated`: the optimum's residual is below 1e-3 (tests/synthetic/test_slope.py).
_KNOTS = 64
_LOG_P_SHARE = 1.0 / 8.0
# Of a knot's even share of the predictions: knots with less than this count less, since the objective hardly sees them.
_RARE = 0.1
_CLOSEST = 1e-6  # to p = 1: the density of ln p_t is taken there


class SlopeGrid(NamedTuple):
    """The law of a mixture on knots of ln p_t, `[K]` float32 each, ascending: NumPy arrays, constants of a program.

    Attributes:
      log_p: the knots.
      mass: share of the predictions around each, sums to 1.
      rank_slope: -d rank / d ln p_t, the density of ln p_t.
      severity: severity there, standardised.
      severity_slope: -d severity / d ln p_t, standardised.
      weight: how much each knot counts in a mean: 1 unless the mixture draws next to nothing there.
    """

    log_p: np.ndarray
    mass: np.ndarray
    rank_slope: np.ndarray
    severity: np.ndarray
    severity_slope: np.ndarray
    weight: np.ndarray


@functools.lru_cache(maxsize=64)
def slope_grid(mixture: MixtureConfig, severity: str, num_classes: int) -> SlopeGrid:
    """Return the law of a mixture on knots between the ends of its range.

    Raises:
      UserError: the severity is no function of p_t, or the law of p_t is not known in closed form.
    """
    law = law_of(mixture, severity, num_classes)
    require(
        law is not None,
        f"slope needs the law of severity {severity} in closed form, which this mixture has not: expected severity "
        f"{' or '.join(OF_P_T)} and a mixture without atoms, or slope 0",
    )
    assert law is not None
    low, high = law.range()
    low = max(low, mixture.log_p_min) if mixture.log_uniform > 0.0 else low
    fine = np.linspace(low, min(high, -_CLOSEST), 1 << 16)
    u = np.exp(fine) + _LOG_P_SHARE * fine
    log_p = np.interp(np.linspace(u[0], u[-1], _KNOTS), u, fine)
    edges = np.concatenate([[low], 0.5 * (log_p[1:] + log_p[:-1]), [0.0]])
    mass = -np.diff(law.rank(edges))
    mass /= mass.sum()
    of, slope, _ = OF_P_T[severity]
    e = of(log_p) - mass @ of(log_p)
    std = np.sqrt(mass @ np.square(e))
    weight = np.minimum(mass * _KNOTS / _RARE, 1.0)
    columns = (log_p, mass, law.density(log_p), e / std, -slope(log_p) / std, weight)
    return SlopeGrid(*(column.astype(np.float32) for column in columns))


def slope_residual(
    grid: SlopeGrid, values: jax.Array, slopes: jax.Array, *, beta: float = 1.0, margin: float = 0.0
) -> jax.Array:
    """Return how far the slopes of a loss are from those that the objective asks for.

    Args:
      grid: the law of the mixture.
      values: `[K]` the loss at the knots.
      slopes: `[K]` its slopes there, d l / d ln p_t.
      beta: sharpness of the objective.
      margin: m of the objective.

    Returns:
      `[K]`: the slope over the one asked for, less 1; 0 everywhere for the optimum, -1 for a constant loss.
    """
    mass = jnp.asarray(grid.mass)
    centred = values - mass @ values
    std = jnp.sqrt(mass @ jnp.square(centred))
    std = jnp.where(std == 0.0, 1.0, std)
    # Severity falls with ln p_t: the knot with the higher index is the less severe one of a pair.
    difference = (centred[:, None] - centred[None, :]) / std
    severer = jnp.asarray(np.sign(np.subtract.outer(grid.severity, grid.severity)))
    asked = jnp.asarray(margin * np.abs(np.subtract.outer(grid.severity, grid.severity)))
    right = jax.nn.sigmoid(beta * (severer * difference - asked))
    spread = (right * (1.0 - right)) @ mass
    share = 0.5 * (mass @ ((severer * difference * (1.0 - right)) @ mass))
    wanted = grid.rank_slope + beta * margin * spread * grid.severity_slope
    return -slopes / std * (share + beta * spread) / wanted - 1.0
