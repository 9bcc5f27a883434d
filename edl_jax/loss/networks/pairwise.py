"""Loss network `pairwise`: the true class against each wrong class, with a network of two probabilities.

    l(p, t) = mean over wrong classes j of g(p_t, p_j)

The form of EDL's forerunners: L2T-DLN (Hai et al., NeurIPS 2023, arXiv 2310.19313) scores (true, wrong) pairs and
averages them. Invariant under permutation of classes and defined for any C; soft labels are the label-weighted
mean over true classes. An absent class is no wrong class.
"""

from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.loss.networks.base import LOG_P_FLOOR, LOG_P_UNIT, NetworkConfig, apply_mlp, init_mlp


def init(key: jax.Array, config: NetworkConfig) -> Any:
    """Return fresh parameters, float32."""
    return init_mlp(key, config, 4)


def hard(config: NetworkConfig, params: Any, log_p: jax.Array, is_true: jax.Array) -> jax.Array:
    """Return the loss `[...]` of integer labels: see `_per_class.hard` for the arguments."""
    true = jnp.sum(jnp.where(is_true, log_p, 0.0), axis=-1, keepdims=True)
    true = jnp.broadcast_to(true, log_p.shape)
    wrong = jnp.maximum(log_p, LOG_P_FLOOR)
    values = apply_mlp(config, params, jnp.exp(true), true / LOG_P_UNIT, jnp.exp(wrong), wrong / LOG_P_UNIT)
    counts = ~is_true & (log_p > -jnp.inf)
    wrong_classes = jnp.maximum(jnp.sum(counts, axis=-1), 1).astype(values.dtype)
    return jnp.sum(jnp.where(counts, values, 0.0), axis=-1) / wrong_classes
