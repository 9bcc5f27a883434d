"""Random crop and flip of raw pixels, and normalisation.

The order is the usual CIFAR recipe (He et al., 2016, section 4.2): pad and crop the raw pixels, flip,
then normalise. The border is therefore black (raw 0), not the data set's mean, as in PyTorch's
`RandomCrop(32, padding=4)` followed by `Normalize`.
"""

import functools

import jax
import jax.numpy as jnp


@functools.partial(jax.jit, static_argnames=("padding", "flip"))
def random_crop_flip(key: jax.Array, images: jax.Array, *, padding: int = 4, flip: bool = True) -> jax.Array:
    """Pad every image with zeros, crop it back to its size at a random place and maybe mirror it.

    Each image draws its own offsets, uniform over the `(2 * padding + 1) ** 2` windows, and its own
    left-right flip with probability 1/2. Apply it to raw pixels, before `normalize`.

    Args:
      key: PRNG key.
      images: `[B, H, W, C]`, uint8 or floating.
      padding: zeros added on each side of height and width; 0 leaves the image in place. Static.
      flip: whether to mirror at random. Static.

    Returns:
      `[B, H, W, C]` of the dtype of `images`.

    Raises:
      ValueError: if `images` is not of rank 4 or `padding` is negative.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be [B, H, W, C], got shape {images.shape}")
    if padding < 0:
        raise ValueError(f"padding must be at least 0, got {padding}")
    batch, height, width, channels = images.shape
    offset_key, flip_key = jax.random.split(key)
    if padding:
        border = (padding, padding)
        padded = jnp.pad(images, ((0, 0), border, border, (0, 0)))
        offsets = jax.random.randint(offset_key, (batch, 2), 0, 2 * padding + 1)
        images = jax.vmap(
            lambda image, offset: jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), (height, width, channels))
        )(padded, offsets)
    if flip:
        mirrored = jax.random.bernoulli(flip_key, shape=(batch, 1, 1, 1))
        images = jnp.where(mirrored, images[:, :, ::-1], images)
    return images


def normalize(
    images: jax.Array, mean: jax.Array, std: jax.Array, dtype: jax.typing.DTypeLike = jnp.float32
) -> jax.Array:
    """Return `(images / 255 - mean) / std`, computed in float32 and cast to `dtype`.

    Args:
      images: `[..., C]` raw pixels in 0..255, uint8 or floating.
      mean: `[C]` mean of each channel in 0..1 units.
      std: `[C]` standard deviation of each channel in 0..1 units.
      dtype: of the result.

    Returns:
      `[..., C]` of `dtype`.
    """
    shape = (1,) * (images.ndim - 1) + (-1,)
    mean = jnp.asarray(mean, jnp.float32).reshape(shape)
    std = jnp.asarray(std, jnp.float32).reshape(shape)
    return ((images.astype(jnp.float32) / 255.0 - mean) / std).astype(dtype)
