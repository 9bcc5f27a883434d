"""Checkpoints: a pytree of arrays at a step, kept in a folder and read back in spite of damage.

FOLDER/STEP.safetensors holds one tensor a leaf, named by its place in the tree, and a checksum of all. It is written
atomically and read back at once: a save that returns can be restored. All arrays must be those of one process.
"""

import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from safetensors import deserialize
from safetensors.numpy import save as safetensors_bytes

from edl_jax.core import orbax_checkpoints
from edl_jax.core.errors import UserError, reason
from edl_jax.core.files import write_atomic
from edl_jax.core.orbax_checkpoints import STEP

_LOGGER = logging.getLogger("edl_jax")
_SUFFIX = ".safetensors"
_CHECKSUM = "checksum"  # no name of a leaf, which begins with a bracket or a point
_KEPT = 2
Parsed = TypeVar("Parsed")


class Checkpoints:
    """The last two checkpoints of a folder.

    Attributes:
      folder: where they lie; it is made by the first save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[int]:
        """Return the steps of which there are checkpoints, readable or not, in ascending order."""
        if not self.folder.is_dir():
            return []
        files = [path for path in self.folder.iterdir() if path.suffix == _SUFFIX and path.is_file()]
        ours = {int(path.stem) for path in files if STEP.fullmatch(path.stem)}
        return sorted(ours | orbax_checkpoints.steps(self.folder))

    def save(self, step: int, state: Any) -> None:
        """Save a pytree of arrays as the checkpoint of `step`; the last two are kept.

        Raises:
          UserError: what was written cannot be read back; earlier checkpoints are kept.
          OSError: it cannot be written.
        """
        self._save(step, _arrays(state))

    def save_text(self, step: int, text: str) -> None:
        """Save text as the checkpoint of `step`, for a state whose size changes: see `save`."""
        self._save(step, _text_arrays(text))

    def _save(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        content = safetensors_bytes({**arrays, _CHECKSUM: _checksum(arrays)})
        file = self._file(step)
        write_atomic(file, content)
        if file.read_bytes() != content:
            file.unlink(missing_ok=True)
            raise UserError(
                f"checkpoint {step} in {self.folder} is not what was written: that file system does not keep its "
                "files, give --out on another one"
            )
        for old in self.steps()[:-_KEPT]:
            self._remove(old)

    def restore(self, like: Any, *, repair: bool = True) -> tuple[int, Any] | None:
        """Return (step, state) of the newest readable checkpoint, or None when there is none.

        Newer ones that cannot be read are removed, with a warning: the run makes them again.

        Args:
          like: pytree of the same structure, shapes and dtypes.
          repair: whether to remove those; the warning comes either way.

        Raises:
          UserError: there are checkpoints but none can be read; nothing is removed.
          PermissionError: this user may not read one; nothing is removed, as where memory is short.
        """
        found = self._newest(lambda step: self._read(step, like), repair)
        return None if found is None else (found[0], jax.tree.map(_placed, like, found[1]))

    def restore_text(self, parse: Callable[[str], Parsed]) -> tuple[int, Parsed] | None:
        """Return (step, parsed text) of the newest readable checkpoint of `save_text`, or None: see `restore`.

        Args:
          parse: what makes a state of the text; a text that it refuses is an unreadable checkpoint.
        """

        def load(step: int) -> Parsed:
            (content,) = _read(self._file(step), _text_arrays(""), any_size=True).values()
            return parse(content.tobytes().decode())

        return self._newest(load, repair=True)

    def _newest(self, load: Callable[[int], Parsed], repair: bool) -> tuple[int, Parsed] | None:
        bad: dict[int, str] = {}
        while left := [step for step in self.steps() if step not in bad]:
            step = left[-1]
            try:
                state = load(step)
            except (MemoryError, PermissionError):  # which say nothing about its content
                raise
            except Exception as error:  # whatever the layers below make of a damaged file
                if step in self.steps():  # a run that is alive removes what it no longer needs
                    bad[step] = reason(error)
                continue
            for number, why in bad.items():
                _LOGGER.warning(
                    "checkpoint %d in %s is unreadable, going on from %d: %s", number, self.folder, step, why
                )
                if repair:
                    self._remove(number)
            if repair:
                orbax_checkpoints.remove_leftovers(self.folder)
            return step, state
        if bad:
            step, why = next(iter(bad.items()))
            raise UserError(
                f"no checkpoint in {self.folder} can be read ({step}: {why}): start again with --overwrite, "
                "or give another --out"
            )
        return None

    def delete(self) -> None:
        """Remove all checkpoints."""
        for step in self.steps():
            self._remove(step)

    def _file(self, step: int) -> Path:
        return self.folder / f"{step}{_SUFFIX}"

    def _read(self, step: int, like: Any) -> Any:
        """Return the state of a checkpoint, with NumPy arrays as leaves."""
        if self._file(step).exists():
            found = _read(self._file(step), _arrays(like))
            return jax.tree.unflatten(jax.tree.structure(like), found.values())
        return orbax_checkpoints.read(self.folder, step, like)

    def _remove(self, step: int) -> None:
        if self._file(step).exists():
            self._file(step).unlink()
        else:
            orbax_checkpoints.remove(self.folder, step)


def _arrays(state: Any) -> dict[str, np.ndarray]:
    """Return the leaves of a pytree in their order, by their place in it."""
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves}


def _text_arrays(text: str) -> dict[str, np.ndarray]:
    """Return text as UTF-8 in an array."""
    return {"['text']": np.frombuffer(text.encode(), np.uint8)}


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the CRC-32 of arrays with their names, dtypes and shapes, `[1]` uint32."""
    crc = 0
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return np.array([crc], np.uint32)


def _read(file: Path, like: Mapping[str, np.ndarray], *, any_size: bool = False) -> dict[str, np.ndarray]:
    """Return the arrays of a file in the order of `like`, whose names, dtypes and shapes they must have.

    Args:
      file: the file.
      like: name -> array.
      any_size: whether they may have other shapes.

    Raises:
      ValueError: they have others, or are not those that were saved.
      Exception: whatever safetensors makes of a damaged file.
    """
    stored = dict(deserialize(file.read_bytes()))
    expected = {**like, _CHECKSUM: np.zeros(1, np.uint32)}
    strange = sorted(stored.keys() ^ expected.keys())
    if strange:
        raise ValueError(f"it has other arrays than this run, of which one is {strange[0]}")
    # Safetensors' own reader of NumPy arrays has no bfloat16.
    arrays = {
        name: np.frombuffer(stored[name]["data"], array.dtype).reshape(stored[name]["shape"])
        for name, array in expected.items()
    }
    wrong = [name for name, array in arrays.items() if array.shape != expected[name].shape]
    if wrong and not any_size:
        raise ValueError(f"{wrong[0]} is {arrays[wrong[0]].shape}, expected {expected[wrong[0]].shape}")
    checksum = arrays.pop(_CHECKSUM)
    if checksum != _checksum(arrays):
        raise ValueError("its numbers do not have the checksum they were saved with")
    return arrays


def _placed(like: Any, stored: np.ndarray) -> Any:
    """Return a stored leaf, bound to a device only where `like` is: the same compiled program takes it then."""
    if not isinstance(like, jax.Array):
        return stored
    return jax.device_put(stored, like.sharding if like.committed else None)
