"""A multilayer perceptron on flattened pixels."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, check_images, kaiming_fan_in


class MLP(nn.Module):
    """Dense ReLU layers on flattened pixels.

    Attributes:
      num_classes: number of logits.
      hidden: sizes of the hidden layers.
      dtype: of the computation; parameters and logits are float32.
      kernel_init: initialiser of every layer but the last.
    """

    num_classes: int
    hidden: tuple[int, ...] = (128, 128)
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_in

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        del train  # no layer behaves differently in training
        check_images(images)
        x = images.astype(self.dtype).reshape(images.shape[0], -1)
        for index, features in enumerate(self.hidden):
            x = nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init, name=f"dense{index + 1}")(x)
            x = nn.relu(x)
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))
