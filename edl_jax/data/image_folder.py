"""Folders of image files, as ImageNet and `tfds.ImageFolder` have them: ROOT/train/CLASS/FILE, ROOT/val/CLASS/FILE."""

import hashlib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edl_jax.core.errors import UserError, require
from edl_jax.data import images
from edl_jax.data.source import Read, Source

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}


class _File(NamedTuple):
    path: str
    label: int


def is_folder(name: str) -> bool:
    """Return whether the name of a set is meant as the path of a folder: it begins with `/`, `./`, `../` or `~`."""
    return name in (".", "..") or name.startswith(("./", "../", "~")) or Path(name).is_absolute()


def root(name: str) -> Path:
    """Return the folder of a set that `is_folder`, with `~` expanded where there is such a user."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises where there is none


def source(path: str) -> Source:
    """Return a folder of images as a source.

    Its classes are the folders below `train`, in alphabetical order; those of `test` (or `val`, `validation`) must be
    among them, and without `train` they are the classes. Images are RGB, grey files too. Their order is that of
    `tfds.ImageFolder`: shuffled, the same each time.

    Raises:
      UserError: no such folder, no part to test with, an empty class, or one that is not trained on.
    """
    top = root(path)
    require(top.is_dir(), f"no folder {top}: expected one that holds train/CLASS/FILE and val/CLASS/FILE")
    found = {split: next((top / n for n in names if (top / n).is_dir()), None) for split, names in _FOLDERS.items()}
    listed = ", ".join(sorted(entry.name for entry in top.iterdir())[:10]) or "nothing"
    test, train = found["test"], found["train"]
    if test is None:
        raise UserError(f"{top} has no folder test, val or validation, it has {listed}: expected val/CLASS/FILE")
    classes = _classes(train or test)
    require(len(classes) >= 2, f"{train or test} has {len(classes)} folder(s) of classes, expected at least 2")
    strange = sorted(set(_classes(test)) - set(classes))
    require(not strange, f"{test} has class {strange[:1]} that {train} has not: expected the same classes in both")
    files = {split: [] if folder is None else _files(folder, classes, split) for split, folder in found.items()}
    digest = hashlib.sha256(b"1")
    for split, entries in files.items():
        for entry in entries:
            stat = Path(entry.path).stat()
            line = f"{split} {entry.label} {entry.path} {stat.st_size} {stat.st_mtime_ns}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))  # names may have any bytes
    name = top.resolve().name
    return Source(
        name=str(top),
        key=f"{name}-{digest.hexdigest()[:16]}",
        image_shape=_decode(files["test"][0].path).shape,  # type: ignore[arg-type] # of rank 3
        label_names=classes,
        lengths={split: len(entries) for split, entries in files.items()},
        open=lambda: _reader(files),
        wrong_shape=lambda _: images.varying_size(str(top)),
    )


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."))


def _files(folder: Path, classes: Sequence[str], split: str) -> list[_File]:
    """Return the image files of a split; others beside them, such as lists, are no images and left out."""
    files = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue  # of the test part: no examples of that class
        paths = sorted(e.path for e in os.scandir(folder / name) if e.name.lower().endswith(EXTENSIONS))
        require(len(paths) > 0, f"{folder / name} has no images, expected files named {' '.join(EXTENSIONS)}")
        files += [_File(path, label) for path in paths]
    random.Random(split).shuffle(files)
    return files


def _reader(files: dict[str, list[_File]]) -> Read:
    def read(split: str, start: int, stop: int) -> tuple[list[np.ndarray], list[int]]:
        chosen = files[split][start:stop]
        return [_decode(file.path) for file in chosen], [file.label for file in chosen]

    return read


def _decode(path: str) -> np.ndarray:
    """Return the image of a file as `[H, W, 3]` uint8 RGB, turned as its EXIF orientation says."""
    import cv2

    try:
        content = np.fromfile(path, np.uint8)
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    except (OSError, cv2.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if image is None:
        raise UserError(f"{path} is no image that can be decoded: replace the file or take it out of the folder")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
