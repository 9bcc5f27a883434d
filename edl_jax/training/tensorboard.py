"""Scalars of each epoch for TensorBoard."""

import importlib.util
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edl_jax.core.errors import require

_PARTS = ("train", "val", "test")


def require_tensorboard() -> None:
    """Raise `UserError` where tensorboardX is not installed."""
    require(
        importlib.util.find_spec("tensorboardX") is not None,
        "--tensorboard needs tensorboardX: pip install tensorboardX (or edl-jax[tensorboard]), or leave the flag out",
    )


class Scalars:
    """Writes lines of metrics.jsonl as scalars, with the epoch as the step.

    Args:
      path: directory of the event files.
      rows: the epochs that were done before. They are written again, and TensorBoard is told to forget all that it has
        read of this directory: a kill leaves neither a gap nor a step twice.
    """

    def __init__(self, path: Path, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        from tensorboardX import SummaryWriter

        earlier = len(list(path.iterdir())) if path.is_dir() else 0
        # The name holds the second of its start, in which an earlier file may have been begun too.
        suffix = f".{earlier:04d}"
        self._writer = SummaryWriter(str(path), purge_step=1 if earlier else None, filename_suffix=suffix)
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write an epoch: `accuracy/train`, `accuracy/test`, `nll/test`, `lr` ...; what is not finite is left out."""
        for name, value in row.items():
            if name not in ("epoch", "step") and value is not None and math.isfinite(value):
                self._writer.add_scalar(tag(name), value, row["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Write what is pending, and close the file."""
        self._writer.close()


def tag(name: str) -> str:
    """Return the tag of a metric: TensorBoard puts together what has the same beginning."""
    part, _, metric = name.partition("_")
    return f"{metric}/{part}" if part in _PARTS and metric else name
