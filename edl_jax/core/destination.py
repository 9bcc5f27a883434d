"""Which directory a run may have: what is there, and whether the run may take it, go on in it or replace it."""

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edl_jax.core.config import completed, differences, to_dict
from edl_jax.core.errors import UserError
from edl_jax.core.files import read_json


def find(command: str, config: Any, out: str | Path | None, resume: bool, overwrite: bool) -> tuple[Path, bool]:
    """Return (path, whether something is there) of a run directory that may be written; nothing is written.

    Args:
      command: that makes the run.
      config: what the run is to do.
      out: the directory (default `runs/<command>-<time>`).
      resume: whether to go on with the run that is there.
      overwrite: whether to replace it.

    Raises:
      UserError: the directory may not be written; the message says which flag would allow it.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other: give one of them")
    if resume and out is None:
        raise UserError("--resume needs the run directory: give it with --out DIR")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path(out) if out is not None else _unused(Path("runs") / f"{command}-{stamp}")
    path = path.expanduser().absolute()
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
            raise UserError(f"{path} exists: give --resume to continue it, --overwrite to replace it, or another --out")
    except OSError as error:
        raise unusable(path, error) from error
    return path, occupied


def clear(path: Path) -> None:
    """Empty a run directory: config.json goes last, so that this can be interrupted and repeated."""
    config = path / "config.json"
    for child in sorted(path.iterdir(), key=lambda child: child == config):
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def unusable(path: Path, error: OSError) -> UserError:
    """Return the error for a run directory that the file system refuses."""
    return UserError(f"cannot make run directory {path}: {error.strerror}; give another --out")


def _unused(path: Path) -> Path:
    """Return `path`, numbered when two runs start in the same second."""
    candidate, number = path, 2
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate


def _content(path: Path) -> list[Path]:
    """Return what is in a directory, without the temporary files of an interrupted `write_atomic`."""
    return [child for child in path.iterdir() if not (child.name.startswith(".") and child.suffix == ".tmp")]


def _require_run(path: Path) -> None:
    """Raise unless the directory is that of a run."""
    config = path / "config.json"
    foreign = not config.is_file()
    with contextlib.suppress(OSError, ValueError, RecursionError):  # a damaged one may be replaced
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
        stored = read_json(file)
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
