"""Run directories: config, metrics, checkpoints and results as plain files, resumable at any moment.

    config.json        command, resolved config and hashes of the inputs; written first
    environment.json   versions, device, git revision, command line, wall seconds
    metrics.jsonl      one JSON object a line
    checkpoints/       the state at the last two, see `checkpoints`
    result.json        written last, atomically
    .lock              the process that has the directory, see `lock`; there while it runs

Nothing here is ever unpickled. Every write that replaces a file is atomic.
"""

import collections
import contextlib
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any

from edl_jax.core import destination, environment
from edl_jax.core.checkpoints import Checkpoints
from edl_jax.core.config import to_dict
from edl_jax.core.errors import UserError
from edl_jax.core.files import parse_json, plain, remove_leftovers, write_atomic, write_json
from edl_jax.core.inputs import KEY, Input, recorded
from edl_jax.core.lock import Lock, check_free
from edl_jax.core.stopping import Stop

_CHECKPOINTS, _METRICS = "checkpoints", "metrics.jsonl"


@dataclasses.dataclass
class Run:
    """One run directory.

    Attributes:
      path: the directory.
      resumed: whether it holds an earlier, unfinished run of the same config.
      checkpoints: its checkpoints.
    """

    path: Path
    resumed: bool
    _environment: dict[str, Any]
    _lock: Lock
    _start: float = dataclasses.field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.path / _CHECKPOINTS)

    @classmethod
    def open(
        cls,
        command: str,
        config: Any,
        *,
        out: str | Path | None,
        resume: bool = False,
        overwrite: bool = False,
        inputs: Mapping[str, Input] = MappingProxyType({}),
    ) -> "Run":
        """Create the run directory `out` (default `runs/<command>-<time>`) or reopen it; see `preparing`.

        Args:
          command: that makes the run.
          config: what to run.
          out: the directory.
          resume: go on with the run that is there.
          overwrite: replace it.
          inputs: what the run reads from files that may be replaced; a resumed run must find what it began with.

        Raises:
          UserError: the directory exists and neither `resume` nor `overwrite` is given, there is nothing
            to resume, its config or inputs differ, another process has it, or no directory can be made there.
        """
        path = cls._check(command, config, out, resume, overwrite)
        record = _record(command, config)
        try:
            path = destination.make(path, unused=out is None)
            lock = Lock(path)
            try:
                # What was so before may be so no longer, until the lock is held.
                if destination.check(path, record, config, resume, overwrite) and overwrite:
                    destination.clear(path)
                if digests := recorded(path, inputs):
                    record[KEY] = digests
                remove_leftovers(path)
                write_json(path / "config.json", record)
                run = cls(path=path, resumed=resume, _environment=environment.describe(path), _lock=lock)
                run._write_environment()
            except BaseException:
                lock.release()
                raise
        except OSError as error:
            raise destination.unusable(path, error) from error
        return run

    @classmethod
    @contextlib.contextmanager
    def preparing(
        cls,
        command: str,
        config: Any,
        *,
        out: str | Path | None,
        resume: bool = False,
        overwrite: bool = False,
        stop: Stop | None = None,
    ) -> "Iterator[Callable[..., Run]]":
        """Raise what `open` would raise for these arguments, before work in the context that may still refuse the run.

        Yields `open` with these arguments, to call when that work is done; it takes the `inputs`.

        Nothing is written, except when that work is interrupted: then the run can be resumed, from its beginning, in
        `stop.path`. What it was to replace stays.

        Raises:
          UserError: as `open`, but for a directory that cannot be made.
        """
        cls._check(command, config, out, resume, overwrite)
        try:
            yield functools.partial(cls.open, command, config, out=out, resume=resume, overwrite=overwrite)
        except KeyboardInterrupt:
            with contextlib.suppress(UserError, OSError):
                run = cls.open(command, config, out=out, resume=resume)
                run.close()
                if stop is not None:
                    stop.path = run.path
            raise

    @staticmethod
    def _check(command: str, config: Any, out: str | Path | None, resume: bool, overwrite: bool) -> Path:
        """Return the directory of a run, or raise what `open` would."""
        path = destination.locate(command, out, resume, overwrite)
        if out is not None or not path.exists():  # a default name that is taken gets a number
            check_free(path)
            destination.check(path, _record(command, config), config, resume, overwrite)
        return path

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        self.log_all([metrics])

    def log_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append several lines to metrics.jsonl in one write."""
        lines = "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows)
        with (self.path / _METRICS).open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())  # on the disk before the checkpoint that says so

    def metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl: see `read_metrics`."""
        return read_metrics(self.path)

    def rewind(self, counter: str, last: int, *, needs: Collection[str] = ()) -> None:
        """Drop the lines of metrics.jsonl whose `counter` lies beyond `last` (they will be made again).

        Args:
          counter: name of what is counted, from 1, in each line.
          last: its value at the checkpoint from which the run goes on.
          needs: names of numbers from which the result is made.

        Raises:
          UserError: lines up to there are missing or damaged, or lack a number; nothing is dropped.
        """
        rows = self.metrics()
        kept = [row for row in rows if row.get(counter) in range(last + 1)]
        found = collections.Counter(row[counter] for row in kept)
        each = max(found.values(), default=1)  # lines of a step
        lacking = [f"no line of {counter} {step}" for step in range(1, last + 1) if found[step] != each]
        lacking += [f"no {x} of {counter} {row[counter]}" for row in kept for x in needs if row.get(x) is None]
        if lacking:
            raise UserError(
                f"{self.path / _METRICS} has {lacking[0]}, and the checkpoint is of {last}: "
                "put back a copy of that file, or start again with --overwrite"
            )
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_atomic(self.path / _METRICS, text.encode())

    def save(self, step: int, state: Any) -> None:
        """Save a pytree of arrays as the checkpoint of `step`; the last two are kept."""
        self.checkpoints.save(step, state)
        self._write_environment()  # so that a killed run has its wall time counted

    def save_text(self, step: int, text: str) -> None:
        """Save text as the checkpoint of `step`; the last two are kept."""
        self.checkpoints.save_text(step, text)
        self._write_environment()

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """Return (step, state) of the newest readable checkpoint, or None: see `Checkpoints.restore`."""
        return self.checkpoints.restore(like)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json and the final wall time, and let go of the directory."""
        self._environment["finished"] = True
        self._write_environment()
        write_json(self.path / "result.json", result)
        self._lock.release()

    def close(self) -> None:
        """Write the wall time and let go of the directory; after `finish`, or a second time, nothing is done."""
        if not self._lock.is_held:
            return
        try:
            self._write_environment()
        finally:
            self._lock.release()

    def _write_environment(self) -> None:
        seconds = self._environment["earlier_wall_seconds"] + time.perf_counter() - self._start
        write_json(self.path / "environment.json", {**self._environment, "wall_seconds": round(seconds, 2)})


def _record(command: str, config: Any) -> dict[str, Any]:
    """Return what config.json holds."""
    return {"command": command, "config": to_dict(config)}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a run directory's metrics.jsonl; a last line cut by a kill is left out.

    Raises:
      UserError: another line is damaged.
    """
    file = path / _METRICS
    rows: list[dict[str, Any]] = []
    lines = file.read_bytes().split(b"\n") if file.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(_row(line))
        except ValueError as error:
            if number < len(lines):
                raise UserError(
                    f"{file} is damaged in line {number} ({error}): put back a copy of that file, "
                    "or start again with --overwrite"
                ) from error
    return rows


def _row(line: bytes) -> dict[str, Any]:
    row = parse_json(line)
    for name, value in row.items():
        if not isinstance(value, (int, float, NoneType)):
            raise ValueError(f"{name} is a {type(value).__name__}, expected a number")
    return row


def read_checkpoint(path: Path, like: Any) -> tuple[int, Any] | None:
    """Return (step, state) of the newest readable checkpoint of a run directory, which is left as it is.

    Args:
      path: run directory.
      like: pytree of the same structure, shapes and dtypes.

    Raises:
      UserError: there are checkpoints but none can be read.
    """
    return Checkpoints(path / _CHECKPOINTS).restore(like, repair=False)
