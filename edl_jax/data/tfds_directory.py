"""A prepared TFDS directory (array_record): found, checked and described without opening its records.

`<data_dir>/<name>/<version>/` is found by its `dataset_info.json`, so that absent data is an immediate,
clear error; TFDS itself would retry a dead network for minutes.
"""

import dataclasses
import hashlib
import os
import re
import shlex
from pathlib import Path

from edl_jax.core.errors import UserError, command, local_path
from edl_jax.core.files import read_json

INFO_FILENAME = "dataset_info.json"
FEATURES_FILENAME = "features.json"
FILE_FORMAT = "array_record"
_TEST_SPLITS = ("test", "validation")  # imagenet2012 and food101 have only the second

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_WANTED = re.compile(r"(\d+|\*)\.(\d+|\*)\.(\d+|\*)")  # as TFDS has it: a star is any number
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"  # TFDS's default for the names of shards


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A version directory whose description has been checked.

    Attributes:
      directory: `<data_dir>/<name>/<version>`.
      name: the data set's name, with its config if it has one: cifar10_corrupted/brightness_1.
      lengths: number of examples to train on and to test with.
      stored_splits: the names that those have in the directory; a set without training images has no "train".
      shards: every file of records, of all splits, sorted.
    """

    directory: Path
    name: str
    lengths: dict[str, int]
    stored_splits: dict[str, str]
    shards: tuple[Path, ...]


@dataclasses.dataclass(frozen=True)
class Features:
    """The two features of a prepared set that are read.

    Attributes:
      image: key of the image.
      image_shape: `(H, W, C)`; H and W are `None` where images vary in size.
      label: key of the label.
      num_classes: number of classes.
    """

    image: str
    image_shape: tuple[int | None, int | None, int]
    label: str
    num_classes: int


def default_data_dir() -> Path:
    """Return TFDS's own default directory: `TFDS_DATA_DIR`, else `~/tensorflow_datasets`."""
    return local_path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def resolve(data_dir: str | os.PathLike[str] | None) -> Path:
    """Return `data_dir` with `~` expanded, or TFDS's default if it is `None`."""
    return default_data_dir() if data_dir is None else local_path(data_dir)


def split_version(name: str) -> tuple[str, str | None]:
    """Return a set's name without its version, and that, or None: `cifar10:3.0.2` has the version 3.0.2.

    Raises:
      UserError: what follows the colon is no version.
    """
    base, colon, version = name.partition(":")
    if colon and not _WANTED.fullmatch(version):
        raise UserError(f"dataset is {name!r}, expected a version such as 3.0.2 after the colon, or {base!r}")
    return base, version or None


def find(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the newest prepared version directory of `name`, or of the version in it, or `None` if there is none.

    Raises:
      UserError: if version directories exist but none of them has a `dataset_info.json` or is the version that is
        asked for, or the directory cannot be listed.
    """
    base, wanted = split_version(name)
    root = resolve(data_dir) / base
    try:
        versions = [path for path in root.iterdir() if _VERSION.fullmatch(path.name) and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot list {root}: {error.strerror}") from error
    versions.sort(key=lambda path: tuple(int(part) for part in path.name.split(".")))
    if wanted is not None and versions:
        there = ", ".join(path.name for path in versions)
        versions = [path for path in versions if _is_version(path.name, wanted)]
        if not versions:
            raise UserError(f"no version {wanted} of {base} in {root} (there: {there}): give one of them, or none")
    complete = [path for path in versions if (path / INFO_FILENAME).is_file()]
    if versions and not complete:
        raise damaged(versions[-1], f"{INFO_FILENAME} is missing")
    return complete[-1] if complete else None


def locate(name: str, data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the newest prepared version directory of `name`.

    Raises:
      UserError: if there is none; the message names the directory searched and the command to run.
    """
    directory = find(name, data_dir)
    if directory is None:
        root, name = resolve(data_dir), split_version(name)[0]
        raise UserError(
            f"no prepared {name} in {root} (looked for {root / name}/<version>/{INFO_FILENAME}): "
            f"run `{_command(name, root)}` or pass another --data-dir"
        )
    return directory


def inspect(directory: Path) -> Prepared:
    """Check a version directory without opening its records.

    Raises:
      UserError: if `dataset_info.json` cannot be read, the records have another format than array_record,
        or a split or one of its files is missing.
    """
    try:
        info = read_json(directory / INFO_FILENAME)
        # The folder above the version is that of the config, where the set has some.
        name = info.get("name") or directory.parent.name
        file_format = info.get("fileFormat", "tfrecord")
        splits = {
            split["name"]: (
                [int(length) for length in split["shardLengths"]],
                split.get("filepathTemplate", _TEMPLATE),
            )
            for split in info["splits"]
        }
        if not all(isinstance(text, str) for text in (name, *splits, *(template for _, template in splits.values()))):
            raise TypeError("a name is no text")
        if any(length < 0 for lengths, _ in splits.values() for length in lengths):
            raise ValueError("a length is negative")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(directory, f"{INFO_FILENAME} cannot be read: {type(error).__name__}") from error
    if file_format != FILE_FORMAT:
        raise UserError(
            f"{directory} was prepared as {file_format}, which cannot be read without TensorFlow "
            f"(expected {FILE_FORMAT}): run `{_command(name, Path('DIR'))}` with another directory and read that"
        )
    test_split = next((split for split in _TEST_SPLITS if split in splits), None)
    if test_split is None:
        raise damaged(directory, "it has no split 'test' or 'validation'")
    stored_splits = {"train": "train", "test": test_split} if "train" in splits else {"test": test_split}
    shards = []
    for split in stored_splits.values():
        lengths, template = splits[split]
        shards += [directory / _shard_name(template, name, split, index, len(lengths)) for index in range(len(lengths))]
    for shard in shards:
        if not shard.is_file():
            raise damaged(directory, f"{shard.name} is missing")
    return Prepared(
        directory=directory,
        name=_full_name(directory, name),
        lengths={split: sum(splits[stored][0]) for split, stored in stored_splits.items()},
        stored_splits=stored_splits,
        shards=tuple(sorted(shards)),
    )


def features(directory: Path) -> Features:
    """Return the image and the class label of a version directory, from its features.json.

    Where there are several of one kind, those named `image` and `label`.

    Raises:
      UserError: the file cannot be read, or the set does not have one image (grey or RGB) and one class label.
    """
    try:
        stored = read_json(directory / FEATURES_FILENAME)["featuresDict"]["features"]
        kinds = {key: feature["pythonClassName"].rsplit(".", 1)[-1] for key, feature in stored.items()}
        image, label = (_only(kinds, kind, usual) for kind, usual in (("Image", "image"), ("ClassLabel", "label")))
        if image is None or label is None:
            listed = ", ".join(f"{key} ({kind})" for key, kind in sorted(kinds.items()))
            raise UserError(
                f"{directory} is no image-classification set: expected one Image and one ClassLabel, it has {listed}"
            )
        sides = stored[image]["image"]["shape"]["dimensions"]
        height, width, channels = (int(side) for side in sides)
        num_classes = int(stored[label]["classLabel"]["numClasses"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(directory, f"{FEATURES_FILENAME} cannot be read: {type(error).__name__}") from error
    if channels not in (1, 3):
        raise UserError(f"{directory} has images of {channels} channels, expected 1 (grey) or 3 (RGB)")
    shape = (height if height > 0 else None, width if width > 0 else None, channels)
    return Features(image, shape, label, num_classes)


def available(data_dir: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Return the names of all sets prepared in a TFDS directory, with their configs, sorted."""
    root = resolve(data_dir)
    found = (*root.glob(f"*/*/{INFO_FILENAME}"), *root.glob(f"*/*/*/{INFO_FILENAME}"))
    parents = {path.parent.parent for path in found if _VERSION.fullmatch(path.parent.name)}
    return tuple(sorted(parent.relative_to(root).as_posix() for parent in parents))


def label_names(directory: Path, num_classes: int) -> tuple[str, ...]:
    """Return TFDS's label names, or the numbers if the file is not there or does not fit."""
    try:
        lines = (directory / "label.labels.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError):
        lines = []
    names = tuple(line for line in lines if line)
    return names if len(names) == num_classes else tuple(str(label) for label in range(num_classes))


def fingerprint(prepared: Prepared) -> str:
    """Return a key that changes when the description or a file of records does."""
    digest = hashlib.sha256((prepared.directory / INFO_FILENAME).read_bytes())
    for shard in prepared.shards:
        stat = shard.stat()
        digest.update(f"\n{shard.name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


def damaged(directory: Path, reason: str) -> UserError:
    """Return the error for a version directory that cannot be used."""
    name, root = directory.parent.name, directory.parent.parent
    return UserError(f"{directory} is damaged ({reason}): delete that directory and run `{_command(name, root)}`")


def _is_version(name: str, wanted: str) -> bool:
    return all(part in ("*", number) for part, number in zip(wanted.split("."), name.split("."), strict=True))


def _only(kinds: dict[str, str], kind: str, usual: str) -> str | None:
    """Return the key of the one feature of `kind`, or `usual` where that is among several; else None."""
    keys = [key for key, other in kinds.items() if other == kind]
    if len(keys) == 1:
        return keys[0]
    return usual if usual in keys else None


def _full_name(directory: Path, name: str) -> str:
    """Return NAME, or NAME/CONFIG for the version directory of a config."""
    above = directory.parent
    return name if above.name == name else f"{name}/{above.name}"


def _shard_name(template: str, name: str, split: str, index: int, count: int) -> str:
    values = {
        "DATASET": name,
        "SPLIT": split,
        "FILEFORMAT": FILE_FORMAT,
        "SHARD_INDEX": f"{index:05d}",
        "NUM_SHARDS": f"{count:05d}",
        "SHARD_X_OF_Y": f"{index:05d}-of-{count:05d}",
    }
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), template)


def _command(name: str, data_dir: Path) -> str:
    return command(f"data prepare {name} --data-dir {shlex.quote(str(data_dir))}")
