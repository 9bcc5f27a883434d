"""Checkpoints that earlier releases wrote with orbax: read, and never written.

Orbax takes a path for a pattern or a URL (`[` and a backslash break it), so it is handed a link of a plain name.
"""

import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

STEP = re.compile(r"0|[1-9][0-9]*")  # the only way to write a number as a name
_ITEM = "default"


def steps(folder: Path) -> set[int]:
    """Return the steps of the complete checkpoints in a folder."""
    return {int(path.name) for path in folder.iterdir() if STEP.fullmatch(path.name) and path.is_dir()}


def read(folder: Path, step: int, like: Any) -> Any:
    """Return the pytree of a checkpoint, with NumPy arrays as leaves.

    Args:
      folder: that holds the checkpoint.
      step: of the checkpoint.
      like: pytree of the same structure, shapes and dtypes.

    Raises:
      Exception: whatever orbax makes of a damaged checkpoint, or one of another structure.
    """
    import orbax.checkpoint as ocp

    leaves = jax.tree.map(np.asarray, like)
    # Orbax refuses arrays without elements, so one element stood for them.
    stored = jax.tree.map(lambda leaf: leaf if leaf.size else np.zeros((1,), leaf.dtype), leaves)
    with tempfile.TemporaryDirectory() as scratch, ocp.StandardCheckpointer() as reader:
        link = Path(scratch) / "checkpoint"
        link.symlink_to(folder / str(step), target_is_directory=True)
        found = reader.restore(link / _ITEM, {"state": stored, "checksum": np.zeros(1, np.uint32)})
    state = jax.tree.map(lambda leaf, value: value if leaf.size else leaf, leaves, found["state"])
    crc = 0
    for leaf in jax.tree.leaves(state):
        crc = zlib.crc32(leaf.tobytes(), crc)
    if found["checksum"][0] != crc:
        raise ValueError("its numbers do not have the checksum they were saved with")
    return state


def remove(folder: Path, step: int) -> None:
    """Remove a checkpoint."""
    shutil.rmtree(folder / str(step))


def remove_leftovers(folder: Path) -> None:
    """Remove the checkpoints whose writing a kill cut short."""
    for path in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(path)
