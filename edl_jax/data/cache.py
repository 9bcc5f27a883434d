"""Decoded arrays kept in the user's cache directory: a help for speed that may be deleted at any time.

An entry is a directory: NAME.npy for each array, and checksums.json, which is written last. Small entries are read into
memory and verified; large ones are mapped, so that they may be larger than memory.
"""

import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import platformdirs

from edl_jax.backend import memory
from edl_jax.core.errors import UserError, local_path
from edl_jax.core.files import read_json

ENVIRONMENT_VARIABLE = "EDL_JAX_CACHE_DIR"
CHECKSUMS_FILENAME = "checksums.json"
MAPPED_BYTES = 2 << 30  # of the smallest entry that is mapped; to verify it would take as long as to read it
_BLOCK = 64 << 20
_MEMORY_SHARE = 0.5

Array = tuple[tuple[int, ...], npt.DTypeLike]  # shape and dtype


class Entry(NamedTuple):
    """What is kept.

    Attributes:
      arrays: by name, read-only.
      checksums: CRC-32 of each.
    """

    arrays: dict[str, np.ndarray]
    checksums: dict[str, int]


_log = logging.getLogger("edl_jax")


def directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache directory: the argument, else `EDL_JAX_CACHE_DIR`, else the platform's own.

    Raises:
      UserError: it is a URL, or in a home directory that cannot be found.
    """
    chosen = cache_dir or os.environ.get(ENVIRONMENT_VARIABLE)
    try:
        return local_path(chosen or platformdirs.user_cache_dir("edl_jax", appauthor=False))
    except RuntimeError as error:  # of platformdirs
        raise UserError(f"no home directory to keep decoded images in: set HOME, or {ENVIRONMENT_VARIABLE}") from error


def load(entry: Path, layout: Mapping[str, Array]) -> Entry | None:
    """Return the content of an entry, or `None` if it cannot be trusted.

    An entry that is truncated, damaged or of other arrays counts as absent. From `MAPPED_BYTES` in all on, damage that
    leaves the size of a file is not found.

    Args:
      entry: its directory.
      layout: name to shape and dtype of every array expected.
    """
    try:
        stored = read_json(entry / CHECKSUMS_FILENAME)
        checksums = {name: int(stored[name]) for name in layout}
        arrays = _open(entry, layout)
    except FileNotFoundError:
        if entry.exists():
            _log.warning("cache entry %s is incomplete: decoding again", entry)
        return None
    except Exception as error:  # whatever NumPy makes of a damaged header
        _log.warning("cache entry %s is damaged (%s): decoding again", entry, type(error).__name__)
        return None
    expected = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in layout.items()}
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != expected:
        _log.warning("cache entry %s holds other arrays than expected: decoding again", entry)
        return None
    if _num_bytes(layout) < MAPPED_BYTES:
        wrong = [name for name, array in arrays.items() if _checksum(array) != checksums[name]]
        if wrong:
            _log.warning("cache entry %s is damaged (%s): decoding again", entry, ", ".join(wrong))
            return None
    return Entry(arrays, checksums)


def build(
    entry: Path, layout: Mapping[str, Array], fill: Callable[[Mapping[str, np.ndarray]], None], *, name: str
) -> Entry:
    """Return new arrays, kept as an entry, which is complete or not there at all; another one is replaced.

    A directory that cannot be written to, or a full disk, costs a warning in the log "edl_jax": the arrays are then in
    memory, and made again the next time.

    Args:
      entry: its directory.
      layout: name to shape and dtype of every array.
      fill: writes into all of them. What it raises leaves no entry behind.
      name: of the set, for messages.

    Raises:
      UserError: the arrays fit neither on the disk nor in memory.
    """
    scratch = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=entry.parent))
        written = {key: _create(scratch / f"{key}.npy", *layout[key]) for key in layout}
    except OSError as error:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        _log.warning("cannot write the cache entry %s (%s): the images are decoded every time", entry, error)
        return _in_memory(layout, fill, f"{name} takes {_num_bytes(layout) / 2**30:.1f} GiB decoded", entry.parent)
    try:
        fill(written)
        for array in written.values():
            array.flush()
        checksums = {key: _checksum(array) for key, array in written.items()}
        arrays = _open(scratch, layout)  # mapped files stay valid when their directory is renamed or removed
        _finish(scratch, entry, checksums)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Entry(arrays, checksums)


def _create(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.memmap:
    array = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    with path.open("r+b") as file:
        size = path.stat().st_size
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a disk that fills up under a mapping would kill the process
        elif shutil.disk_usage(path.parent).free < size:
            raise OSError("the disk is full")
    return array


def _in_memory(
    layout: Mapping[str, Array], fill: Callable[[Mapping[str, np.ndarray]], None], need: str, folder: Path
) -> Entry:
    free = memory.host_available_bytes()
    if free is not None and _num_bytes(layout) > _MEMORY_SHARE * free:
        raise UserError(
            f"{need}, which fits neither into {folder} nor into the {free / 2**30:.1f} GiB of free memory: "
            "give --cache-dir on a larger disk, or a smaller --image-size"
        )
    arrays = {name: np.empty(shape, dtype) for name, (shape, dtype) in layout.items()}
    fill(arrays)
    return Entry(_read_only(arrays), {key: _checksum(array) for key, array in arrays.items()})


def _finish(scratch: Path, entry: Path, checksums: Mapping[str, int]) -> None:
    """Put a filled directory in its place; another process may do the same at the same time."""
    try:
        (scratch / CHECKSUMS_FILENAME).write_text(json.dumps(checksums), encoding="utf-8")
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        scratch.rename(entry)
    except OSError as error:
        _log.warning("cannot write the cache entry %s (%s)", entry, error)


def _open(entry: Path, layout: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Return the arrays of an entry, mapped or read, as its layout's size says."""
    mode: Literal["r"] | None = "r" if _num_bytes(layout) >= MAPPED_BYTES else None
    found = {name: np.load(entry / f"{name}.npy", mmap_mode=mode, allow_pickle=False) for name in layout}
    return _read_only({name: np.asarray(array) for name, array in found.items()})


def _read_only(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _checksum(array: np.ndarray) -> int:
    flat = array.reshape(-1).view(np.uint8)
    checksum = 0
    for start in range(0, len(flat), _BLOCK):
        checksum = zlib.crc32(flat[start : start + _BLOCK].data, checksum)
    return checksum


def _num_bytes(layout: Mapping[str, Array]) -> int:
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in layout.values())
