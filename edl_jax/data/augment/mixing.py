"""Mixtures of two images and their labels: mixup and CutMix.

Both take integer labels and return label probabilities, which the losses accept. One lambda is drawn for the
batch, and each image's partner is given by a random permutation of the batch, as in the papers' code.
"""

import functools

import jax
import jax.numpy as jnp

from edl_jax.core.errors import require
from edl_jax.data.augment.erasing import box_mask, check_images


@functools.partial(jax.jit, static_argnames=("num_classes", "alpha"))
def mixup(
    key: jax.Array, images: jax.Array, labels: jax.Array, *, num_classes: int, alpha: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Average every image with a partner, weights lambda and 1 - lambda (Zhang et al., 2018, arXiv:1710.09412).

    Args:
      key: PRNG key.
      images: `[N, H, W, C]`, uint8 or floating.
      labels: `[N]` integer classes.
      num_classes: number of classes K. Static.
      alpha: lambda is drawn from Beta(alpha, alpha); 1 for CIFAR-10 in the paper. Static.

    Returns:
      `(images, probabilities)`: `[N, H, W, C]` of the dtype of `images`, float32 for integers (a mean of two
      integers is none); `[N, K]` float32 rows that sum to 1.

    Raises:
      UserError: `alpha` is not positive.
      ValueError: `images` is not of rank 4.
    """
    check_images(images)
    lam_key, partner_key = jax.random.split(key)
    lam = _draw_lambda(lam_key, alpha, "mixup")
    partner = jax.random.permutation(partner_key, images.shape[0])
    raw = images.astype(jnp.float32)
    mixed = lam * raw + (1.0 - lam) * raw[partner]
    return mixed.astype(mixed_dtype(images.dtype)), _mix_labels(labels, partner, lam, num_classes)


@functools.partial(jax.jit, static_argnames=("num_classes", "alpha"))
def cutmix(
    key: jax.Array, images: jax.Array, labels: jax.Array, *, num_classes: int, alpha: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Paste one rectangle of a partner into every image (Yun et al., 2019, arXiv:1905.04899).

    Its sides are `sqrt(1 - lambda)` of the image's, its centre is uniform over the pixels, it is clipped at the
    border, and the partner's label gets exactly the share of pixels that the clipped rectangle covers.

    Args:
      key: PRNG key.
      images: `[N, H, W, C]`, uint8 or floating.
      labels: `[N]` integer classes.
      num_classes: number of classes K. Static.
      alpha: lambda is drawn from Beta(alpha, alpha); 1 in the paper. Static.

    Returns:
      `(images, probabilities)`: `[N, H, W, C]` of the dtype of `images`; `[N, K]` float32 rows that sum to 1.

    Raises:
      UserError: `alpha` is not positive.
      ValueError: `images` is not of rank 4.
    """
    check_images(images)
    batch, height, width, _ = images.shape
    lam_key, centre_key, partner_key = jax.random.split(key, 3)
    side = jnp.sqrt(1.0 - _draw_lambda(lam_key, alpha, "cutmix"))
    centre = jax.random.uniform(centre_key, (2,))
    top, bottom = _clipped_interval(centre[0], side, height)
    left, right = _clipped_interval(centre[1], side, width)
    partner = jax.random.permutation(partner_key, batch)
    mixed = jnp.where(box_mask(top, left, bottom, right, (height, width))[None], images[partner], images)
    covered = ((bottom - top) * (right - left)).astype(jnp.float32) / (height * width)
    return mixed, _mix_labels(labels, partner, 1.0 - covered, num_classes)


def mixed_dtype(dtype: jax.typing.DTypeLike) -> jax.typing.DTypeLike:
    """Return the dtype of averaged images: their own, float32 for integers."""
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.float32


def _draw_lambda(key: jax.Array, alpha: float, name: str) -> jax.Array:
    require(0.0 < alpha < float("inf"), f"{name} is {alpha}, expected a positive alpha of Beta(alpha, alpha)")
    if alpha == 1:
        return jax.random.uniform(key)  # the same distribution; the sampler of beta takes a second to compile
    return jax.random.beta(key, alpha, alpha, dtype=jnp.float32)


def _clipped_interval(centre: jax.Array, share: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """Return first and past-the-last pixel of an interval whose centre, in 0..1, is rounded down to a pixel."""
    half = jnp.floor(share * length).astype(jnp.int32) // 2
    pixel = jnp.floor(centre * length).astype(jnp.int32)
    return jnp.maximum(pixel - half, 0), jnp.minimum(pixel + half, length)


def _mix_labels(labels: jax.Array, partner: jax.Array, lam: jax.Array, num_classes: int) -> jax.Array:
    probabilities = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    return lam * probabilities + (1.0 - lam) * probabilities[partner]
