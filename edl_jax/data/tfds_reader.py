"""Read the examples of a prepared TFDS directory (array_record): no TensorFlow, no network."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from edl_jax.core.errors import UserError, reason
from edl_jax.data import tfds_directory
from edl_jax.data.source import SPLITS, Read, Source
from edl_jax.data.tfds_directory import Features, Prepared, damaged


def source(
    name: str,
    image_shape: tuple[int | None, int | None, int],
    num_classes: int,
    data_dir: str | os.PathLike[str] | None = None,
) -> Source:
    """Return a prepared set as a source.

    Args:
      name: TFDS name of an image classification data set, with its config if it has some and any version:
        `NAME/CONFIG:VERSION`.
      image_shape: expected `(H, W, C)`, sides `None` where they vary.
      num_classes: expected number of classes.
      data_dir: TFDS directory; default TFDS's own.

    Raises:
      UserError: if the data is absent, of another format, or visibly damaged.
    """
    prepared = tfds_directory.inspect(tfds_directory.locate(name, data_dir))
    base = tfds_directory.split_version(name)[0]
    key = f"{base.replace('/', '-')}-{prepared.directory.name}-{tfds_directory.fingerprint(prepared)}"
    return Source(
        name=name,
        key=key,
        image_shape=image_shape,
        label_names=tfds_directory.label_names(prepared.directory, num_classes),
        lengths={split: prepared.lengths.get(split, 0) for split in SPLITS},
        open=lambda: _open(prepared, image_shape, num_classes),
        wrong_shape=lambda shape: damaged(prepared.directory, f"an image is {shape}, expected {image_shape}"),
    )


def _open(prepared: Prepared, image_shape: tuple[int | None, int | None, int], num_classes: int) -> Read:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(f"reading {prepared.name} needs the package tensorflow-datasets: {error}") from error
    found = tfds_directory.features(prepared.directory)
    if found.image_shape != image_shape:
        raise damaged(prepared.directory, f"its images are {found.image_shape}, expected {image_shape}")
    try:
        builder: Any = tfds.builder_from_directory(prepared.directory)
        records = {split: builder.as_data_source(stored) for split, stored in prepared.stored_splits.items()}
    except Exception as error:
        raise _reading_error(prepared, error) from error

    def read(split: str, start: int, stop: int) -> tuple[Sequence[np.ndarray], Sequence[int]]:
        try:
            return _examples(records[split].__getitems__(range(start, stop)), found, num_classes)
        except Exception as error:  # whatever TFDS, protobuf, array_record and the decoder make of broken files
            raise _reading_error(prepared, error) from error

    return read


def _examples(
    examples: Sequence[dict[str, Any]], found: Features, num_classes: int
) -> tuple[list[np.ndarray], list[int]]:
    labels = [int(example[found.label]) for example in examples]
    if not all(0 <= label < num_classes for label in labels):
        raise ValueError(f"a label is not in 0..{num_classes - 1}")
    return [example[found.image] for example in examples], labels


def _reading_error(prepared: Prepared, error: Exception) -> Exception:
    if isinstance(error, (UserError, MemoryError)):
        return error
    if isinstance(error, ImportError):  # array_record is installed with TFDS on Linux only
        return UserError(f"reading {prepared.name} needs one more package: {reason(error, kind=True)}")
    return damaged(prepared.directory, reason(error, kind=True))
