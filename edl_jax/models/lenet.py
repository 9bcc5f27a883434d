"""LeNet-5 (LeCun et al. 1998) in its present-day form: ReLU, max-pooling, a linear classifier."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, check_images, conv, kaiming_fan_in, max_pool, relu

_SIDE = 32  # the field of the original network, in which its 28x28 digits were centred


class LeNet5(nn.Module):
    """Two 5x5 convolutions with pooling and three dense layers.

    Images with a side below 32 pixels are zero-padded to 32, so 28x28 and 8x8 digits are accepted.

    Attributes:
      num_classes: number of logits.
      dtype: of the computation; parameters and logits are float32.
      kernel_init: initialiser of every layer but the last.
    """

    num_classes: int
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_in

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        del train  # no layer behaves differently in training
        check_images(images)
        x = images.astype(self.dtype)
        missing = [max(0, _SIDE - side) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *((count // 2, count - count // 2) for count in missing), (0, 0)))
        for features, name in ((6, "conv1"), (16, "conv2")):
            x = conv(features, 5, 1, self.dtype, name, init=self.kernel_init, use_bias=True, pad=False)(x)
            x = max_pool(relu(x))
        x = x.reshape(x.shape[0], -1)
        for features, name in ((120, "dense1"), (84, "dense2")):
            x = relu(nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init, name=name)(x))
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))
