"""EfficientNetV2-S: Tan and Le 2021 (2104.00298), table 4.

The network of the paper with the paper's strides: five of 2, so that 32x32 images end in one pixel; they are usually
enlarged first. Squeeze-and-excitation has a quarter of a block's input channels
and batch normalisation an epsilon of 1e-3, as in the authors' code and torchvision's. Any image of at least
1x1 pixel is accepted.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, batch_norm, check_images, conv, global_mean, kaiming_fan_out

_EPSILON = 1e-3
# (fused, expansion, features, blocks, stride of the first block) of each stage
_STAGES = (
    (True, 1, 24, 2, 1),
    (True, 4, 48, 4, 2),
    (True, 4, 64, 4, 2),
    (False, 4, 128, 6, 2),
    (False, 6, 160, 9, 1),
    (False, 6, 256, 15, 2),
)


class SqueezeExcite(nn.Module):
    """Multiply each channel by a gate made of the mean of all channels (Hu et al. 2018, 1709.01507).

    Attributes:
      squeezed: features of the hidden layer.
      dtype: of the computation.
      kernel_init: initialiser of both layers.
    """

    squeezed: int
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map [N, H, W, C] to the same shape."""
        gate = global_mean(x)
        gate = nn.Dense(self.squeezed, dtype=self.dtype, kernel_init=self.kernel_init, name="reduce")(gate)
        gate = nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=self.kernel_init, name="expand")(nn.silu(gate))
        return x * nn.sigmoid(gate)[:, None, None, :]


class MBConv(nn.Module):
    """An inverted residual with squeeze-and-excitation, or its fused form with one 3x3 convolution.

    Attributes:
      features: output channels.
      expansion: channels inside, as a multiple of the input's.
      stride: of the 3x3 convolution.
      fused: whether one full 3x3 convolution replaces expansion, depthwise convolution and gate.
      drop_path: probability that an example skips the block in training.
      dtype: of the computation.
      kernel_init: initialiser of the convolutions.
    """

    features: int
    expansion: int
    stride: int = 1
    fused: bool = False
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Map [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        norm = batch_norm(train, self.dtype)
        init = self.kernel_init
        channels = inputs.shape[-1]
        hidden = self.expansion * channels
        if self.fused:
            x = conv(hidden, 3, self.stride, self.dtype, "expand", init=init)(inputs)
            x = nn.silu(norm(name="norm1", epsilon=_EPSILON)(x))
        else:
            x = conv(hidden, 1, 1, self.dtype, "expand", init=init)(inputs)
            x = nn.silu(norm(name="norm1", epsilon=_EPSILON)(x))
            x = conv(hidden, 3, self.stride, self.dtype, "depthwise", init=init, groups=hidden)(x)
            x = nn.silu(norm(name="norm2", epsilon=_EPSILON)(x))
            x = SqueezeExcite(channels // 4, self.dtype, init, name="gate")(x)
        # A fused block that does not expand is its 3x3 convolution alone.
        if self.expansion > 1:
            x = norm(name="norm3", epsilon=_EPSILON)(conv(self.features, 1, 1, self.dtype, "project", init=init)(x))
        if x.shape != inputs.shape:
            return x
        return inputs + nn.Dropout(self.drop_path, broadcast_dims=(1, 2, 3), deterministic=not train)(x)


class EfficientNetV2(nn.Module):
    """3x3 stem of stride 2, six stages of (fused) MBConv, 1x1 convolution to 1,280 channels, linear classifier.

    The paper trains with dropout and stochastic depth (torchvision: 0.2 both). Both are 0 by default here; a rate
    above 0 needs an rng named dropout in training.

    Attributes:
      num_classes: number of logits.
      dropout: rate before the classifier.
      drop_path: probability of skipping the last block; it grows linearly from 0 at the first.
      dtype: of the computation; parameters, statistics and logits are float32.
      kernel_init: initialiser of the convolutions.
    """

    num_classes: int
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        check_images(images)
        norm = batch_norm(train, self.dtype)
        x = conv(24, 3, 2, self.dtype, "stem", init=self.kernel_init)(images.astype(self.dtype))
        x = nn.silu(norm(name="stem_norm", epsilon=_EPSILON)(x))
        total, done = sum(stage[3] for stage in _STAGES), 0
        for stage, (fused, expansion, features, size, first_stride) in enumerate(_STAGES):
            for block in range(size):
                x = MBConv(
                    features,
                    expansion,
                    first_stride if block == 0 else 1,
                    fused,
                    self.drop_path * done / (total - 1),
                    self.dtype,
                    self.kernel_init,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train)
                done += 1
        x = conv(1280, 1, 1, self.dtype, "last", init=self.kernel_init)(x)
        x = global_mean(nn.silu(norm(name="last_norm", epsilon=_EPSILON)(x)))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)
