"""Loss network `per_class`: a small MLP over one class's probability, applied class by class.

    l(p, y) = sum_c y_c g1(p_c) + (1 - y_c) g0(p_c)
    g1(p) = h(p, ln p, 1)        g0(p) = p h(p, ln p, 0)

`h` is the MLP. The factor p makes g0(0) = 0, so that a class without mass changes nothing. The loss is
affine in y (soft labels mean something), invariant under permutation of classes and defined for any C; for
fixed parameters it is two functions of one variable. Hai et al. feed probabilities and labels to such a
network (EDL, arXiv 2605.03722); the class-by-class form follows ML3 (Bechtle et al., arXiv 1906.05374).
"""

from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.loss.networks.base import LOG_P_FLOOR, LOG_P_UNIT, NetworkConfig, apply_mlp, init_mlp


def init(key: jax.Array, config: NetworkConfig) -> Any:
    """Return fresh parameters, float32."""
    return init_mlp(key, config, 3)


def h(config: NetworkConfig, params: Any, log_p: jax.Array, which: jax.Array) -> jax.Array:
    """Return the MLP's output `[...]` at ln p `[...]` (finite) and which `[...]` (1: true class, 0: wrong)."""
    return apply_mlp(config, params, jnp.exp(log_p), log_p / LOG_P_UNIT, which)


def g1(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a true class, `[...]`, at ln p `[...]` (finite)."""
    return h(config, params, log_p, jnp.ones_like(log_p))


def g0(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a wrong class, `[...]`, at ln p `[...]` (may be -inf, where it is 0)."""
    return jnp.exp(log_p) * h(config, params, jnp.maximum(log_p, LOG_P_FLOOR), jnp.zeros_like(log_p))


def hard(config: NetworkConfig, params: Any, log_p: jax.Array, is_true: jax.Array) -> jax.Array:
    """Return the loss `[...]` of integer labels: one MLP evaluation per class, true and wrong in the same call.

    Args:
      config: architecture.
      params: parameters.
      log_p: `[..., C]` log-probabilities, finite at the true class, -inf where a class is absent.
      is_true: `[..., C]` bool, the true class.
    """
    floor = jnp.where(is_true, -jnp.inf, LOG_P_FLOOR)
    values = h(config, params, jnp.maximum(log_p, floor), is_true.astype(log_p.dtype))
    return jnp.sum(jnp.where(is_true, values, jnp.exp(log_p) * values), axis=-1)
