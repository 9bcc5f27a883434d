"""A separable loss as four curves of ln p: values and gradients of many predictions without compiling for their shape.

For l = g1(ln p_t) + sum_{j != t} g0(ln p_j), with a_c the slope of class c's curve at ln p_c,

    dl / dz_k = a_k - p_k sum_c a_c
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.networks.kinds import LOG_P_FLOOR, NetworkConfig, g0, g1

# Steps of ln p of 0.005: curves to 1e-5 and slopes to 1e-3 of those of a fresh network.
_KNOTS = 16_385


class Curves(NamedTuple):
    """Curves on equally spaced knots of ln p, NumPy float64.

    Attributes:
      log_p: `[K]` ln p, ascending to 0.
      true: `[K]` g1, with its tail.
      true_slope: `[K]` its slope.
      wrong: `[K]` g0.
      wrong_slope: `[K]` its slope.
      tail_slope: slope of g1's tail.
    """

    log_p: np.ndarray
    true: np.ndarray
    true_slope: np.ndarray
    wrong: np.ndarray
    wrong_slope: np.ndarray
    tail_slope: float

    def losses(self, log_p: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the losses `[N]` of predictions `[N, C]` with integer labels `[N]`."""
        rows = np.arange(len(labels))
        true = self._at(log_p[rows, labels], self.true)
        if not self.wrong.any():
            return true
        wrong = self._at(log_p, self.wrong)
        wrong[rows, labels] = 0.0
        return true + wrong.sum(axis=1)

    def gradients(self, log_p: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return d loss / d logits `[N, C]`."""
        rows = np.arange(len(labels))
        slopes = self._at(log_p, self.wrong_slope) if self.wrong_slope.any() else np.zeros(log_p.shape)
        slopes[rows, labels] = self._at(log_p[rows, labels], self.true_slope)
        return slopes - np.exp(log_p) * slopes.sum(axis=1, keepdims=True)

    def _at(self, log_p: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return a column interpolated linearly: `np.interp` without its search for the place between the knots."""
        last = len(self.log_p) - 1
        place = np.clip((log_p - self.log_p[0]) * (last / -self.log_p[0]), 0.0, last)
        knot = np.minimum(place.astype(np.int32), last - 1)
        place -= knot
        return column[knot] + place * np.diff(column)[knot]


def curves(network: NetworkConfig, params: Any, tail_log_p: float, tail_slope: float | None = None) -> Curves:
    """Return the curves of a separable network.

    Args:
      network: architecture.
      params: parameters.
      tail_log_p: the ln p_t below which g1 is a line.
      tail_slope: slope of that line (None: the slope of g1 at its start).
    """
    log_p = np.linspace(LOG_P_FLOOR, 0.0, _KNOTS)
    # The start of the tail is a point of the same program.
    points = np.append(log_p, tail_log_p).astype(np.float32)
    true, true_slope, wrong, wrong_slope = (np.asarray(x, np.float64) for x in _evaluate(network, params, points))
    tail_slope = float(true_slope[-1]) if tail_slope is None else tail_slope
    true, true_slope, wrong, wrong_slope = true[:-1], true_slope[:-1], wrong[:-1], wrong_slope[:-1]
    at_tail = np.interp(tail_log_p, log_p, true)
    in_tail = log_p < tail_log_p
    true = np.where(in_tail, at_tail + tail_slope * (log_p - tail_log_p), true)
    return Curves(log_p, true, np.where(in_tail, tail_slope, true_slope), wrong, wrong_slope, tail_slope)


@functools.partial(jax.jit, static_argnums=0)
def _evaluate(network: NetworkConfig, params: Any, log_p: jax.Array) -> tuple[jax.Array, ...]:
    def both(function: Any) -> tuple[jax.Array, jax.Array]:
        values, pullback = jax.vjp(lambda x: function(network, params, x), log_p)
        return values, pullback(jnp.ones_like(values))[0]

    return (*both(g1), *both(g0))
