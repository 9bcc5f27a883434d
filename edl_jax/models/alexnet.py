"""AlexNet for CIFAR: Krizhevsky 2014 (1404.5997) without its dense layers.

The variant of bearpaw/pytorch-classification: the five convolutions of 64, 192, 384, 256 and 256 channels, the
first of 11x11 and stride 4 padded by 5, 2x2 max-pooling, one linear classifier; no batch normalisation and no local
response normalisation. The dropout of the original belonged to the dense layers that are gone. Being without
normalisation, it wants a learning rate of about 0.01.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, check_images, conv, global_mean, kaiming_fan_in, max_pool, relu

# (features, size, stride, pooled) of each convolution
_LAYERS = ((64, 11, 4, True), (192, 5, 1, True), (384, 3, 1, False), (256, 3, 1, False), (256, 3, 1, True))


class AlexNet(nn.Module):
    """AlexNet for images of at least 29x29 pixels (what stride 4 and three poolings can divide).

    Attributes:
      num_classes: number of logits.
      dtype: of the computation; parameters and logits are float32.
      kernel_init: initialiser of the convolutions.
    """

    num_classes: int
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_in

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        del train  # no layer behaves differently in training
        check_images(images, side=29, arch="AlexNet")
        x = images.astype(self.dtype)
        for index, (features, size, stride, pooled) in enumerate(_LAYERS):
            name = f"conv{index + 1}"
            x = conv(features, size, stride, self.dtype, name, init=self.kernel_init, use_bias=True)(x)
            x = relu(x)
            if pooled:
                x = max_pool(x)
        return nn.Dense(self.num_classes, name="head")(global_mean(x))
