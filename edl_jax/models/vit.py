"""Vision transformer: Dosovitskiy et al. 2021 (2010.11929), in the tiny size of DeiT (Touvron et al. 2021, 2012.12877).

192 features, 12 layers, 3 heads, a class token and learned positions; pre-normalisation. Patches of 4x4 pixels
instead of 16x16, so that a 32x32 image makes 64 of them. Without pretraining it wants AdamW, warm-up and strong
augmentation.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from edl_jax.models.layers import Initializer, patches, truncated_normal


class TransformerBlock(nn.Module):
    """Self-attention and a two-layer perceptron, each after a layer normalisation and around a shortcut.

    Attributes:
      heads: of the attention; they divide the features.
      ratio: hidden features of the perceptron, as a multiple of the token's.
      dropout: rate after the attention and after both layers of the perceptron.
      drop_path: probability that an example skips a branch in training.
      dtype: of the computation; layer normalisation and softmax reduce in float32.
      kernel_init: initialiser of the dense layers.
    """

    heads: int
    ratio: int = 4
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = truncated_normal

    @nn.compact
    def __call__(self, inputs: jax.Array, *, train: bool) -> jax.Array:
        """Map tokens [N, T, F] to the same shape."""

        def dense(features: int, name: str) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, kernel_init=self.kernel_init, name=name)

        def drop(x: jax.Array) -> jax.Array:
            return nn.Dropout(self.dropout, deterministic=not train)(x)

        def skip(x: jax.Array) -> jax.Array:
            return nn.Dropout(self.drop_path, broadcast_dims=(1, 2), deterministic=not train)(x)

        batch, tokens, features = inputs.shape
        x = nn.LayerNorm(dtype=self.dtype, name="norm1")(inputs)
        qkv = dense(3 * features, "qkv")(x).reshape(batch, tokens, 3, self.heads, features // self.heads)
        x = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        x = drop(dense(features, "out")(x.reshape(batch, tokens, features)))
        inputs = inputs + skip(x)
        x = nn.LayerNorm(dtype=self.dtype, name="norm2")(inputs)
        x = drop(nn.gelu(dense(self.ratio * features, "dense1")(x), approximate=False))
        return inputs + skip(drop(dense(features, "dense2")(x)))


class ViT(nn.Module):
    """Patch embedding, class token and learned positions, transformer blocks, linear classifier of the class token.

    Sides of the images must be multiples of `patch`; the number of positions is that of the images of `init`.
    DeiT trains with a `drop_path` of 0.1, ViT with a `dropout` of 0.1. Both are 0 by default here; a rate
    above 0 needs an rng named dropout in training.

    Attributes:
      num_classes: number of logits.
      patch: side of a patch, in pixels.
      width: features of a token.
      depth: number of blocks.
      heads: of the attention.
      dropout: rate on the embedded tokens and in the blocks, see `TransformerBlock`.
      drop_path: probability of skipping a branch of the last block; it grows linearly from 0 at the first.
      dtype: of the computation; parameters and logits are float32.
      kernel_init: initialiser of the patch embedding and the dense layers.
    """

    num_classes: int
    patch: int = 4
    width: int = 192
    depth: int = 12
    heads: int = 3
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: Any = jnp.float32
    kernel_init: Initializer = truncated_normal

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Return float32 logits [N, num_classes] of normalised images [N, H, W, C]."""
        x = patches(images, self.patch, self.width, self.dtype, self.kernel_init)
        token = self.param("token", truncated_normal, (1, 1, self.width))
        positions = self.param("positions", truncated_normal, (1, x.shape[1] + 1, self.width))
        token = jnp.broadcast_to(token, (x.shape[0], 1, self.width)).astype(self.dtype)
        x = jnp.concatenate([token, x], axis=1) + positions.astype(self.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for index in range(self.depth):
            x = TransformerBlock(
                heads=self.heads,
                dropout=self.dropout,
                drop_path=self.drop_path * index / max(1, self.depth - 1),
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                name=f"block{index + 1}",
            )(x, train=train)
        x = nn.LayerNorm(name="norm")(x[:, 0].astype(jnp.float32))
        return nn.Dense(self.num_classes, name="head")(x)
