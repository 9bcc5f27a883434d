"""What a search sees of a data set: its official training images, split in two. Test images are no argument here."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import data
from edl_jax.core.errors import require
from edl_jax.training.inputs import stratified_indices


@dataclasses.dataclass(frozen=True)
class Images:
    """What students need to know of a data set.

    Attributes:
      shape: `(H, W, channels)`.
      num_classes: C.
      mean: of each channel over the training images, in 0..1 units.
      std: standard deviation of each channel, likewise.
    """

    shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def normalise(self, images: jax.Array) -> jax.Array:
        """Return images `[N, H, W, channels]` uint8 as float32 of mean 0 and standard deviation 1."""
        mean, std = (jnp.asarray(x, jnp.float32) * 255.0 for x in (self.mean, self.std))
        return (images.astype(jnp.float32) - mean[None, None, None]) / std[None, None, None]

    def check_side(self, least: int, arch: str) -> None:
        """Raise `UserError` unless H and W are at least `least`."""
        require(
            min(self.shape[:2]) >= least,
            f"images are {self.shape[0]}x{self.shape[1]} pixels, expected at least {least}x{least} for {arch}: "
            "choose another student",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Training and validation examples of a search.

    Attributes:
      images: what the data set is like; mean and standard deviation are those of the training part.
      train_images: `[N, H, W, channels]` uint8.
      train_labels: `[N]` int32.
      validation_images: `[M, H, W, channels]` uint8, in random order, so that the first of them are a fair sample.
      validation_labels: `[M]` int32.
    """

    images: Images
    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of the training part."""
        return self.train_images, self.train_labels

    @property
    def validation(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of the validation part."""
        return self.validation_images, self.validation_labels


def split(dataset: data.Dataset, seed: int, *, validation: float = 0.1, size: int | None = None) -> Split:
    """Return the stratified split of the official training set by `seed`.

    Args:
      dataset: as `data.load` gives it; its test images are not read.
      seed: of the split.
      validation: share of the validation part.
      size: examples of both parts together, each class's share kept; None for all.

    Raises:
      UserError: a share that leaves a part without an example, or a size beyond the set's.
    """
    images, labels = dataset.train_images, dataset.train_labels
    size = len(labels) if size is None else size
    require(2 <= size <= len(labels), f"size is {size}, expected 2 to {len(labels)}: {dataset.name} has no more")
    count = round(validation * size)
    require(
        0 < count < size, f"validation is {validation}, expected a share of {size} examples that leaves both parts some"
    )
    rng = np.random.default_rng([seed, 0])
    chosen = stratified_indices(labels, size, num_classes=dataset.num_classes, seed=seed)
    held_out = np.zeros(size, bool)
    held_out[stratified_indices(labels[chosen], count, num_classes=dataset.num_classes, seed=seed + 1)] = True
    train, validation_rows = chosen[~held_out], rng.permutation(chosen[held_out])
    train_images = images[train]
    mean, std = _statistics(train_images)
    return Split(
        images=Images(images.shape[1:], dataset.num_classes, mean, std),
        train_images=train_images,
        train_labels=labels[train],
        validation_images=images[validation_rows],
        validation_labels=labels[validation_rows],
    )


def batches(seed: int, count: int, steps: int, batch_size: int) -> np.ndarray:
    """Return the examples of each step, int32 `[steps, batch_size]`: drawn anew each step, no example twice in one.

    The first rows do not depend on `steps`.

    Args:
      seed: of the draw.
      count: examples to draw from.
      steps: number of steps.
      batch_size: examples of a step.

    Raises:
      UserError: a batch larger than the set.
    """
    require(1 <= batch_size <= count, f"batch_size is {batch_size}, expected 1 to the {count} examples of the part")
    rng = np.random.default_rng([seed, 1])
    return np.stack([rng.choice(count, batch_size, replace=False) for _ in range(steps)]).astype(np.int32)


def _statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 images, in 0..1 units."""
    values = np.arange(256) / 255.0
    shares = [np.bincount(images[..., c].ravel(), minlength=256) / images[..., c].size for c in range(images.shape[-1])]
    mean = [float(share @ values) for share in shares]
    std = [float(np.sqrt(share @ (values - m) ** 2)) for share, m in zip(shares, mean, strict=True)]
    return tuple(mean), tuple(max(s, 1e-6) for s in std)
