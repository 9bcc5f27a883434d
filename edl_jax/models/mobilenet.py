"""MobileNetV2: Sandler et al. 2018 (1801.04381), table 2, with the strides of kuangliu/pytorch-cifar.

For 32x32 images the stem and the second stage have stride 1 instead of 2. As in that implementation, and other than
in the paper: ReLU instead of ReLU6, an expanding convolution in the first stage too, and a 1x1 shortcut where a block
of stride 1 changes the number of channels. No dropout. Any image of at least 1x1 pixel is accepted.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, batch_norm, check_images, conv, global_mean, kaiming_fan_out, relu

# (expansion, features, blocks, stride of the first block) of each stage
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection; a shortcut where the stride is 1.

    Attributes:
      features: output channels.
      expansion: channels of the depthwise convolution, as a multiple of the input's.
      stride: of the depthwise convolution.
      dtype: of the computation.
      kernel_init: initialiser of the convolutions.
    """

    features: int
    expansion: int
    stride: int = 1
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Map [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        norm = batch_norm(train, self.dtype)
        init = self.kernel_init
        hidden = self.expansion * inputs.shape[-1]
        x = relu(norm(name="norm1")(conv(hidden, 1, 1, self.dtype, "expand", init=init)(inputs)))
        x = conv(hidden, 3, self.stride, self.dtype, "depthwise", init=init, groups=hidden)(x)
        x = relu(norm(name="norm2")(x))
        x = norm(name="norm3")(conv(self.features, 1, 1, self.dtype, "project", init=init)(x))
        if self.stride != 1:
            return x
        shortcut = inputs
        if x.shape != inputs.shape:
            shortcut = conv(self.features, 1, 1, self.dtype, "shortcut", init=init)(inputs)
            shortcut = norm(name="shortcut_norm")(shortcut)
        return x + shortcut


class MobileNetV2(nn.Module):
    """3x3 stem, seven stages of inverted residuals, 1x1 convolution to 1,280 channels, linear classifier.

    Attributes:
      num_classes: number of logits.
      dtype: of the computation; parameters, statistics and logits are float32.
      kernel_init: initialiser of the convolutions.
    """

    num_classes: int
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        check_images(images)
        norm = batch_norm(train, self.dtype)
        x = conv(32, 3, 1, self.dtype, "stem", init=self.kernel_init)(images.astype(self.dtype))
        x = relu(norm(name="stem_norm")(x))
        for stage, (expansion, features, size, first_stride) in enumerate(_STAGES):
            for block in range(size):
                stride = first_stride if block == 0 else 1
                name = f"stage{stage + 1}_block{block + 1}"
                module = InvertedResidual(features, expansion, stride, self.dtype, self.kernel_init, name=name)
                x = module(x, train=train)
        x = conv(1280, 1, 1, self.dtype, "last", init=self.kernel_init)(x)
        x = relu(norm(name="last_norm")(x))
        return nn.Dense(self.num_classes, name="head")(global_mean(x))
