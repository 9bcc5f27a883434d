"""Loss network `joint`: an MLP on the probabilities and the label vector, for one number of classes.

    l(p, y) = h([p; y])

The most literal reading of EDL (arXiv 2605.03722, "a lightweight network over probability vectors"). It is neither
invariant under permutation of classes nor affine in y.
"""

from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.loss.networks.base import MLP, NetworkConfig, init_mlp


def init(key: jax.Array, config: NetworkConfig, num_classes: int) -> Any:
    """Return fresh parameters for `num_classes` classes, float32."""
    return init_mlp(key, config, 2 * num_classes)


def hard(config: NetworkConfig, params: Any, log_p: jax.Array, is_true: jax.Array) -> jax.Array:
    """Return the loss `[...]` of integer labels: see `_per_class.hard` for the arguments."""
    return soft(config, params, log_p, is_true.astype(log_p.dtype))


def soft(config: NetworkConfig, params: Any, log_p: jax.Array, y: jax.Array) -> jax.Array:
    """Return the loss `[...]` of label probabilities `[..., C]`."""
    features = jnp.concatenate([jnp.exp(log_p), y], axis=-1)
    return MLP(config).apply({"params": params}, features)  # type: ignore[return-value]
