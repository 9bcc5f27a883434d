"""Losses of p_t as tables, to train students on synthetic tasks with any of them in one compiled program.

Used by benchmarks/choose_mixture.py and confirm_prior.py. Tasks and students: edl_jax.search.synthetic_tasks.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from scipy import interpolate

from edl_jax import loss
from edl_jax.loss.artifacts.learned import raw_loss
from edl_jax.loss.contract import targets
from edl_jax.loss.networks.table import params_of
from edl_jax.search.synthetic_tasks import KINDS, NUM_CLASSES, Regime, Scores, Tasks, make_tasks, train_with

__all__ = [
    "KINDS",
    "KNOTS",
    "NUM_CLASSES",
    "LossTable",
    "Regime",
    "Scores",
    "Tasks",
    "make_tasks",
    "table_of",
    "train",
    "train_with",
]

KNOTS = 65
_NETWORK = loss.NetworkConfig(kind="table", hidden=(KNOTS,))
# Width in ln p over which the slope that continues the loss below its table is measured.
_TAIL_WIDTH = 0.5


class LossTable(NamedTuple):
    """A loss T(ln p_t) as arrays, so that one program trains with any of them.

    Attributes:
      params: of a loss network of kind `table`.
      scale: what its values are multiplied by.
      tail_log_p: the ln p_t below which it is a line.
      tail_slope: slope of that line, before the scale.
    """

    params: dict[str, np.ndarray]
    scale: float
    tail_log_p: float
    tail_slope: float

    def pull(self, log_p: np.ndarray) -> np.ndarray:
        """Return -dl/dln p_t `[...]` at ln p_t `[...]`: the gradient relative to cross-entropy's, which is 1."""
        spline = interpolate.CubicHermiteSpline(
            np.linspace(self.params["log_p_min"], 0.0, KNOTS, dtype=np.float64),
            self.params["value"],
            self.params["slope"],
        )
        inside = spline.derivative()(np.maximum(log_p, self.tail_log_p))
        return -self.scale * np.where(log_p < self.tail_log_p, self.tail_slope, inside)


def table_of(function: Callable[[np.ndarray], np.ndarray], log_p_min: float, scale: float = 1.0) -> LossTable:
    """Return the loss `function`(ln p_t), float64 `[K]` to `[K]`, tabulated from `log_p_min` to 0."""
    log_p = np.linspace(log_p_min, 0.0, KNOTS)
    values = function(log_p)
    slopes = interpolate.PchipInterpolator(log_p, values).derivative()(log_p)
    ends = function(np.array([log_p_min, log_p_min + _TAIL_WIDTH]))
    tail_slope = (ends[1] - ends[0]) / _TAIL_WIDTH
    slopes[0] = tail_slope  # a mixture's law may have a step where the table begins: no kink there
    params = params_of(log_p_min, values, slopes)
    return LossTable(params, scale, log_p_min, float(tail_slope))


@functools.partial(jax.jit, static_argnums=(4,))
def train(table: LossTable, lr: jax.Array, tasks: Tasks, key: jax.Array, regime: Regime) -> Scores:
    """Train one student a task with a tabulated loss: one program for all of them. See `train_with`."""

    def values(logits: jax.Array, y: jax.Array) -> jax.Array:
        t = targets(logits, y, -1, None)
        return table.scale * raw_loss(_NETWORK, table.params, t, table.tail_log_p, table.tail_slope)

    return train_with(values, lr, tasks, key, regime)
