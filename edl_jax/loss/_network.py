"""The loss network: a small MLP over one class's probability, applied class by class.

    l(p, y) = sum_c y_c g1(p_c) + (1 - y_c) g0(p_c)
    g1(p) = h(p, ln p, 1)        g0(p) = p h(p, ln p, 0)

`h` is the MLP. The factor p makes g0(0) = 0, so that a class without mass changes nothing. The loss is
affine in y (soft labels mean something), invariant under permutation of classes and defined for any C; for
fixed parameters it is two functions of one variable. Hai et al. feed probabilities and labels to such a
network (EDL, arXiv 2605.03722); the class-by-class form follows ML3 (Bechtle et al., arXiv 1906.05374).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.errors import require, unknown

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "softplus": nn.softplus,
    "tanh": jnp.tanh,
}
KINDS = ("per_class",)

# ln p enters divided by this, which keeps the inputs of the MLP near [-1, 1] over the mixtures in use.
LOG_P_UNIT = 10.0
# Below this ln p the product p h(p, ln p, 0) is 0 in float32; the clip keeps -inf out of h.
LOG_P_FLOOR = -80.0


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Architecture of a loss network."""

    kind: str = "per_class"
    """How the network sees a prediction: per_class."""
    hidden: tuple[int, ...] = (16, 16)
    """Widths of the hidden layers."""
    activation: str = "silu"
    """Activation of the hidden layers."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("network kind", self.kind, KINDS)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        require(
            len(self.hidden) > 0 and all(1 <= width <= 4096 for width in self.hidden),
            f"network hidden widths are {self.hidden}, expected one or more numbers from 1 to 4096",
        )


class LossNetwork(nn.Module):
    """The MLP h: (p, ln p / 10, which) -> one number.

    Attributes:
      config: architecture.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(self, p: jax.Array, log_p: jax.Array, which: jax.Array) -> jax.Array:
        """Return h `[...]` for p, ln p (finite) and which (1 for the true class, else 0), each `[...]`."""
        x = jnp.stack([p, log_p / LOG_P_UNIT, which], axis=-1)
        activation = ACTIVATIONS[self.config.activation]
        for width in self.config.hidden:
            x = activation(nn.Dense(width)(x))
        return nn.Dense(1)(x).squeeze(-1)


def init(key: jax.Array, config: NetworkConfig) -> Any:
    """Return fresh parameters of the loss network, float32."""
    x = jnp.zeros((1,), jnp.float32)
    return LossNetwork(config).init(key, x, x, x)["params"]


def g1(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a true class, `[...]`, at ln p `[...]` (finite)."""
    return h(config, params, log_p, jnp.ones_like(log_p))


def g0(config: NetworkConfig, params: Any, log_p: jax.Array) -> jax.Array:
    """Return the value of a wrong class, `[...]`, at ln p `[...]` (may be -inf, where it is 0)."""
    clipped = jnp.maximum(log_p, LOG_P_FLOOR)
    return jnp.exp(log_p) * h(config, params, clipped, jnp.zeros_like(log_p))


def hard_label_loss(config: NetworkConfig, params: Any, log_p: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the uncalibrated loss of integer labels, one MLP evaluation per class.

    Args:
      config: architecture.
      params: parameters of the network.
      log_p: `[..., C]` log-probabilities, finite at the true class.
      labels: `[...]` integer classes.

    Returns:
      Values `[...]`.
    """
    is_true = labels[..., None] == jax.lax.broadcasted_iota(labels.dtype, log_p.shape, log_p.ndim - 1)
    floor = jnp.where(is_true, -jnp.inf, LOG_P_FLOOR)
    values = h(config, params, jnp.maximum(log_p, floor), is_true.astype(log_p.dtype))
    return jnp.sum(jnp.where(is_true, values, jnp.exp(log_p) * values), axis=-1)


def h(config: NetworkConfig, params: Any, log_p: jax.Array, which: jax.Array) -> jax.Array:
    """Return the MLP's output `[...]` at ln p `[...]` (finite) and which `[...]` (1: true class, 0: wrong)."""
    return LossNetwork(config).apply({"params": params}, jnp.exp(log_p), log_p, which)  # type: ignore[return-value]
