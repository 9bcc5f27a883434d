"""VGG with batch normalisation for CIFAR: Simonyan and Zisserman 2015 (1409.1556), configuration D.

Thirteen 3x3 convolutions with five max-poolings. The three dense layers of the ImageNet network are replaced by
one linear classifier on the average of the remaining plane, as in kuangliu/pytorch-cifar; convolutions keep their
biases as there, although batch normalisation follows. No dropout, which belonged to the dense layers.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import (
    Initializer,
    batch_norm,
    check_images,
    conv,
    global_mean,
    kaiming_fan_out,
    max_pool,
    relu,
)


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each ended by a 2x2 max-pooling; a linear classifier.

    Images need sides of at least 2**(number of stages) pixels.

    Attributes:
      num_classes: number of logits.
      stages: channels of the convolutions of each stage.
      dtype: of the computation; parameters, statistics and logits are float32.
      kernel_init: initialiser of the convolutions.
    """

    num_classes: int
    stages: tuple[tuple[int, ...], ...] = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_out

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        check_images(images, side=2 ** len(self.stages), arch="VGG")
        norm = batch_norm(train, self.dtype)
        x = images.astype(self.dtype)
        for stage, channels in enumerate(self.stages):
            for index, features in enumerate(channels):
                name = f"{stage + 1}_{index + 1}"
                x = conv(features, 3, 1, self.dtype, f"conv{name}", init=self.kernel_init, use_bias=True)(x)
                x = relu(norm(name=f"norm{name}")(x))
            x = max_pool(x)
        return nn.Dense(self.num_classes, name="head")(global_mean(x))
