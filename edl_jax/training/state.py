"""The state of training: one explicit pytree."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """What a training step changes and a checkpoint stores.

    Attributes:
      step: [] int32 number of steps taken.
      params: parameters of the model.
      batch_stats: statistics of batch normalisation; empty for models without it.
      opt_state: state of the optimizer.
      bad_step: [] int32: -1, or the first step whose loss or whose new parameters were not finite. From
        that step on, params, batch_stats and opt_state keep the last good values.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    bad_step: Any

    @property
    def variables(self) -> dict[str, Any]:
        """Return the variables that `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    key: jax.Array, model: nn.Module, image_shape: tuple[int, ...], optimizer: optax.GradientTransformation
) -> TrainState:
    """Return the initial state of `model` for images of shape [H, W, C]."""
    variables = model.init(key, jnp.zeros((1, *image_shape), jnp.float32), train=False)
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        bad_step=jnp.full((), -1, jnp.int32),
    )


def count_params(params: Any) -> int:
    """Return the number of parameters (arrays or their shapes)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
