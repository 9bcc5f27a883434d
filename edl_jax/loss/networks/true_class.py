"""Loss networks `true_class` and `monotone_true_class`: a function of the true class's probability alone.

    l(p, t) = T(ln p_t)        T = h(p_t, ln p_t)        monotone: T = -m(p_t, ln p_t), m non-decreasing

`h` is a small MLP, `m` the one of the monotone network. The best loss is a function of the severity alone
(docs/theory.md), so that for a severity of p_t nothing is lost; and what the loss costs and how hard it pulls does not
depend on the number of classes. Soft labels are the label-weighted mean over true classes.
"""

from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.loss.networks import monotone
from edl_jax.loss.networks.base import LOG_P_UNIT, NetworkConfig, apply_mlp, init_mlp


def init(key: jax.Array, config: NetworkConfig) -> Any:
    """Return fresh parameters, float32."""
    return init_mlp(key, config, 2)


def g1(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return T `[...]` at ln p `[...]` (finite)."""
    p, scaled = jnp.exp(log_p), log_p / LOG_P_UNIT
    if config.kind == "monotone_true_class":
        return -monotone.increasing(params, jnp.stack([p, scaled], axis=-1), both_ways=True)
    return apply_mlp(config, params, p, scaled)


def g0(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return 0: wrong classes do not count."""
    return jnp.zeros_like(log_p)
