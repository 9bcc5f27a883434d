"""The optimum of the ranking objective as a loss: what evolution would find if it were perfect."""

import jax
import numpy as np
from scipy import interpolate

from edl_jax import loss
from edl_jax.core.errors import require
from edl_jax.loss.networks.table import params_of
from edl_jax.synthetic.drop_in import calibrate
from edl_jax.synthetic.law import OF_P_T, Curve
from edl_jax.synthetic.mixture import MixtureConfig
from edl_jax.synthetic.optimum import Optimum

_KNOTS = 513
# Of a smooth curve fewer, whose values in float32 then leave no noise in the slopes between them.
_SMOOTH_KNOTS = 129

__all__ = ["OF_P_T", "optimum_artifact"]


def optimum_artifact(key: jax.Array, optimum: Optimum, mixture: MixtureConfig) -> loss.Artifact:
    """Return the optimal loss as an artifact of kind `table`, calibrated as evolved ones are.

    Args:
      key: PRNG key of the calibration.
      optimum: the optimum for a severity of `OF_P_T`.
      mixture: its mixture.

    Raises:
      UserError: the severity is not a function of p_t alone.
    """
    require(
        optimum.severity in OF_P_T,
        f"the optimum for severity {optimum.severity} is no function of p_t alone: expected {' or '.join(OF_P_T)}",
    )
    if optimum.curve is not None:
        low, values, slopes = _of_curve(optimum.curve, mixture.log_p_min)
    else:
        low, values, slopes = _of_points(optimum, mixture.log_p_min)
    network = loss.NetworkConfig(kind="table", hidden=(len(values),))
    params = params_of(low, values, slopes)
    return loss.Artifact(network, params, calibrate(key, network, params, mixture))


def _of_curve(curve: Curve, log_p_min: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return (ln p of the first knot, values, slopes) of a smooth optimum, with a knot at `log_p_min`."""
    step = -log_p_min / (_SMOOTH_KNOTS - 2)
    log_p = np.linspace(log_p_min - step, 0.0, _SMOOTH_KNOTS)
    inside = log_p[1:]
    values = curve(inside).astype(np.float32).astype(np.float64)
    ends = curve.slope(inside[[0, -1]])
    # Slopes that suit the values as they are stored: with others, rounding would leave a kink at every knot.
    spline = interpolate.CubicSpline(inside, values, bc_type=((1, ends[0]), (1, ends[1])))
    # Below the mixture's smallest ln p_t, where the tail begins, the table goes on as that does.
    return float(log_p[0]), np.append(values[0] - ends[0] * step, values), np.append(ends[0], spline(inside, 1))


def _of_points(optimum: Optimum, log_p_min: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Return (ln p of the first knot, values, slopes) of an optimum that is linear between points."""
    # A knot below the mixture's smallest ln p_t, where the tail begins, so that the slope there is well defined.
    low = log_p_min * (1.0 + 2.0 / _KNOTS)
    log_p = np.linspace(low, 0.0, _KNOTS)
    values = optimum.loss_of_severity(-np.expm1(log_p) if optimum.severity == "error" else -log_p)
    return low, values, interpolate.PchipInterpolator(log_p, values).derivative()(log_p)
