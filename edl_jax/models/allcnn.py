"""All-CNN-C: Springenberg et al. 2015, "Striving for Simplicity" (1412.6806), table 1.

Nine convolutions and nothing else: convolutions of stride 2 take the place of pooling, there is no batch
normalisation. The last one has no ReLU here, which would keep logits from being negative; since it is then linear
and 1x1, it is applied after the average instead of before, which is the same function and cheaper.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, check_images, conv, global_mean, kaiming_fan_in, relu

# (features, size, stride, padded) of each convolution but the last
_LAYERS = (
    (96, 3, 1, True),
    (96, 3, 1, True),
    (96, 3, 2, True),
    (192, 3, 1, True),
    (192, 3, 1, True),
    (192, 3, 2, True),
    (192, 3, 1, False),
    (192, 1, 1, False),
)


class AllCNN(nn.Module):
    """All-CNN-C for images of at least 9x9 pixels.

    The paper trains with a dropout of 0.2 on the images and 0.5 after each convolution of stride 2. Both are 0 by
    default here; a rate above 0 needs an rng named dropout in training.

    Attributes:
      num_classes: number of logits.
      input_dropout: rate of dropout on the images.
      dropout: rate of dropout after each convolution of stride 2.
      dtype: of the computation; parameters and logits are float32.
      kernel_init: initialiser of the convolutions.
    """

    num_classes: int
    input_dropout: float = 0.0
    dropout: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = kaiming_fan_in

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        check_images(images, side=9, arch="All-CNN-C")
        x = nn.Dropout(self.input_dropout, deterministic=not train)(images.astype(self.dtype))
        for index, (features, size, stride, pad) in enumerate(_LAYERS):
            layer = conv(
                features,
                size,
                stride,
                self.dtype,
                f"conv{index + 1}",
                init=self.kernel_init,
                use_bias=True,
                pad=pad,
            )
            x = relu(layer(x))
            if stride == 2:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(global_mean(x))
