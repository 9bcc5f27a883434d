"""From a data set in memory to what a network reads: subsets, normalisation, augmentation."""

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import data
from edl_jax.core.errors import require
from edl_jax.training.step import Prepare


def train_subset(dataset: data.Dataset, size: int | None, seed: int) -> tuple[data.ImageView, np.ndarray]:
    """Return `size` training images and labels, drawn by `seed` with each class's share kept, in stored order.

    No image is read yet.

    Raises:
      UserError: the data set has fewer training images.
    """
    images, labels = data.ImageView(dataset.train_images), dataset.train_labels
    if size is None or size == len(images):
        return images, labels
    require(size <= len(images), f"train_size is {size}, expected at most {len(images)} ({dataset.name} has no more)")
    chosen = stratified_indices(labels, size, num_classes=dataset.num_classes, seed=seed)
    return images.select(chosen), labels[chosen]


def stratified_indices(labels: np.ndarray, size: int, *, num_classes: int, seed: int) -> np.ndarray:
    """Return the indices [size] of examples drawn by `seed` with each class's share kept, in stored order.

    Args:
      labels: [N] integer classes.
      size: examples to draw, at most N.
      num_classes: number of classes.
      seed: of the draw.
    """
    # Each class is spread evenly over [0, 1); the examples with the smallest positions are taken.
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    position = np.empty(len(labels))
    for label in range(num_classes):
        members = np.flatnonzero(labels[shuffled] == label)
        position[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
    return np.sort(shuffled[np.argsort(position, kind="stable")[:size]])


def make_prepare(dataset: data.Dataset, dtype: jax.typing.DTypeLike) -> Prepare:
    """Return the function from raw images to network input.

    Args:
      dataset: gives the statistics of normalisation.
      dtype: of the network's input.
    """
    mean, std = jnp.asarray(dataset.mean), jnp.asarray(dataset.std)
    return lambda images: data.normalize(images, mean, std, dtype)


def make_augment(dataset: data.Dataset, config: data.AugmentConfig) -> data.AugmentFn | None:
    """Return the augmentation of training images with the data set's own padding, flips and mean, or None for none.

    Raises:
      UserError: as `data.make_augment`.
    """
    if config == data.published_config([]):
        return None
    return data.make_augment(
        config,
        dataset.train_images.shape[1:],
        dataset.num_classes,
        padding=dataset.augment.padding,
        flip=dataset.augment.flip,
        mean=dataset.mean,
    )
