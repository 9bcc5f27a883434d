"""What has become of the cells of a grid: their results and their failures, as files that every worker sees."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

from edl_jax.core.config import completed, differences, to_dict
from edl_jax.core.errors import UserError
from edl_jax.core.files import read_json, write_json
from edl_jax.core.runs import read_metrics
from edl_jax.downstream import DownstreamConfig
from edl_jax.downstream.result import finished_result
from edl_jax.study.compare.cells import Cell

DIVERGED, ERROR = "diverged", "error"
_CELLS, _FAILURES = "cells", "failures"


class Ledger:
    """The results of a grid's directory; what is settled is read once.

    Args:
      directory: of the grid.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._results: dict[str, dict[str, Any]] = {}
        self._failures: dict[str, dict[str, Any]] = {}

    def path(self, cell: Cell) -> Path:
        """Return the run directory of a cell."""
        return self.directory / _CELLS / cell.name

    def result(self, cell: Cell) -> dict[str, Any] | None:
        """Return the result of a cell, or None where it has not finished.

        Raises:
          UserError: its directory holds the run of another config.
        """
        if cell.name not in self._results:
            result = finished_result(self.path(cell))
            if result is None:
                return None
            check_is_cell(self.path(cell), cell.config)
            self._results[cell.name] = result
        return self._results[cell.name]

    def failure(self, cell: Cell) -> dict[str, Any] | None:
        """Return `kind` (diverged or error) and `message` of a cell that has failed, or None."""
        if self.result(cell) is not None:  # of a later attempt
            return None
        if cell.name not in self._failures:
            with contextlib.suppress(OSError, ValueError):
                self._failures[cell.name] = read_json(self._failure_file(cell))
        return self._failures.get(cell.name)

    def is_settled(self, cell: Cell) -> bool:
        """Return whether a cell has a result or has failed."""
        return self.result(cell) is not None or self.failure(cell) is not None

    def fail(self, cell: Cell, kind: str, message: str) -> None:
        """Take note that a cell has failed."""
        write_json(
            self._failure_file(cell),
            {"kind": kind, "message": message, "pid": os.getpid(), "host": socket.gethostname()},
        )

    def forgive(self, cell: Cell) -> None:
        """Forget that a cell has failed, so that it is tried again."""
        self._failure_file(cell).unlink(missing_ok=True)
        self._failures.pop(cell.name, None)

    def epochs(self, cell: Cell) -> int:
        """Return how many epochs of a cell that is in work are done."""
        try:
            return len(read_metrics(self.path(cell)))
        except (OSError, UserError):
            return 0

    def environment(self, cell: Cell) -> dict[str, Any]:
        """Return the environment of a cell's run; nothing where it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            return read_json(self.path(cell) / "environment.json")
        return {}

    def _failure_file(self, cell: Cell) -> Path:
        return self.directory / _FAILURES / f"{cell.name}.json"


def check_is_cell(path: Path, config: DownstreamConfig) -> None:
    """Raise UserError unless a run directory is that of a config."""
    try:
        record = read_json(path / "config.json")
        if record["command"] != "downstream":
            raise UserError(f"{path} is a {record['command']} run, expected a downstream run: move it away")
        changed = differences(completed(record["config"], config), to_dict(config))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path / 'config.json'} cannot be read ({error}): move {path} away, to have it run again"
        ) from error
    if changed:
        raise UserError(f"{path} is a run of another config ({'; '.join(changed[:3])}): move it away")
