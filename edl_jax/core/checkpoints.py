"""Checkpoints: a pytree of arrays at a step, kept in a folder and read back in spite of damage."""

import logging
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from edl_jax.core.errors import UserError

_LOGGER = logging.getLogger("edl_jax")
_KEPT = 2


class Checkpoints:
    """The last two checkpoints of a folder.

    Attributes:
      folder: where they lie; it is made by the first save.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manager: ocp.CheckpointManager | None = None

    def save(self, step: int, state: Any) -> None:
        """Save a pytree of arrays as the checkpoint of `step`; the last two are kept."""
        stored = {"state": jax.tree.map(_storable, state), "checksum": _checksum(state)}
        self._open().save(step, args=ocp.args.StandardSave(stored))

    def restore(self, like: Any, *, repair: bool = True) -> tuple[int, Any] | None:
        """Return (step, state) of the newest readable checkpoint, or None when there is none.

        Newer ones that cannot be read are removed, with a warning: the run makes them again.

        Args:
          like: pytree of the same structure, shapes and dtypes.
          repair: whether to remove those; the warning comes either way.

        Raises:
          UserError: there are checkpoints but none can be read; nothing is removed.
        """
        if not self.folder.is_dir():
            return None
        manager = self._open()
        wanted = {"state": jax.tree.map(_storable, like), "checksum": _checksum(like)}
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
        bad: dict[int, str] = {}
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                stored = manager.restore(step, args=ocp.args.StandardRestore(abstract))
                state = jax.tree.map(_placed, like, stored["state"])
                if not np.array_equal(stored["checksum"], _checksum(state)):
                    raise ValueError("its numbers do not have the checksum they were saved with")
            except Exception as error:  # whatever the layers below make of a damaged file
                bad[step] = " ".join(str(error).split())[:200]
                continue
            for number, reason in bad.items():
                _LOGGER.warning(
                    "checkpoint %d in %s is unreadable, going on from %d: %s", number, self.folder, step, reason
                )
                if repair:
                    manager.delete(number)
            return step, state
        if bad:
            step, reason = next(iter(bad.items()))
            raise UserError(
                f"no checkpoint in {self.folder} can be read ({step}: {reason}): start again with --overwrite, "
                "or give another --out"
            )
        return None

    def close(self) -> None:
        """Release what saving and restoring opened."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, enable_async_checkpointing=False)
            self._manager = ocp.CheckpointManager(
                self.folder, options=options, item_handlers=ocp.StandardCheckpointHandler()
            )
        return self._manager


def _storable(leaf: Any) -> Any:
    """Return what is stored of a leaf: orbax refuses arrays without elements, so one stands for them."""
    return leaf if np.size(leaf) else np.zeros((1,), leaf.dtype)


def _placed(like: Any, stored: Any) -> Any:
    """Return a stored leaf, bound to a device only where `like` is: the same compiled program takes it then."""
    if not np.size(like):
        return like
    return stored if getattr(like, "committed", True) else jax.device_put(jax.device_get(stored))


def _checksum(state: Any) -> np.ndarray:
    """Return the CRC-32 of a pytree's numbers, `[1]` uint32: orbax's files have none on the numbers."""
    crc = 0
    for leaf in jax.tree.leaves(state):
        crc = zlib.crc32(np.asarray(leaf).tobytes(), crc)
    return np.array([crc], np.uint32)
