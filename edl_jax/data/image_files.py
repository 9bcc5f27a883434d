"""Image files: those that paths name, and their pixels as a network takes them."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edl_jax.core.errors import UserError, local_path, require

EXTENSIONS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
CHANNELS = (1, 3)
_HIDDEN = (".", "__MACOSX")  # the latter beside the files of an archive that macOS has made
_log = logging.getLogger("edl_jax")


def find_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the image files that paths name, in that order.

    A file is taken whatever its name. A folder gives the files in it and below whose names end as those of images do,
    sorted, without hidden ones; a line in the log "edl_jax" says how many others there were.

    Args:
      paths: files and folders; `~` is expanded.

    Raises:
      UserError: no paths, a path where nothing is, or a folder without images.
    """
    found: list[Path] = []
    for given in paths:
        path = local_path(given)
        if path.is_dir():
            found += _below(path)
        else:
            require(os.path.lexists(path), f"no image or folder {path}: check the path")
            found.append(path)
    require(len(found) > 0, "no images given, expected files or folders")
    return found


def _below(folder: Path) -> list[Path]:
    files = files_below(folder)
    images = [Path(file) for file in files if is_image(file)]
    require(len(images) > 0, f"{folder} has no images, expected files named {' '.join(EXTENSIONS)}")
    others = len(files) - len(images)
    if others:
        _log.warning("%s: left out %d of %d files, by their names no images", folder, others, len(files))
    return images


def is_image(path: str) -> bool:
    """Return whether a file is named as an image."""
    return path.lower().endswith(EXTENSIONS)


def files_below(folder: str | Path) -> list[str]:
    """Return the files in a folder and in those below, sorted, links to nothing among them.

    No folder is entered twice, as links could make it.

    Raises:
      UserError: as `list_folder`.
    """
    paths: list[str] = []
    todo, entered = [os.fspath(folder)], set()
    while todo:
        here = todo.pop()
        real = os.path.realpath(here)
        if real not in entered:
            entered.add(real)
            found = list_folder(here)
            paths += [entry.path for entry in found if not entry.is_dir()]
            todo += [entry.path for entry in found if entry.is_dir()]
    return sorted(paths)


def list_folder(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder by name, hidden entries left out.

    Raises:
      UserError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as listed:
            found = sorted((e for e in listed if not e.name.startswith(_HIDDEN)), key=lambda entry: entry.name)
    except OSError as error:
        hint = "change its permissions or leave it out"
        raise UserError(f"{folder} cannot be listed: {error.strerror}; {hint}") from error
    return found


def read_image(path: str | os.PathLike[str], channels: int = 3) -> np.ndarray:
    """Return the image of a file as `[H, W, channels]` uint8, turned as its EXIF orientation says.

    Palettes and CMYK become RGB, 16 bits 8; of an alpha channel the colours alone are kept, of an animation the first
    frame.

    Args:
      path: of the file, in any format that OpenCV decodes.
      channels: 3 for RGB, 1 for grey.

    Raises:
      UserError: the file cannot be read, or is no image.
    """
    import cv2

    require(Path(path).is_file(), f"{os.fspath(path)} is no file that can be read: replace it or leave it out")
    try:
        content = np.fromfile(path, np.uint8)
        mode = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
        image = cv2.imdecode(content, mode) if len(content) else None
    except (OSError, MemoryError, cv2.error) as error:
        raise UserError(f"{os.fspath(path)} cannot be read: {error}") from error
    if image is None:
        raise UserError(
            f"{os.fspath(path)} is no image that can be decoded: replace the file or take it out of the folder"
        )
    return image[..., None] if channels == 1 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
