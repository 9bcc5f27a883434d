"""Loss networks by kind: one entry point for all of them.

All but `pairwise` and `joint` are *separable*: for fixed parameters they are two functions of one variable,
l(p, y) = sum_c y_c g1(p_c) + (1 - y_c) g0(p_c). Their population can therefore be evaluated on a grid. Of these,
`true_class`, `monotone_true_class` and `table` are *functions of p_t*: g0 is 0.
"""

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.core.errors import require
from edl_jax.loss.networks import (
    joint as joint,
    ml3 as ml3,
    monotone as monotone,
    pairwise as pairwise,
    per_class as per_class,
    table as table,
    true_class as true_class,
)
from edl_jax.loss.networks.base import AUTO, EVOLVED_KINDS, KINDS, LOG_P_FLOOR, NetworkConfig

__all__ = [
    "AUTO",
    "EVOLVED_KINDS",
    "KINDS",
    "LOG_P_FLOOR",
    "NetworkConfig",
    "g0",
    "g1",
    "hard",
    "hard_label_loss",
    "init",
    "is_function_of_p_t",
    "is_label_free",
    "is_separable",
    "soft",
]

_SEPARABLE: dict[str, ModuleType] = {
    "ml3": ml3,
    "monotone": monotone,
    "monotone_true_class": true_class,
    "per_class": per_class,
    "table": table,
    "true_class": true_class,
}
_OF_P_T = ("monotone_true_class", "table", "true_class")


def is_separable(config: NetworkConfig) -> bool:
    """Say whether the loss is two functions of one variable, `g1` and `g0`."""
    return config.kind in _SEPARABLE


def is_function_of_p_t(config: NetworkConfig) -> bool:
    """Say whether the loss is a function of the true class's probability alone, `g1`."""
    return config.kind in _OF_P_T


def is_label_free(config: NetworkConfig) -> bool:
    """Say whether the loss is invariant under permutation of classes, and so defined for any C."""
    return config.kind != "joint"


def init(key: jax.Array, config: NetworkConfig, num_classes: int | None = None) -> Any:
    """Return fresh parameters, float32.

    Args:
      key: PRNG key.
      config: architecture.
      num_classes: C, for a joint network.

    Raises:
      UserError: a joint network without a number of classes.
    """
    if config.kind == "joint":
        require(num_classes is not None, "a joint network needs num_classes, got none")
        assert num_classes is not None
        return joint.init(key, config, num_classes)
    if config.kind == "pairwise":
        return pairwise.init(key, config)
    return _SEPARABLE[config.kind].init(key, config)


def g1(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a true class, `[...]`, at ln p `[...]` (finite), of a separable network."""
    return _SEPARABLE[config.kind].g1(config, params, log_p)


def g0(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a wrong class, `[...]`, at ln p `[...]` (0 at -inf), of a separable network."""
    return _SEPARABLE[config.kind].g0(config, params, log_p)


def hard(config: NetworkConfig, params: Any, log_p: jax.Array, is_true: jax.Array) -> jax.Array:
    """Return the uncalibrated loss `[...]` of integer labels.

    Args:
      config: architecture.
      params: parameters.
      log_p: `[..., C]` log-probabilities, finite at the true class, -inf where a class is absent.
      is_true: `[..., C]` bool, the true class.
    """
    if config.kind == "per_class":
        return per_class.hard(config, params, log_p, is_true)
    if config.kind == "pairwise":
        return pairwise.hard(config, params, log_p, is_true)
    if config.kind == "joint":
        return joint.hard(config, params, log_p, is_true)
    true = jnp.sum(jnp.where(is_true, log_p, 0.0), axis=-1)
    if is_function_of_p_t(config):
        return g1(config, params, true)
    wrong = g0(config, params, jnp.where(is_true, -jnp.inf, log_p))
    return g1(config, params, true) + jnp.sum(wrong, axis=-1)


def soft(config: NetworkConfig, params: Any, log_p: jax.Array, y: jax.Array) -> jax.Array:
    """Return the uncalibrated loss `[...]` of label probabilities `[..., C]` of a joint network."""
    return joint.soft(config, params, log_p, y)


def hard_label_loss(config: NetworkConfig, params: Any, log_p: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the uncalibrated loss `[...]` of integer labels `[...]`, every class present: see `hard`."""
    is_true = labels[..., None] == jax.lax.broadcasted_iota(labels.dtype, log_p.shape, log_p.ndim - 1)
    return hard(config, params, log_p, is_true)
