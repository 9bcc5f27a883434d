"""Decoded arrays kept in the user's cache directory: a help for speed that may be deleted at any time."""

import logging
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import platformdirs

ENVIRONMENT_VARIABLE = "EDL_JAX_CACHE_DIR"

_log = logging.getLogger("edl_jax")


def directory(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the cache directory: the argument, else `EDL_JAX_CACHE_DIR`, else the platform's own."""
    chosen = cache_dir or os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(chosen or platformdirs.user_cache_dir("edl_jax", appauthor=False)).expanduser()


def load(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray] | None:
    """Return the arrays stored at `path`, or `None` if there are none that can be trusted.

    The file is an uncompressed npz, whose checksums reading verifies; one that is truncated, damaged or
    of other names or shapes counts as absent.

    Args:
      path: the file.
      shapes: name to shape of every array expected.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        _log.warning("cache entry %s is damaged (%s): decoding again", path, type(error).__name__)
        return None
    if {name: array.shape for name, array in arrays.items()} != dict(shapes):
        _log.warning("cache entry %s holds other arrays than expected: decoding again", path)
        return None
    return arrays


def store(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` to `path` in one step (temporary file, then rename).

    A directory that cannot be written to, or a full disk, costs only a warning in the log "edl_jax".
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".incomplete-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        Path(temporary).replace(path)
        temporary = None
    except (OSError, ValueError) as error:  # ValueError: what zipfile's clean-up raises on a full disk
        _log.warning("cannot write the cache entry %s (%s): the images are decoded every time", path, error)
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
