"""The state of training: one explicit pytree."""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from edl_jax.training.averaging import ema_init


@flax.struct.dataclass
class TrainState:
    """What a training step changes and a checkpoint stores.

    Attributes:
      step: [] int32 number of steps taken.
      params: parameters of the model.
      batch_stats: statistics of batch normalisation; empty for models without it.
      opt_state: state of the optimizer.
      bad_step: [] int32: -1, or the first step whose loss or whose new parameters were not finite. From
        that step on, params, batch_stats, opt_state and any average keep the last good values.
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

    @property
    def averaged(self) -> "TrainState":
        """Return the state to evaluate: this one."""
        return self


@flax.struct.dataclass
class AveragedState(TrainState):
    """A state that also keeps a running average of its weights.

    Attributes:
      average: average of `variables` (see `edl_jax.training.averaging`), updated by each step.
    """

    average: Any

    @property
    def averaged(self) -> "AveragedState":
        """Return the state to evaluate: its variables are the average."""
        return dataclasses.replace(self, **self.average)


def create_state(
    key: jax.Array,
    model: nn.Module,
    image_shape: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    *,
    average: bool = False,
) -> TrainState:
    """Return the initial state of `model` for images of shape [H, W, C], with an average where one is asked for."""
    variables = model.init(key, jnp.zeros((1, *image_shape), jnp.float32), train=False)
    params = variables["params"]
    fields = {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        "batch_stats": variables.get("batch_stats", {}),
        "opt_state": optimizer.init(params),
        "bad_step": jnp.full((), -1, jnp.int32),
    }
    if not average:
        return TrainState(**fields)
    return AveragedState(**fields, average=ema_init({"params": params, "batch_stats": fields["batch_stats"]}))


def count_params(params: Any) -> int:
    """Return the number of parameters (arrays or their shapes)."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
