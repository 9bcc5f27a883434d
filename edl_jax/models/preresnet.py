"""Residual networks of full pre-activation: He et al. 2016, "Identity Mappings" (1603.05027).

Batch normalisation and ReLU come before each convolution; the activation of the first block precedes its
shortcut too, and one more follows the last block (appendix of the paper). kuangliu/pytorch-cifar, whose
PreActResNet18 is often taken for the reference, leaves that last one out: 1,024 parameters fewer.

Any image of at least 1x1 pixel is accepted, as by `resnet`.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, batch_norm, check_images, conv, global_mean, kaiming_fan_out, relu
from edl_jax.models.resnet import pad_shortcut


class PreActBlock(nn.Module):
    """Two pre-activated 3x3 convolutions around a shortcut.

    Attributes:
      features: output channels.
      stride: of the first convolution.
      first: whether the shortcut starts after the first activation even where it changes no shape.
      projection: whether a shortcut that changes shape is a 1x1 convolution of the activated input (option B)
        or parameter-free (option A).
      dropout: rate between the two convolutions.
      dtype: of the computation.
      kernel_init: initialiser of the convolutions.
    """

    features: int
    stride: int = 1
    first: bool = False
    projection: bool = True
    dropout: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Map [N, H, W, C] to [N, ceil(H / stride), ceil(W / stride), features]."""
        norm = batch_norm(train, self.dtype)
        init = self.kernel_init
        active = relu(norm(name="norm1")(inputs))
        same = self.stride == 1 and inputs.shape[-1] == self.features
        shortcut = active if self.first else inputs
        if not same and self.projection:
            shortcut = conv(self.features, 1, self.stride, self.dtype, "shortcut", init=init)(active)
        elif not same:
            shortcut = pad_shortcut(shortcut, self.features, self.stride)
        x = conv(self.features, 3, self.stride, self.dtype, "conv1", init=init)(active)
        x = relu(norm(name="norm2")(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = conv(self.features, 3, 1, self.dtype, "conv2", init=init)(x)
        return x + shortcut


class PreActResNet(nn.Module):
    """A pre-activation residual network: 3x3 stem, stages of blocks, last activation, average, linear classifier.

    Attributes:
      stage_sizes: number of blocks of each stage; every stage but the first halves the sides.
      num_classes: number of logits.
      width: channels of the first stage; doubled at each further stage.
      stem: channels of the stem; None for `width`.
      projection: see `PreActBlock`.
      dropout: see `PreActBlock`; a rate above 0 needs an rng named dropout in training.
      dtype: of the computation; parameters, statistics and logits are float32.
      kernel_init: initialiser of the convolutions.
    """

    stage_sizes: tuple[int, ...]
    num_classes: int
    width: int = 64
    stem: int | None = None
    projection: bool = True
    dropout: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        check_images(images)
        x = images.astype(self.dtype)
        x = conv(self.stem or self.width, 3, 1, self.dtype, "stem", init=self.kernel_init)(x)
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                x = PreActBlock(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    first=stage == 0 and block == 0,
                    projection=self.projection,
                    dropout=self.dropout,
                    dtype=self.dtype,
                    kernel_init=self.kernel_init,
                    name=f"stage{stage + 1}_block{block + 1}",
                )(x, train=train)
        x = relu(batch_norm(train, self.dtype)(name="norm")(x))
        return nn.Dense(self.num_classes, name="head")(global_mean(x))


def cifar_preresnet(depth: int, num_classes: int, dtype: Any = jnp.float32) -> PreActResNet:
    """Return the CIFAR network of `depth` = 6n + 2 layers: basic blocks, parameter-free shortcuts (option A)."""
    size, rest = divmod(depth - 2, 6)
    if rest or size < 1:
        raise ValueError(f"depth is {depth}, expected 6n + 2")
    return PreActResNet((size,) * 3, num_classes, width=16, projection=False, dtype=dtype)
