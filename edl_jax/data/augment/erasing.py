"""Rectangles that hide part of every image: cutout and random erasing."""

import functools

import jax
import jax.numpy as jnp

from edl_jax.core.errors import require

Fill = float | tuple[float, ...] | jax.Array  # a raw pixel value, or one for each channel
_ATTEMPTS = 10  # rectangles drawn for each image; all of them miss a square image in less than one of 1e9


def box_mask(top: jax.Array, left: jax.Array, bottom: jax.Array, right: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return `[..., H, W, 1]` bool, true in rows top..bottom-1 and columns left..right-1; `size` is `(H, W)`."""
    rows, columns = jnp.arange(size[0])[:, None], jnp.arange(size[1])[None, :]
    top, left, bottom, right = (jnp.asarray(edge)[..., None, None] for edge in (top, left, bottom, right))
    shape = (*top.shape[:-2], *size)
    rows, columns = jnp.broadcast_to(rows, shape), jnp.broadcast_to(columns, shape)
    return ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))[..., None]


def channel_fill(fill: Fill, images: jax.Array) -> jax.Array:
    """Return a raw pixel value, or one for each channel, as `[1, 1, 1, C]` of the dtype of `images`."""
    values = jnp.broadcast_to(jnp.asarray(fill, jnp.float32), images.shape[-1:]).reshape(1, 1, 1, -1)
    return (jnp.round(values) if jnp.issubdtype(images.dtype, jnp.integer) else values).astype(images.dtype)


@functools.partial(jax.jit, static_argnames="size")
def cutout(key: jax.Array, images: jax.Array, *, size: int = 16, fill: Fill = 0.0) -> jax.Array:
    """Fill one square in every image (DeVries & Taylor, 2017, arXiv:1708.04552).

    The centre is uniform over the pixels of the image, and the square is clipped at the border, as published.
    The paper fills with the data set's mean; on raw pixels that is `fill = 255 * mean`.

    Args:
      key: PRNG key.
      images: `[N, H, W, C]` raw pixels, uint8 or floating.
      size: side of the square in pixels, 16 for CIFAR-10 in the paper; 0 changes nothing. Static.
      fill: raw pixel value of the square, or one for each channel.

    Returns:
      `[N, H, W, C]` of the dtype of `images`.

    Raises:
      UserError: `size` is negative.
      ValueError: `images` is not of rank 4.
    """
    check_images(images)
    require(size >= 0, f"cutout is {size}, expected the side of a square in pixels, or 0 for none")
    batch, height, width, _ = images.shape
    places = jax.random.uniform(key, (2, batch))
    top = jnp.floor(places[0] * height).astype(jnp.int32) - size // 2
    left = jnp.floor(places[1] * width).astype(jnp.int32) - size // 2
    hidden = box_mask(top, left, top + size, left + size, (height, width))
    return jnp.where(hidden, channel_fill(fill, images), images)


@functools.partial(jax.jit, static_argnames=("probability", "area", "aspect"))
def random_erasing(
    key: jax.Array,
    images: jax.Array,
    *,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.4),
    aspect: float = 0.3,
) -> jax.Array:
    """Fill one rectangle of random place, area and shape with random pixels (Zhong et al., 2017, arXiv:1708.04896).

    Defaults are the paper's. The share of the image is uniform over `area`, height over width is
    uniform over `[aspect, 1 / aspect]`, the place is uniform over those where the rectangle fits, and each
    pixel of it is uniform over 0..255 (the paper's RE-R). A rectangle that does not fit is drawn again, ten
    times at most; an image that none fits, which takes an extremely long one, stays as it is.

    Args:
      key: PRNG key.
      images: `[N, H, W, C]` raw pixels in 0..255, uint8 or floating.
      probability: that an image is changed. Static.
      area: smallest and largest share of the image. Static.
      aspect: smallest height over width, in (0, 1]. Static.

    Returns:
      `[N, H, W, C]` of the dtype of `images`.

    Raises:
      UserError: a setting outside its range.
      ValueError: `images` is not of rank 4.
    """
    check_images(images)
    require(0.0 <= probability <= 1.0, f"random_erasing is {probability}, expected a probability in [0, 1]")
    require(0.0 < area[0] <= area[1] < 1.0, f"area of random erasing is {area}, expected 0 < smallest <= largest < 1")
    require(0.0 < aspect <= 1.0, f"aspect of random erasing is {aspect}, expected a ratio in (0, 1]")
    batch, height, width, _ = images.shape
    box_key, pixel_key = jax.random.split(key)
    # One draw for all that an image needs: every further one adds to the time of compilation.
    draws = jax.random.uniform(box_key, (2 * _ATTEMPTS + 3, batch))
    pixels = (area[0] + (area[1] - area[0]) * draws[:_ATTEMPTS].T) * height * width
    ratio = aspect + (1.0 / aspect - aspect) * draws[_ATTEMPTS : 2 * _ATTEMPTS].T
    heights = jnp.round(jnp.sqrt(pixels * ratio)).astype(jnp.int32)
    widths = jnp.round(jnp.sqrt(pixels / ratio)).astype(jnp.int32)
    fits = (heights > 0) & (widths > 0) & (heights < height) & (widths < width)
    first = jnp.argmax(fits, axis=1, keepdims=True)
    box_height, box_width = (jnp.take_along_axis(sides, first, axis=1)[:, 0] for sides in (heights, widths))
    top = jnp.floor(draws[-3] * (height - box_height + 1)).astype(jnp.int32)
    left = jnp.floor(draws[-2] * (width - box_width + 1)).astype(jnp.int32)
    hidden = box_mask(top, left, top + box_height, left + box_width, (height, width))
    chosen = fits.any(axis=1) & (draws[-1] < probability)
    noise = jax.random.bits(pixel_key, images.shape, jnp.uint8).astype(images.dtype)
    return jnp.where(hidden & chosen[:, None, None, None], noise, images)


def check_images(images: jax.Array) -> None:
    """Raise ValueError unless `images` is of rank 4."""
    if images.ndim != 4:
        raise ValueError(f"images must be [N, H, W, C], got shape {images.shape}")
