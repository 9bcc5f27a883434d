"""From a data set in memory to what a network reads: subsets, augmentation, normalisation."""

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import data
from edl_jax.errors import require
from edl_jax.training.step import Prepare


def train_subset(dataset: data.Dataset, size: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `size` training images and labels, drawn by `seed` with each class's share kept, in stored order.

    Raises:
      UserError: the data set has fewer training images.
    """
    images, labels = dataset.train_images, dataset.train_labels
    if size is None or size == len(images):
        return images, labels
    require(size <= len(images), f"train_size is {size}, expected at most {len(images)} ({dataset.name} has no more)")
    # Each class is spread evenly over [0, 1); the examples with the smallest positions are taken.
    shuffled = np.random.default_rng(seed).permutation(len(images))
    position = np.empty(len(images))
    for label in range(dataset.num_classes):
        members = np.flatnonzero(labels[shuffled] == label)
        position[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    chosen = np.sort(shuffled[np.argsort(position, kind="stable")[:size]])
    return images[chosen], labels[chosen]


def make_prepare(dataset: data.Dataset, dtype: jax.typing.DTypeLike, *, augment: bool) -> Prepare:
    """Return the function from raw images to network input.

    Args:
      dataset: gives the statistics of normalisation and the usual augmentation.
      dtype: of the network's input.
      augment: whether training images (those that come with a key) are cropped and flipped at random.
    """
    mean, std = jnp.asarray(dataset.mean), jnp.asarray(dataset.std)

    def prepare(key: jax.Array | None, images: jax.Array) -> jax.Array:
        if augment and key is not None:
            padding, flip = dataset.augment.padding, dataset.augment.flip
            images = data.random_crop_flip(key, images, padding=padding, flip=flip)
        return data.normalize(images, mean, std, dtype)

    return prepare
