"""A separable loss network as cubic splines of ln p: what a loss that is loaded evaluates in place of the network.

A network costs a few hundred operations for each probability, a spline one look-up and a cubic. Its knots are 1/64 of
ln p apart: for smooth networks values are those of the network to 1e-5 of their size and slopes to 1e-4
(tests/loss/test_spline.py). Second derivatives are continuous between the start of the tail and p = 1.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.networks.base import LOG_P_UNIT, NetworkConfig
from edl_jax.loss.terms import look_up

_KNOTS_PER_UNIT = 64
# g0 falls with p: below this ln p it is under 1e-8, and taken as proportional to p.
_WRONG_LOG_P = -20.0
_SMOOTH = ("gelu", "silu", "softplus", "tanh")


class Spline(NamedTuple):
    """A cubic spline on equally spaced knots 0, -h, -2 h, ... of ln p; NumPy arrays, constants of a program.

    Attributes:
      step: h.
      coefficients: `[K, 4]` float64 of powers of the distance below the upper knot, in steps; the last row is that of
        all that lies below its knot, a line.
    """

    step: float
    coefficients: np.ndarray

    def __call__(self, log_p: jax.Array) -> jax.Array:
        """Return the values `[...]` at ln p `[...]`."""
        # Counted from 0, so that a probability that is nearly 1 keeps its digits.
        place = log_p * (-1.0 / self.step)
        knot = jnp.clip(place, 0.0, len(self.coefficients) - 1.0).astype(jnp.int32)
        flat = self.coefficients.astype(log_p.dtype).ravel()
        c0, c1, c2, c3 = (look_up(flat, 4 * knot + power) for power in range(4))
        s = place - knot.astype(place.dtype)
        return c0 + s * (c1 + s * (c2 + s * c3))


class Splines(NamedTuple):
    """A separable loss before scale and shift.

    Attributes:
      true: spline of g1, with its tail.
      wrong: spline of g0, or None for a function of p_t.
    """

    true: Spline
    wrong: Spline | None

    def true_value(self, log_p: jax.Array) -> jax.Array:
        """Return g1 with its tail, `[...]`, at ln p `[...]`."""
        return self.true(log_p)

    def wrong_value(self, log_p: jax.Array) -> jax.Array:
        """Return g0 `[...]` at ln p `[...]`, 0 at -inf."""
        if self.wrong is None:
            return jnp.zeros_like(log_p)
        in_tail = log_p < _WRONG_LOG_P
        inside = self.wrong(jnp.where(in_tail, _WRONG_LOG_P, log_p))
        # Not 0: the gradient of a learned example is as small, and would jump.
        return inside * jnp.exp(jnp.where(in_tail, log_p - _WRONG_LOG_P, 0.0))


def splines(network: NetworkConfig, params: Any, tail_log_p: float, tail_slope: float) -> Splines | None:
    """Return the splines of a separable network, or None of one with kinks or that is not separable.

    None also of a table whose tail does not start at one of its knots.

    Args:
      network: architecture.
      params: parameters, NumPy arrays.
      tail_log_p: the ln p_t below which g1 is a line.
      tail_slope: slope of that line.
    """
    if network.kind == "table":
        table = _of_table(params, tail_log_p, tail_slope)
        return None if table is None else Splines(table, None)
    curves = _CURVES.get(network.kind)
    if curves is None or network.output == "abs":
        return None
    if network.activation not in _SMOOTH and network.kind in ("per_class", "true_class"):
        return None
    true, wrong = curves
    return Splines(
        true=_interpolate(lambda x: true(network, params, x), tail_log_p, tail_slope),
        wrong=None if wrong is None else _interpolate(lambda x: wrong(network, params, x), _WRONG_LOG_P, 0.0),
    )


def _interpolate(function: Callable[[np.ndarray], np.ndarray], low: float, tail_slope: float) -> Spline:
    """Return the spline of a smooth function on [low, 0], its end slopes from differences of high order."""
    count = max(int(np.ceil(-low * _KNOTS_PER_UNIT)), 4)
    step = -low / count
    values = function(-step * np.arange(count + 1.0))
    ends = [_slope_at(function, 0.0, step), _slope_at(function, low, step)]
    # Second derivatives M of a clamped spline, in steps: M_{i-1} + 4 M_i + M_{i+1} = 6 (second difference).
    right = np.empty(count + 1)
    right[1:-1] = 6.0 * (values[2:] - 2.0 * values[1:-1] + values[:-2])
    # Downwards along ln p, so that slopes change their sign.
    right[0] = 6.0 * (values[1] - values[0] + step * ends[0])
    right[-1] = 6.0 * (-step * ends[1] - (values[-1] - values[-2]))
    diagonal = np.full(count + 1, 4.0)
    diagonal[[0, -1]] = 2.0
    bends = _solve_tridiagonal(diagonal, right)
    c1 = np.diff(values) - (2.0 * bends[:-1] + bends[1:]) / 6.0
    columns = (values[:-1], c1, 0.5 * bends[:-1], np.diff(bends) / 6.0)
    return _with_tail(step, columns, values[-1], tail_slope)


def _with_tail(step: float, columns: Sequence[np.ndarray], start: float, tail_slope: float) -> Spline:
    tail = np.array([[start, -step * tail_slope, 0.0, 0.0]])
    return Spline(step, np.concatenate([np.stack(columns, axis=1), tail]))


def _of_table(params: Any, tail_log_p: float, tail_slope: float) -> Spline | None:
    """Return the spline of a table, which holds values and slopes at knots."""
    values, slopes = (np.asarray(params[name], np.float64)[::-1] for name in ("value", "slope"))
    step = -float(params["log_p_min"]) / (len(values) - 1)
    count = round(-tail_log_p / step)
    if not 1 <= count < len(values) or abs(count * step + tail_log_p) > 1e-4 * step:
        return None
    upper, lower, fall = values[:count], values[1 : count + 1], -step * slopes[: count + 1]
    c2, c3 = 3.0 * (lower - upper) - 2.0 * fall[:-1] - fall[1:], 2.0 * (upper - lower) + fall[:-1] + fall[1:]
    return _with_tail(step, (upper, fall[:-1], c2, c3), values[count], tail_slope)


def _slope_at(function: Callable[[np.ndarray], np.ndarray], x: float, step: float) -> float:
    """Return the slope by central differences of sixth order: networks are smooth beyond the ends, too."""
    h = step / 4.0
    f = function(x + h * np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0]))
    return float(np.array([-1.0, 9.0, -45.0, 45.0, -9.0, 1.0]) @ f / (60.0 * h))


def _solve_tridiagonal(diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve for ones beside the diagonal."""
    diagonal, right = diagonal.copy(), right.copy()
    for i in range(1, len(right)):
        share = 1.0 / diagonal[i - 1]
        diagonal[i] -= share
        right[i] -= share * right[i - 1]
    right[-1] /= diagonal[-1]
    for i in range(len(right) - 2, -1, -1):
        right[i] = (right[i] - right[i + 1]) / diagonal[i]
    return right


# The networks in NumPy and float64, where nothing has to be compiled; the tests hold them to those of JAX.
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "tanh": np.tanh,
}
_OUTPUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "square": np.square,
}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _layers(params: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    names = (f"Dense_{i}" for i in range(len(params)))
    return [(np.asarray(params[n]["kernel"], np.float64), np.asarray(params[n]["bias"], np.float64)) for n in names]


def _mlp(network: NetworkConfig, params: Any, *features: np.ndarray) -> np.ndarray:
    x = np.stack(features, axis=-1)
    *hidden, (kernel, bias) = _layers(params)
    for weights, offset in hidden:
        x = _ACTIVATIONS[network.activation](x @ weights + offset)
    return _OUTPUTS[network.output]((x @ kernel + bias).squeeze(-1))


def _increasing(params: Any, *features: np.ndarray, both_ways: bool) -> np.ndarray:
    x = np.stack(features, axis=-1)
    *hidden, (kernel, bias) = _layers(params)
    for weights, offset in hidden:
        x = x @ np.abs(weights) + offset
        half = x.shape[-1] // 2 if both_ways else x.shape[-1]
        x = np.concatenate([np.logaddexp(x[..., :half], 0.0), -np.logaddexp(-x[..., half:], 0.0)], axis=-1)
    return (x @ np.abs(kernel) + bias).squeeze(-1)


def _monotone_true(network: NetworkConfig, params: Any, log_p: np.ndarray) -> np.ndarray:
    return -_increasing(params, np.exp(log_p), log_p / LOG_P_UNIT, both_ways=True)


def _monotone_wrong(network: NetworkConfig, params: Any, log_p: np.ndarray) -> np.ndarray:
    p = np.exp(log_p)
    return _increasing(params, p, both_ways=False) - _increasing(params, np.zeros_like(p), both_ways=False)


Curve = Callable[[NetworkConfig, Any, np.ndarray], np.ndarray]
_CURVES: dict[str, tuple[Curve, Curve | None]] = {
    "true_class": (lambda n, params, x: _mlp(n, params, np.exp(x), x / LOG_P_UNIT), None),
    "monotone_true_class": (_monotone_true, None),
    "per_class": (
        lambda n, params, x: _mlp(n, params, np.exp(x), x / LOG_P_UNIT, np.ones_like(x)),
        lambda n, params, x: np.exp(x) * _mlp(n, params, np.exp(x), x / LOG_P_UNIT, np.zeros_like(x)),
    ),
    "monotone": (
        lambda n, params, x: _monotone_true(n, params["true"], x),
        lambda n, params, x: _monotone_wrong(n, params["wrong"], x),
    ),
}
