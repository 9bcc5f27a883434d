"""Layers that several models share: initialisers, convolution, batch normalisation, activation, pooling, input checks.

On a CPU some have another form, with the same numbers and parameters: `cpu_conv` and `cpu_forms`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from edl_jax.backend import cpu_conv, cpu_forms
from edl_jax.core.errors import UserError

# (key, shape, dtype) -> kernel
Initializer = Callable[..., jax.Array]

# He et al. 2015 (1502.01852), fan-out variant: what torchvision's ResNets use for convolutions.
kaiming_fan_out = initializers.variance_scaling(2.0, "fan_out", "normal")
# The same paper's fan-in variant, for networks without normalisation.
kaiming_fan_in = initializers.he_normal()
# Of BERT and the vision transformers: normal of standard deviation 0.02, truncated at two of them.
truncated_normal = initializers.truncated_normal(0.02)


def on_cpu() -> bool:
    """Return whether layers take the forms for a CPU."""
    return jax.default_backend() == "cpu"


def relu(x: jax.Array) -> jax.Array:
    """Return max(x, 0)."""
    return cpu_forms.relu(x) if on_cpu() else nn.relu(x)


def max_pool(x: jax.Array) -> jax.Array:
    """Map `x` [N, H, W, C] to the maxima of its 2x2 windows [N, H // 2, W // 2, C]."""
    return cpu_forms.max_pool_2x2(x) if on_cpu() else nn.max_pool(x, (2, 2), strides=(2, 2))


def conv(
    features: int,
    size: int,
    stride: int,
    dtype: Any,
    name: str,
    *,
    init: Initializer = kaiming_fan_out,
    groups: int = 1,
    use_bias: bool = False,
    pad: bool = True,
) -> nn.Conv:
    """Return a `size` x `size` convolution, padded by `size // 2` on every side as in PyTorch (or not at all)."""
    padding = size // 2 if pad else 0
    return nn.Conv(
        features,
        (size, size),
        strides=(stride, stride),
        padding=((padding, padding), (padding, padding)),
        feature_group_count=groups,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=init,
        conv_general_dilated=cpu_conv.conv_general_dilated if on_cpu() else None,
        name=name,
    )


def batch_norm(train: bool, dtype: Any) -> partial[nn.BatchNorm]:
    """Return batch normalisation of the literature's momentum and epsilon.

    Scale starts at 1. Parameters, statistics and the reductions that make them are float32 whatever `dtype` is.
    """
    layer = cpu_forms.BatchNorm if on_cpu() else nn.BatchNorm
    return partial(layer, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype)


def global_mean(x: jax.Array) -> jax.Array:
    """Return the mean of each plane of `x` [N, H, W, C] as float32 [N, C]."""
    return jnp.mean(x, axis=(1, 2), dtype=jnp.float32)


def check_images(images: Any, side: int = 1, arch: str = "this model") -> None:
    """Raise `UserError` unless `images` has the shape [N, H, W, C] with H and W of at least `side`."""
    shape = jnp.shape(images)
    if len(shape) != 4 or 0 in shape[1:]:
        raise UserError(f"images have shape {shape}, expected [N, H, W, C] with H, W and C of at least 1")
    if min(shape[1:3]) < side:
        raise UserError(
            f"images are {shape[1]}x{shape[2]} pixels, expected at least {side}x{side} for {arch}: "
            "resize them or choose another arch"
        )


def patches(images: jax.Array, patch: int, features: int, dtype: Any, init: Initializer) -> jax.Array:
    """Return tokens [N, (H / patch) * (W / patch), features], one linear map of each patch, row by row.

    To be called inside a compact method: it makes the layer `patches`.

    Raises:
      UserError: a side of `images` [N, H, W, C] is no multiple of `patch`.
    """
    check_images(images)
    height, width = images.shape[1:3]
    if height % patch or width % patch:
        raise UserError(
            f"images are {height}x{width} pixels, expected sides that are multiples of the patch of {patch}: "
            "resize them or choose another arch"
        )
    layer = nn.Conv(
        features,
        (patch, patch),
        strides=(patch, patch),
        padding="VALID",
        dtype=dtype,
        kernel_init=init,
        name="patches",
    )
    x = layer(images.astype(dtype))
    return x.reshape(x.shape[0], -1, features)
