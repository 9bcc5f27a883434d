"""The optimum of the ranking objective as a loss: what evolution would find if it were perfect."""

import jax
import numpy as np
from scipy import interpolate

from edl_jax import loss
from edl_jax.core.errors import require
from edl_jax.loss.networks.table import params_of
from edl_jax.synthetic.drop_in import calibrate
from edl_jax.synthetic.mixture import MixtureConfig
from edl_jax.synthetic.optimum import Optimum

# Severities that are a function of p_t alone, as T(ln p_t) must be.
OF_P_T = ("error", "nll")
_KNOTS = 513


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
    # A knot below the mixture's smallest ln p_t, where the tail begins, so that the slope there is well defined.
    low = mixture.log_p_min * (1.0 + 2.0 / _KNOTS)
    log_p = np.linspace(low, 0.0, _KNOTS)
    values = optimum.loss_of_severity(-np.expm1(log_p) if optimum.severity == "error" else -log_p)
    slopes = interpolate.PchipInterpolator(log_p, values).derivative()(log_p)
    network = loss.NetworkConfig(kind="table", hidden=(_KNOTS,))
    params = params_of(low, values, slopes)
    return loss.Artifact(network, params, calibrate(key, network, params, mixture))
