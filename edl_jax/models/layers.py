"""Layers that several models share: initialisers, convolution, batch normalisation, input check."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax.nn import initializers

from edl_jax.errors import UserError

# He et al. 2015 (1502.01852), fan-out variant: what torchvision's ResNets use for convolutions.
kaiming_fan_out = initializers.variance_scaling(2.0, "fan_out", "normal")


def conv3x3(features: int, stride: int, dtype: Any, name: str) -> nn.Conv:
    """Return a 3x3 convolution without bias, padded by 1 on every side as in PyTorch."""
    return nn.Conv(
        features,
        (3, 3),
        strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        use_bias=False,
        dtype=dtype,
        kernel_init=kaiming_fan_out,
        name=name,
    )


def conv1x1(features: int, stride: int, dtype: Any, name: str) -> nn.Conv:
    """Return a 1x1 convolution without bias."""
    return nn.Conv(
        features,
        (1, 1),
        strides=(stride, stride),
        padding="VALID",
        use_bias=False,
        dtype=dtype,
        kernel_init=kaiming_fan_out,
        name=name,
    )


def batch_norm(train: bool, dtype: Any) -> partial[nn.BatchNorm]:
    """Return batch normalisation of the literature's momentum and epsilon.

    Scale starts at 1 everywhere (no zero-initialised last scale of a block). Parameters, statistics and
    the reductions that make them are float32 whatever `dtype` is.
    """
    return partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)


def check_images(images: Any) -> None:
    """Raise `UserError` unless `images` has the shape [N, H, W, C] with no empty image."""
    shape = jnp.shape(images)
    if len(shape) != 4 or 0 in shape[1:]:
        raise UserError(f"images have shape {shape}, expected [N, H, W, C] with H, W and C of at least 1")
