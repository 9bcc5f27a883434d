"""Run directories: config, metrics, checkpoints and results as plain files, resumable at any moment.

    config.json        command and resolved config; written first
    environment.json   versions, device, git revision, command line, wall seconds
    metrics.jsonl      one JSON object a line
    checkpoints/       orbax
    result.json        written last, atomically

Nothing here is ever unpickled. Every write that replaces a file is atomic.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from edl_jax.core import environment
from edl_jax.core.config import completed, differences, to_dict
from edl_jax.core.errors import UserError, local_path
from edl_jax.core.files import plain, remove_leftovers, write_atomic, write_json

_LOGGER = logging.getLogger("edl_jax")


@dataclasses.dataclass
class Run:
    """One run directory.

    Attributes:
      path: the directory.
      resumed: whether it holds an earlier, unfinished run of the same config.
    """

    path: Path
    resumed: bool
    _environment: dict[str, Any]
    _start: float = dataclasses.field(default_factory=time.perf_counter)
    _manager: ocp.CheckpointManager | None = None

    @classmethod
    def open(
        cls,
        command: str,
        config: Any,
        *,
        out: str | Path | None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> "Run":
        """Create the run directory `out` (default `runs/<command>-<time>`) or reopen it; see `preparing`.

        Raises:
          UserError: the directory exists and neither `resume` nor `overwrite` is given, there is nothing
            to resume, its config differs, or no directory can be made there.
        """
        path, occupied = cls._destination(command, config, out, resume, overwrite)
        record = {"command": command, "config": to_dict(config)}
        try:
            if occupied and overwrite:
                _clear(path)
            path.mkdir(parents=True, exist_ok=True)
            remove_leftovers(path)
        except OSError as error:
            raise _unusable(path, error) from error
        write_json(path / "config.json", record)
        run = cls(path=path, resumed=resume, _environment=environment.describe(path))
        run._write_environment()
        return run

    @classmethod
    @contextlib.contextmanager
    def preparing(
        cls, command: str, config: Any, *, out: str | Path | None, resume: bool = False, overwrite: bool = False
    ) -> Iterator[None]:
        """Raise what `open` would raise for these arguments, before work in the context that may still refuse the run.

        Nothing is written, except when that work is interrupted: then the run can be resumed, from its beginning. What
        it was to replace stays.

        Raises:
          UserError: as `open`, but for a directory that cannot be made.
        """
        cls._destination(command, config, out, resume, overwrite)
        try:
            yield
        except KeyboardInterrupt:
            with contextlib.suppress(UserError, OSError):
                cls.open(command, config, out=out, resume=resume).close()
            raise

    @staticmethod
    def _destination(
        command: str, config: Any, out: str | Path | None, resume: bool, overwrite: bool
    ) -> tuple[Path, bool]:
        """Return (path, whether something is there) of a run directory that may be written."""
        if resume and overwrite:
            raise UserError("--resume and --overwrite contradict each other: give one of them")
        if resume and out is None:
            raise UserError("--resume needs the run directory: give it with --out DIR")
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = local_path(out) if out is not None else _unused(Path("runs") / f"{command}-{stamp}")
        path = path.absolute()
        try:
            if path.exists() and not path.is_dir():
                raise UserError(f"{path} is a file, expected a run directory: give another --out")
            if not next(parent for parent in path.parents if parent.exists()).is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            occupied = path.is_dir() and bool(_content(path))
            if resume:
                if not path.is_dir():
                    raise UserError(f"no run to resume at {path}: check --out, or drop --resume to start one")
                _check_same(path, {"command": command, "config": to_dict(config)}, config)
            elif occupied and overwrite:
                _require_run(path)
            elif occupied:
                raise UserError(
                    f"{path} exists: give --resume to continue it, --overwrite to replace it, or another --out"
                )
        except OSError as error:
            raise _unusable(path, error) from error
        return path, occupied

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        self.log_all([metrics])

    def log_all(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append several lines to metrics.jsonl in one write."""
        lines = "".join(json.dumps(plain(row), allow_nan=False) + "\n" for row in rows)
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(lines)
            file.flush()

    def metrics(self) -> list[dict[str, Any]]:
        """Return the complete lines of metrics.jsonl; a last line cut by a kill is left out."""
        return read_metrics(self.path)

    def rewind(self, counter: str, last: int) -> None:
        """Drop the lines of metrics.jsonl whose `counter` lies beyond `last` (they will be made again)."""
        kept = [row for row in self.metrics() if row.get(counter, 0) <= last]
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_atomic(self.path / "metrics.jsonl", text.encode())

    def save(self, step: int, state: Any) -> None:
        """Save a pytree of arrays as the checkpoint of `step`; the last two are kept."""
        stored = {"state": jax.tree.map(_storable, state), "checksum": _checksum(state)}
        self._checkpoints().save(step, args=ocp.args.StandardSave(stored))
        self._write_environment()  # so that a killed run has its wall time counted

    def restore(self, like: Any, *, repair: bool = True) -> tuple[int, Any] | None:
        """Return (step, state) of the newest readable checkpoint, or None when there is none.

        Newer ones that cannot be read are removed, with a warning: the run makes them again.

        Args:
          like: pytree of the same structure, shapes and dtypes.
          repair: whether to remove those; the warning comes either way.

        Raises:
          UserError: there are checkpoints but none can be read; nothing is removed.
        """
        manager = self._checkpoints()
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
                    "checkpoint %d of %s is unreadable, going on from %d: %s", number, self.path, step, reason
                )
                if repair:
                    manager.delete(number)
            return step, state
        if bad:
            step, reason = next(iter(bad.items()))
            raise UserError(
                f"no checkpoint of {self.path} can be read ({step}: {reason}): start again with --overwrite, "
                "or give another --out"
            )
        return None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write result.json and the final wall time, and close the checkpoints."""
        self.close()
        self._environment["finished"] = True
        self._write_environment()
        write_json(self.path / "result.json", result)

    def close(self) -> None:
        """Wait for pending checkpoints and release them."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None
        self._write_environment()

    def _checkpoints(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
            self._manager = ocp.CheckpointManager(
                self.path / "checkpoints", options=options, item_handlers=ocp.StandardCheckpointHandler()
            )
        return self._manager

    def _write_environment(self) -> None:
        seconds = self._environment["earlier_wall_seconds"] + time.perf_counter() - self._start
        write_json(self.path / "environment.json", {**self._environment, "wall_seconds": round(seconds, 2)})


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a run directory's metrics.jsonl; a last line cut by a kill is left out."""
    path = path / "metrics.jsonl"
    rows: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if not isinstance(row, dict):
                break
            rows.append(row)
    return rows


def read_checkpoint(path: Path, like: Any) -> tuple[int, Any] | None:
    """Return (step, state) of the newest readable checkpoint of a run directory, which is left as it is.

    Args:
      path: run directory.
      like: pytree of the same structure, shapes and dtypes.

    Raises:
      UserError: there are checkpoints but none can be read.
    """
    if not (path / "checkpoints").is_dir():
        return None
    run = Run(path=path, resumed=True, _environment={})
    try:
        return run.restore(like, repair=False)
    finally:
        if run._manager is not None:
            run._manager.close()


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


def _unused(path: Path) -> Path:
    """Return `path`, numbered when two runs start in the same second."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate


def _content(path: Path) -> list[Path]:
    """Return what is in a directory, without the temporary files of an interrupted `write_atomic`."""
    return [child for child in path.iterdir() if not (child.name.startswith(".") and child.suffix == ".tmp")]


def _unusable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot make run directory {path}: {error.strerror}; give another --out")


def _clear(path: Path) -> None:
    """Empty a run directory: config.json goes last, so that this can be interrupted and repeated."""
    config = path / "config.json"
    for child in sorted(path.iterdir(), key=lambda child: child == config):
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def _require_run(path: Path) -> None:
    """Raise unless the directory is that of a run."""
    config = path / "config.json"
    foreign = not config.is_file()
    with contextlib.suppress(OSError, ValueError):  # a damaged one may be replaced
        stored = json.loads(config.read_text(encoding="utf-8"))
        foreign = not (isinstance(stored, dict) and "command" in stored)
    if foreign:
        raise UserError(f"{path} is no run directory (it has no config.json of a run): refusing to overwrite it")


def _check_same(path: Path, record: Mapping[str, Any], config: Any) -> None:
    """Raise unless the run at `path` was started with the same command and config; `record` holds both of today."""
    file = path / "config.json"
    if not file.is_file():
        if _content(path):
            raise UserError(f"{path} is no run directory (it has no config.json): check --out")
        return
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(stored, dict):
            raise ValueError(f"it holds a {type(stored).__name__}")
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): start again with --overwrite") from error
    if isinstance(stored.get("config"), dict) and stored.get("command") == record["command"]:
        stored["config"] = completed(stored["config"], config)
    changed = differences(stored, json.loads(json.dumps(record)))
    if changed:
        raise UserError(
            f"cannot resume {path} with another config ({'; '.join(changed[:4])}): "
            "repeat its flags, or give another --out"
        )
