"""MLP-Mixer: Tolstikhin et al. 2021 (2105.01601), in a size for 32x32 images.

Mixer-S of the paper's table 1 at a quarter of its width: 8 layers, 128 features a token, perceptrons of 64 hidden
units across tokens and 512 across features; patches of 4x4 pixels instead of 16x16 or 32x32.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, patches

# 1 / fan-in variance, as of Flax's own layers and the authors' code
_lecun_normal = nn.initializers.lecun_normal()


class MixerBlock(nn.Module):
    """A perceptron across tokens, then one across features, each after a layer normalisation and around a shortcut.

    Attributes:
      token_hidden: hidden units of the perceptron across tokens.
      feature_hidden: hidden units of the perceptron across features.
      drop_path: probability that an example skips a branch in training.
      dtype: of the computation; layer normalisation reduces in float32.
      kernel_init: initialiser of the dense layers.
    """

    token_hidden: int
    feature_hidden: int
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = _lecun_normal

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Map tokens [N, T, F] to the same shape."""

        def mlp(x: jax.Array, hidden: int, name: str) -> jax.Array:
            features = x.shape[-1]
            x = nn.Dense(hidden, dtype=self.dtype, kernel_init=self.kernel_init, name=f"{name}1")(x)
            x = nn.gelu(x, approximate=False)
            return nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init, name=f"{name}2")(x)

        def skip(x: jax.Array) -> jax.Array:
            return nn.Dropout(self.drop_path, broadcast_dims=(1, 2), deterministic=not train)(x)

        x = nn.LayerNorm(dtype=self.dtype, name="norm1")(inputs)
        x = mlp(x.swapaxes(1, 2), self.token_hidden, "token_dense").swapaxes(1, 2)
        inputs = inputs + skip(x)
        x = nn.LayerNorm(dtype=self.dtype, name="norm2")(inputs)
        return inputs + skip(mlp(x, self.feature_hidden, "feature_dense"))


class MLPMixer(nn.Module):
    """Patch embedding, mixer blocks, average over tokens, linear classifier.

    Sides of the images must be multiples of `patch`, and all images of one size. The paper regularises with
    stochastic depth, the field `drop_path`, 0 by default here; a rate above 0 needs an rng named dropout in training.

    Attributes:
      num_classes: number of logits.
      patch: side of a patch, in pixels.
      width: features of a token.
      depth: number of blocks.
      token_hidden: see `MixerBlock`.
      feature_hidden: see `MixerBlock`.
      drop_path: probability of skipping a branch of the last block; it grows linearly from 0 at the first.
      dtype: of the computation; parameters and logits are float32.
      kernel_init: initialiser of the patch embedding and the dense layers.
    """

    num_classes: int
    patch: int = 4
    width: int = 128
    depth: int = 8
    token_hidden: int = 64
    feature_hidden: int = 512
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = _lecun_normal

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        x = patches(images, self.patch, self.width, self.dtype, self.kernel_init)
        for index in range(self.depth):
            x = MixerBlock(
                token_hidden=self.token_hidden,
                feature_hidden=self.feature_hidden,
                drop_path=self.drop_path * index / max(1, self.depth - 1),
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                name=f"block{index + 1}",
            )(x, train=train)
        x = nn.LayerNorm(dtype=self.dtype, name="norm")(x)
        return nn.Dense(self.num_classes, name="head")(jnp.mean(x, axis=1, dtype=jnp.float32))
