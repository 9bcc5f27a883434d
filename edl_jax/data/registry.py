"""Data sets by name, as plain arrays."""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np

from edl_jax.core import errors
from edl_jax.data import decode, digits, image_folder, images, tfds_directory, tfds_reader


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
    """An image classification data set; the arrays are read-only, large ones mapped from files.

    Attributes:
      name: as it was asked for.
      train_images: `[N, H, W, C]` uint8.
      train_labels: `[N]` int32.
      test_images: `[M, H, W, C]` uint8.
      test_labels: `[M]` int32.
      num_classes: number of classes C.
      label_names: one name for each class.
      mean: `[C]` float32 mean of each channel over the training images, in 0..1 units.
      std: `[C]` float32 standard deviation of each channel, likewise.
      augment: default augmentation.
      digest: hash of images and labels, in their order.
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
    digest: str


# Mirrored digits are other characters, or none, and 8x8 digits fill their frame.
SPECS: dict[str, Spec] = {
    "cifar10": Spec((32, 32, 3), 10, Augment(padding=4, flip=True)),
    "cifar100": Spec((32, 32, 3), 100, Augment(padding=4, flip=True)),
    "digits": Spec(digits.IMAGE_SHAPE, digits.NUM_CLASSES, Augment(padding=0, flip=False), tfds=False),
    "fashion_mnist": Spec((28, 28, 1), 10, Augment(padding=2, flip=True)),
    "mnist": Spec((28, 28, 1), 10, Augment(padding=1, flip=False)),
}


# Of sets that are not listed above: a mirrored character is another one, or none.
_CHARACTERS = ("binary_alpha_digits", "emnist", "kmnist", "mnist", "omniglot", "svhn")
_PADDING_SHARE = 1 / 8  # of the side: 4 pixels of CIFAR's 32


def canonical_name(name: str) -> str:
    """Return what is stored of a data set as a person types it: `CIFAR-10:3.0.2` is `cifar10:3.0.2`.

    Case, hyphens, underscores and spaces do not matter in the names of `names()`; others, and paths, stay as they are.

    Raises:
      UserError: a version that is none.
    """
    if image_folder.is_folder(name) or "://" in name:
        return name
    base, version = tfds_directory.split_version(name)
    base = errors.canonical(base, SPECS)
    return base if version is None else f"{base}:{version}"


def names() -> tuple[str, ...]:
    """Return the names of the data sets that are known before they are prepared, sorted; `load` takes others too."""
    return tuple(sorted(SPECS))


def spec(name: str) -> Spec:
    """Return the description of a data set.

    Raises:
      UserError: if the name is unknown.
    """
    return SPECS[errors.choose("dataset", name, SPECS)]


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
        `NAME` or `NAME/CONFIG`, such as `svhn_cropped` or `cifar10_corrupted/brightness_1`; `:VERSION` after it, such
        as `:3.0.2` or `:3.*.*`, selects another version than the newest. Its split `test` is tested with, else
        `validation`; a set without training images can be evaluated on, and its statistics are those of its test
        images. A path that begins with `/`, `./`, `../` or `~`, or a `file://` URL, is a folder of images, see
        `image_folder.source`.
      data_dir: TFDS directory that holds `<name>/<version>/`; default TFDS's own (`TFDS_DATA_DIR` or
        `~/tensorflow_datasets`). `digits` does not need one.
      cache_dir: where decoded arrays are kept; default `EDL_JAX_CACHE_DIR` or the user's cache directory.
      image_size: side in pixels of the square that images are brought to: shorter side scaled, centre cut.

    Returns:
      The data set, examples in stored order.

    Raises:
      UserError: if the name is unknown and nothing prepared, or the data is absent, damaged, of another format, or too
        large for disk and memory.
    """
    images.check_image_size(image_size)
    name = canonical_name(name)
    base = name if image_folder.is_folder(name) else name.partition(":")[0]
    if base in SPECS and not SPECS[base].tfds:
        errors.require(base == name, f"dataset is {name}, expected {base}: it comes with scikit-learn, in one version")
        chosen, source = SPECS[base], digits.source()
    elif image_folder.is_folder(name):
        source = image_folder.source(name)
        chosen = Spec(source.image_shape, len(source.label_names), Augment(padding=0, flip=True))
    else:
        chosen = SPECS[base] if base in SPECS else _prepared_spec(name, data_dir)
        source = tfds_reader.source(name, chosen.image_shape, chosen.num_classes, data_dir)
    arrays, digest = decode.read(source, cache_dir, image_size)
    augment = chosen.augment
    if base not in SPECS or image_size is not None:
        augment = dataclasses.replace(augment, padding=_padding(chosen, arrays["test_images"].shape[1]))
    for array in arrays.values():
        array.setflags(write=False)
    return Dataset(
        name=name,
        num_classes=chosen.num_classes,
        label_names=source.label_names,
        augment=augment,
        digest=digest,
        **arrays,
    )


def file_stem(name: str) -> str:
    """Return the name of a data set as a file may have it: `cifar10-3.0.2` of `cifar10:3.0.2`, of a path the end."""
    if image_folder.is_folder(name):
        return image_folder.root(name).resolve().name
    return name.translate(str.maketrans("/:*", "--x"))


def _prepared_spec(name: str, data_dir: str | os.PathLike[str] | None) -> Spec:
    """Return the description of a set that is prepared but not listed in `SPECS`."""
    if "://" in name:
        errors.local_path(name)  # says what to do
    base = tfds_directory.split_version(name)[0]
    parts = base.split("/")
    proper = 1 <= len(parts) <= 2 and all(re.fullmatch(r"[\w.-]*\w[\w.-]*", part) for part in parts)
    directory = tfds_directory.find(name, data_dir) if proper else None
    if directory is None:
        root = tfds_directory.resolve(data_dir)
        found = tfds_directory.available(data_dir)
        near = errors.canonical(base, found)
        if near != base:
            raise errors.UserError(f"unknown dataset {name!r}: did you mean {near}? It is prepared in {root}")
        raise errors.UserError(
            f"{errors.unknown('dataset', name, SPECS)}; or a set prepared as array_record in {root} "
            f"(there: {', '.join(found) or 'none'})"
            + (f"; for the folder of images write ./{name}" if proper and Path(name).is_dir() else "")
        )
    found_features = tfds_directory.features(directory)
    flip = not any(word in parts[0] for word in _CHARACTERS)
    return Spec(found_features.image_shape, found_features.num_classes, Augment(padding=0, flip=flip))


def _padding(chosen: Spec, side: int) -> int:
    """Return the padding of the random crop for images of `side`: the set's own share, else that of CIFAR."""
    stored = chosen.image_shape[0]
    share = chosen.augment.padding / stored if stored and chosen.augment.padding else _PADDING_SHARE
    return round(share * side) if chosen.augment.padding or chosen.tfds else 0
