"""Folders of image files, as ImageNet and `tfds.ImageFolder` have them: ROOT/train/CLASS/FILE, ROOT/val/CLASS/FILE."""

import hashlib
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edl_jax.core.errors import UserError, local_path, require
from edl_jax.data import images
from edl_jax.data.image_files import EXTENSIONS, files_below, is_image, list_folder, read_image
from edl_jax.data.source import Read, Source

_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}


class _File(NamedTuple):
    path: str
    label: int


def is_folder(name: str) -> bool:
    """Return whether the name of a set means a folder: it begins with `/`, `./`, `../`, `~` or `file:/`."""
    return name in (".", "..") or name.startswith(("./", "../", "~", "file:/")) or Path(name).is_absolute()


def root(name: str) -> Path:
    """Return the folder of a set that `is_folder`, whose name is wanted even where there is no such user."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises where there is none


def source(path: str) -> Source:
    """Return a folder of images as a source.

    Its classes are the folders below `train`, in alphabetical order; those of `test` (or `val`, `validation`) must be
    among them, and without `train` they are the classes. Files in folders of a class, at any depth, are of that class.
    Images are RGB, grey files too. Their order is that of `tfds.ImageFolder`: shuffled, the same each time.

    Hidden files and folders (`._cat.png`, `.DS_Store`), macOS's `__MACOSX` and files that are not named as images
    (`Thumbs.db`) are left out; links to files and folders are followed.

    Raises:
      UserError: no such folder, no part to test with, an empty class, one that is not trained on, a folder that cannot
        be listed, or a link to nothing.
    """
    top = local_path(path)
    require(top.is_dir(), f"no folder {top}: expected one that holds train/CLASS/FILE and val/CLASS/FILE")
    found = {split: next((top / n for n in names if (top / n).is_dir()), None) for split, names in _FOLDERS.items()}
    listed = ", ".join([entry.name for entry in _entries(top)][:10]) or "nothing"
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
        image_shape=read_image(files["test"][0].path).shape,  # type: ignore[arg-type] # of rank 3
        label_names=classes,
        lengths={split: len(entries) for split, entries in files.items()},
        open=lambda: _reader(files),
        wrong_shape=lambda _: images.varying_size(str(top)),
    )


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(entry.name for entry in _entries(folder) if entry.is_dir())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what `list_folder` does, all of which must be there."""
    found = list_folder(folder)
    for entry in found:
        _require_target(entry.path)
    return found


def _require_target(path: str) -> None:
    """Raise UserError where a path is a link to nothing, or of a circle."""
    require(os.path.exists(path), f"{path} is a link to nothing: mend it or take it out of the folder")  # noqa: PTH110


def _files(folder: Path, classes: Sequence[str], split: str) -> list[_File]:
    """Return the image files of a split; others beside them, such as lists, are no images and left out."""
    files = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            continue  # of the test part: no examples of that class
        paths = [path for path in files_below(folder / name) if is_image(path)]
        for path in paths:
            _require_target(path)
        require(len(paths) > 0, f"{folder / name} has no images, expected files named {' '.join(EXTENSIONS)}")
        files += [_File(path, label) for path in paths]
    random.Random(split).shuffle(files)
    return files


def _reader(files: dict[str, list[_File]]) -> Read:
    def read(split: str, start: int, stop: int) -> tuple[list[np.ndarray], list[int]]:
        chosen = files[split][start:stop]
        return [read_image(file.path) for file in chosen], [file.label for file in chosen]

    return read
