"""Data sets by name, as plain arrays in memory."""

import dataclasses
import os
import re

import numpy as np

from edl_jax import errors
from edl_jax.data import images, tfds_reader

_DIGITS_TEST_SIZE = 360
_DIGITS_SEED = 0
_STATISTICS_BATCH = 5000  # images counted at a time; bincount makes int64 copies


@dataclasses.dataclass(frozen=True)
class Augment:
    """The usual augmentation of a data set, as arguments of `random_crop_flip`.

    Attributes:
      padding: zeros on each side before the random crop.
      flip: whether mirrored images keep their class.
    """

    padding: int
    flip: bool


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a data set before it is read.

    Attributes:
      image_shape: `(H, W, C)`; H and W are `None` where images vary in size.
      num_classes: number of classes.
      augment: default augmentation.
      tfds: whether it is read from (and prepared into) a TFDS directory.
    """

    image_shape: tuple[int | None, int | None, int]
    num_classes: int
    augment: Augment
    tfds: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An image classification data set in memory; the arrays are read-only.

    Attributes:
      name: its name in the registry.
      train_images: `[N, H, W, C]` uint8.
      train_labels: `[N]` int32.
      test_images: `[M, H, W, C]` uint8.
      test_labels: `[M]` int32.
      num_classes: number of classes C.
      label_names: one name for each class.
      mean: `[C]` float32 mean of each channel over the training images, in 0..1 units.
      std: `[C]` float32 standard deviation of each channel, likewise.
      augment: default augmentation.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int
    label_names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    augment: Augment


# Mirrored digits are other characters, or none, and 8x8 digits fill their frame.
SPECS: dict[str, Spec] = {
    "cifar10": Spec((32, 32, 3), 10, Augment(padding=4, flip=True)),
    "cifar100": Spec((32, 32, 3), 100, Augment(padding=4, flip=True)),
    "digits": Spec((8, 8, 1), 10, Augment(padding=0, flip=False), tfds=False),
    "fashion_mnist": Spec((28, 28, 1), 10, Augment(padding=2, flip=True)),
    "mnist": Spec((28, 28, 1), 10, Augment(padding=1, flip=False)),
}


# Of sets that are not listed above: a mirrored character is another one, or none.
_CHARACTERS = ("binary_alpha_digits", "emnist", "kmnist", "mnist", "omniglot", "svhn")
_PADDING_SHARE = 1 / 8  # of the side: 4 pixels of CIFAR's 32


def names() -> tuple[str, ...]:
    """Return the names of the data sets that are known before they are prepared, sorted; `load` takes others too."""
    return tuple(sorted(SPECS))


def spec(name: str) -> Spec:
    """Return the description of a data set.

    Raises:
      UserError: if the name is unknown.
    """
    if name not in SPECS:
        raise errors.unknown("dataset", name, SPECS)
    return SPECS[name]


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    image_size: int | None = None,
) -> Dataset:
    """Load a data set; never touches the network.

    Args:
      name: one of `names()`, or any image-classification set that is prepared in `data_dir` as array_record:
        `NAME` or `NAME/CONFIG`, such as `svhn_cropped` or `cifar10_corrupted/brightness_1`. Its split `test` is tested
        with, else `validation`; a set without training images can be evaluated on, and its statistics are those of
        its test images.
      data_dir: TFDS directory that holds `<name>/<version>/`; default TFDS's own (`TFDS_DATA_DIR` or
        `~/tensorflow_datasets`). `digits` does not need one.
      cache_dir: where decoded arrays are kept; default `EDL_JAX_CACHE_DIR` or the user's cache directory.
      image_size: side in pixels of the square that images are brought to: shorter side scaled, centre cut.

    Returns:
      The data set, examples in stored order.

    Raises:
      UserError: if the name is unknown and nothing prepared, or the data is absent, damaged or of another format.
    """
    chosen = SPECS[name] if name in SPECS else _prepared_spec(name, data_dir)
    if chosen.tfds:
        arrays, label_names = tfds_reader.read(
            name, chosen.image_shape, chosen.num_classes, data_dir, cache_dir, image_size
        )
    else:
        arrays = _digits()
        if image_size is not None:
            images.check_image_size(image_size)
            for key in ("train_images", "test_images"):
                resized = [images.resize(image, image_size) for image in arrays[key]]
                arrays[key] = np.stack(resized).reshape(len(resized), image_size, image_size, -1)
        label_names = tuple(str(label) for label in range(chosen.num_classes))
    mean, std = channel_statistics(arrays["train_images"] if len(arrays["train_images"]) else arrays["test_images"])
    augment = chosen.augment
    if name not in SPECS or image_size is not None:
        augment = dataclasses.replace(augment, padding=_padding(chosen, arrays["test_images"].shape[1]))
    for array in (*arrays.values(), mean, std):
        array.setflags(write=False)
    return Dataset(
        name=name,
        num_classes=chosen.num_classes,
        label_names=label_names,
        mean=mean,
        std=std,
        augment=augment,
        **arrays,
    )


def _prepared_spec(name: str, data_dir: str | os.PathLike[str] | None) -> Spec:
    """Return the description of a set that is prepared but not listed in `SPECS`."""
    parts = name.split("/")
    proper = 1 <= len(parts) <= 2 and all(re.fullmatch(r"[\w.-]*\w[\w.-]*", part) for part in parts)
    directory = tfds_reader.find(name, data_dir) if proper else None
    if directory is None:
        root = tfds_reader.resolve(data_dir)
        found = tfds_reader.available(data_dir)
        raise errors.UserError(
            f"{errors.unknown('dataset', name, SPECS)}; or a set prepared as array_record in {root} "
            f"(there: {', '.join(found) or 'none'})"
        )
    found_features = tfds_reader.features(directory)
    flip = not any(word in parts[0] for word in _CHARACTERS)
    return Spec(found_features.image_shape, found_features.num_classes, Augment(padding=0, flip=flip))


def _padding(chosen: Spec, side: int) -> int:
    """Return the padding of the random crop for images of `side`: the set's own share, else that of CIFAR."""
    stored = chosen.image_shape[0]
    share = chosen.augment.padding / stored if stored and chosen.augment.padding else _PADDING_SHARE
    return round(share * side) if chosen.augment.padding or chosen.tfds else 0


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each channel in 0..1 units.

    Computed from exact counts of the 256 values, in float64.

    Args:
      images: `[N, H, W, C]` uint8.

    Returns:
      Two `[C]` float32 arrays.
    """
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), _STATISTICS_BATCH):
        batch = images[start : start + _STATISTICS_BATCH]
        for channel, count in enumerate(counts):
            count += np.bincount(batch[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255.0
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    variance = (shares * np.square(values[None, :] - mean[:, None])).sum(axis=1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _digits() -> dict[str, np.ndarray]:
    """Return scikit-learn's 1,797 digits, split with the same share of each class, 0..16 scaled to 0..255.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255.0 / 16.0)).astype(np.uint8).reshape(-1, *SPECS["digits"].image_shape)
    parts = train_test_split(
        images,
        labels.astype(np.int32),
        test_size=_DIGITS_TEST_SIZE,
        stratify=labels,
        random_state=_DIGITS_SEED,
    )
    keys = ("train_images", "test_images", "train_labels", "test_labels")
    return {key: np.asarray(part) for key, part in zip(keys, parts, strict=True)}
