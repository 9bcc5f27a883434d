"""Loss `table`: a function of the true class's probability alone, given by its values.

    l(p, t) = T(ln p_t)

T is a cubic Hermite spline on equally spaced knots of ln p from `log_p_min` to 0. It carries losses that are known
rather than evolved, such as the optimum of the ranking objective (docs/theory.md). Soft labels are the label-weighted
mean over true classes. `hidden` of its config is the number of knots.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.networks.base import NetworkConfig
from edl_jax.loss.terms import look_up


def init(key: jax.Array, config: NetworkConfig) -> Any:
    """Return a table of zeros."""
    (knots,) = config.hidden
    zeros = jnp.zeros((knots,), jnp.float32)
    return {"log_p_min": jnp.full((), -1.0, jnp.float32), "value": zeros, "slope": zeros}


def params_of(log_p_min: float, value: np.ndarray, slope: np.ndarray) -> Any:
    """Return the parameters of a table.

    Args:
      log_p_min: ln p of the first knot; the last one is at 0.
      value: `[K]` values at the knots.
      slope: `[K]` slopes there, per unit of ln p.
    """
    return {
        "log_p_min": np.float32(log_p_min),
        "value": np.asarray(value, np.float32),
        "slope": np.asarray(slope, np.float32),
    }


def g1(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return T `[...]` at ln p `[...]`; flat outside the knots."""
    low, value, slope = (jnp.asarray(params[name], log_p.dtype) for name in ("log_p_min", "value", "slope"))
    last = value.shape[0] - 1
    step = -low / last
    # The ends themselves are inside: `clip` alone would halve the slope there.
    position = jnp.where(log_p >= low, (log_p - low) / step, 0.0)
    position = jnp.where(position <= last, position, float(last))
    index = jnp.minimum(position.astype(jnp.int32), last - 1)
    s = position - index.astype(position.dtype)
    v0, v1 = look_up(value, index), look_up(value, index + 1)
    d0, d1 = look_up(slope, index) * step, look_up(slope, index + 1) * step
    # Horner's form of the cubic with these values and slopes at s = 0 and 1.
    return v0 + s * (d0 + s * (3.0 * (v1 - v0) - 2.0 * d0 - d1 + s * (2.0 * (v0 - v1) + d0 + d1)))


def g0(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return 0: wrong classes do not count."""
    return jnp.zeros_like(log_p)
