"""What the loss networks share: their settings, the MLP, and how ln p is fed to it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.core.errors import require, settle

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
    "softplus": nn.softplus,
    "tanh": jnp.tanh,
}
OUTPUTS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "abs": jnp.abs,
    "identity": lambda x: x,
    "softplus": nn.softplus,
    "square": jnp.square,
}
# Not evolved: `ml3` is learned by training networks with it, `table` holds a known function, such as an optimum.
EVOLVED_KINDS = ("joint", "monotone", "monotone_true_class", "pairwise", "per_class", "true_class")
KINDS = (*EVOLVED_KINDS, "ml3", "table")
# To be settled by what the network is evolved for: no artifact has it.
AUTO = "auto"
MONOTONE_KINDS = ("monotone", "monotone_true_class")

# ln p enters divided by this, which keeps the inputs of the MLP near [-1, 1] over the mixtures in use.
LOG_P_UNIT = 10.0
# Below this ln p the product p h(p, ln p, 0) is 0 in float32; the clip keeps -inf out of the MLP.
LOG_P_FLOOR = -80.0


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Architecture of a loss network."""

    kind: str = "per_class"
    """How the network sees a prediction: true_class, monotone_true_class, per_class, monotone, pairwise, joint, or
    auto: true_class for a severity that is a function of p_t (error, nll), else per_class."""
    hidden: tuple[int, ...] = (16, 16)
    """Widths of the hidden layers."""
    activation: str = "silu"
    """Activation of the hidden layers (monotone ones always use softplus)."""
    output: str = "identity"
    """Transform of the network's output: identity, abs, softplus or square (monotone ones: identity)."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:  # which a stored table is as well
            settle(self, "kind", (*EVOLVED_KINDS, AUTO), "network kind")
        settle(self, "activation", ACTIVATIONS)
        settle(self, "output", OUTPUTS, "network output")
        require(
            len(self.hidden) > 0 and all(1 <= width <= 4096 for width in self.hidden),
            f"network hidden widths are {self.hidden}, expected one or more numbers from 1 to 4096",
        )
        require(
            self.kind != "table" or (len(self.hidden) == 1 and self.hidden[0] >= 2),
            f"a table has hidden widths {self.hidden}, expected one number from 2, its knots",
        )
        require(
            self.kind not in MONOTONE_KINDS or self.output == "identity",
            f"network output is {self.output}, expected identity: another one would undo the monotone network",
        )


class MLP(nn.Module):
    """An MLP with one output.

    Attributes:
      config: widths, activation and output transform.
    """

    config: NetworkConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return `[...]` for features `[..., F]`."""
        for width in self.config.hidden:
            x = ACTIVATIONS[self.config.activation](nn.Dense(width)(x))
        return OUTPUTS[self.config.output](nn.Dense(1)(x).squeeze(-1))


def init_mlp(key: jax.Array, config: NetworkConfig, num_features: int) -> Any:
    """Return fresh parameters of an MLP on `num_features` features, float32."""
    return MLP(config).init(key, jnp.zeros((1, num_features), jnp.float32))["params"]


def apply_mlp(config: NetworkConfig, params: Any, *features: jax.Array) -> jax.Array:
    """Return the MLP's output `[...]` for features of that shape."""
    return MLP(config).apply({"params": params}, jnp.stack(features, axis=-1))  # type: ignore[return-value]
