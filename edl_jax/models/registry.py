"""Name -> Flax module."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from edl_jax.errors import UserError, unknown
from edl_jax.models.lenet import LeNet5
from edl_jax.models.mlp import MLP
from edl_jax.models.resnet import ResNet, cifar_resnet

_MODELS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "mlp": MLP,
    **{f"resnet{depth}": partial(cifar_resnet, depth) for depth in (8, 20, 32, 44, 56, 110)},
    "resnet18": partial(ResNet, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, (3, 4, 6, 3), bottleneck=True),
}


def names() -> list[str]:
    """Return the names that `create` accepts."""
    return sorted(_MODELS)


def create(arch: str, num_classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """Return the Flax module `arch`.

    `module.init(key, images, train=False)` gives the variables; `module.apply(variables, images,
    train=True, mutable=["batch_stats"])` float32 logits [N, num_classes] and new batch statistics.

    Args:
      arch: one of `names()`.
      num_classes: number of logits, at least 2.
      dtype: of the computation; parameters and batch statistics are float32.

    Raises:
      UserError: unknown `arch`, or fewer than 2 classes.
    """
    if arch not in _MODELS:
        raise unknown("arch", arch, names())
    if num_classes < 2:
        raise UserError(f"num_classes is {num_classes}, expected at least 2")
    return _MODELS[arch](num_classes=num_classes, dtype=dtype)
