"""Residual networks for small images.

`CifarResNet`: He et al. 2016 (1512.03385), section 4.2: three stages of 16, 32 and 64 channels, 6n + 2
layers, parameter-free shortcuts (option A). `ResNet`: the ImageNet family of the same paper (18, 34, 50
layers) with the stem that is customary for CIFAR: one 3x3 convolution of stride 1, no max-pooling.

Strides divide sides rounding up, and the last stage is averaged over whatever remains of the plane, so any
image of at least 1x1 pixel is accepted.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, batch_norm, check_images, conv, kaiming_fan_out, relu


def pad_shortcut(inputs: jax.Array, features: int, stride: int) -> jax.Array:
    """Return `inputs` [N, H, W, C] subsampled by `stride`, its channels zero-padded to `features` (option A)."""
    inputs = inputs[:, ::stride, ::stride, :]
    missing = features - inputs.shape[-1]
    if missing == 0:
        return inputs
    return jnp.pad(inputs, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


def _last_scale(zero: bool) -> Initializer:
    return nn.initializers.zeros if zero else nn.initializers.ones


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut.

    Attributes:
      features: output channels.
      stride: of the first convolution.
      projection: whether a shortcut that changes shape is a 1x1 convolution with batch normalisation
        (option B) or parameter-free (option A).
      dtype: of the computation.
      kernel_init: initialiser of the convolutions.
      zero_residual: whether the scale of the last batch normalisation starts at 0, so that the block starts as
        its shortcut.
    """

    features: int
    stride: int = 1
    projection: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out
    zero_residual: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Map [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        norm = batch_norm(train, self.dtype)
        x = conv(self.features, 3, self.stride, self.dtype, "conv1", init=self.kernel_init)(inputs)
        x = relu(norm(name="norm1")(x))
        x = conv(self.features, 3, 1, self.dtype, "conv2", init=self.kernel_init)(x)
        x = norm(name="norm2", scale_init=_last_scale(self.zero_residual))(x)
        if x.shape == inputs.shape:
            shortcut = inputs
        elif self.projection:
            shortcut = conv(self.features, 1, self.stride, self.dtype, "shortcut", init=self.kernel_init)(inputs)
            shortcut = norm(name="shortcut_norm")(shortcut)
        else:
            shortcut = pad_shortcut(inputs, self.features, self.stride)
        return relu(x + shortcut)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; `4 * features` output channels.

    The stride sits on the 3x3 convolution (torchvision's and kuangliu's variant). Attributes as of `BasicBlock`.
    """

    features: int
    stride: int = 1
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out
    zero_residual: bool = False

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Map [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), 4 * features]."""
        norm = batch_norm(train, self.dtype)
        x = conv(self.features, 1, 1, self.dtype, "conv1", init=self.kernel_init)(inputs)
        x = relu(norm(name="norm1")(x))
        x = conv(self.features, 3, self.stride, self.dtype, "conv2", init=self.kernel_init)(x)
        x = relu(norm(name="norm2")(x))
        x = conv(4 * self.features, 1, 1, self.dtype, "conv3", init=self.kernel_init)(x)
        x = norm(name="norm3", scale_init=_last_scale(self.zero_residual))(x)
        shortcut = inputs
        if x.shape != inputs.shape:
            shortcut = conv(4 * self.features, 1, self.stride, self.dtype, "shortcut", init=self.kernel_init)(inputs)
            shortcut = norm(name="shortcut_norm")(shortcut)
        return relu(x + shortcut)


class ResNet(nn.Module):
    """A residual network: 3x3 stem, stages of blocks, global average pooling, linear classifier.

    Attributes:
      stage_sizes: number of blocks of each stage; every stage but the first halves the sides.
      num_classes: number of logits.
      width: channels of the stem and of the first stage; doubled at each further stage.
      bottleneck: whether blocks are `BottleneckBlock`.
      projection: see `BasicBlock`.
      dtype: of the computation; parameters, statistics and logits are float32.
      kernel_init: initialiser of the convolutions.
      zero_residual: see `BasicBlock` (Goyal et al. 2017, 1706.02677, section 5.1).
    """

    stage_sizes: tuple[int, ...]
    num_classes: int
    width: int = 64
    bottleneck: bool = False
    projection: bool = True
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out
    zero_residual: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        check_images(images)
        x = conv(self.width, 3, 1, self.dtype, "stem", init=self.kernel_init)(images.astype(self.dtype))
        x = relu(batch_norm(train, self.dtype)(name="stem_norm")(x))
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                features = self.width * 2**stage
                stride = 2 if stage > 0 and block == 0 else 1
                common: dict[str, Any] = {
                    "dtype": self.dtype,
                    "kernel_init": self.kernel_init,
                    "zero_residual": self.zero_residual,
                    "name": f"stage{stage + 1}_block{block + 1}",
                }
                module: nn.Module
                if self.bottleneck:
                    module = BottleneckBlock(features, stride, **common)
                else:
                    module = BasicBlock(features, stride, self.projection, **common)
                x = module(x, train=train)
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        return nn.Dense(self.num_classes, name="head")(x)


def cifar_resnet(depth: int, num_classes: int, dtype: Any = jnp.float32) -> ResNet:
    """Return the CIFAR ResNet of `depth` = 6n + 2 layers (8, 20, 32, 44, 56, 110)."""
    size, rest = divmod(depth - 2, 6)
    if rest or size < 1:
        raise ValueError(f"depth is {depth}, expected 6n + 2")
    return ResNet((size,) * 3, num_classes, width=16, projection=False, dtype=dtype)
