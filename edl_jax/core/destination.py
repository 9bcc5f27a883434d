"""Which directory a run may have: what is there, and whether the run may take it, go on in it or replace it."""

import contextlib
import errno
import itertools
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edl_jax.core import inputs, lock
from edl_jax.core.config import completed, differences, grown
from edl_jax.core.errors import UserError, local_path, require
from edl_jax.core.files import read_json


def locate(command: str, out: str | Path | None, resume: bool, overwrite: bool) -> Path:
    """Return the run directory of these flags; nothing is written.

    Args:
      command: that makes the run.
      out: the directory (default `runs/<command>-<time>`, which another run may have by the time that it is made).
      resume: whether to go on with the run that is there.
      overwrite: whether to replace it.

    Raises:
      UserError: the flags contradict each other, or a path that `local_path` refuses.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite contradict each other: give one of them")
    if resume and out is None:
        raise UserError("--resume needs the run directory: give it with --out DIR")
    require("\0" not in str(out), f"--out is {str(out)!r}, expected a path without a null character")
    if out is None:
        out = Path("runs") / f"{command}-{time.strftime('%Y%m%d-%H%M%S')}"
    return local_path(out).absolute()


def check(path: Path, record: Mapping[str, Any], config: Any, resume: bool, overwrite: bool) -> bool:
    """Return whether something is in a directory that a run may have; nothing is written.

    Args:
      path: the directory.
      record: what config.json is to hold.
      config: the config in it.
      resume: whether to go on with the run that is there.
      overwrite: whether to replace it.

    Raises:
      UserError: the run may not have it; the message says what to do.
    """
    try:
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file, expected a run directory: give another --out")
        if not next(parent for parent in path.parents if parent.exists()).is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        occupied = path.is_dir() and bool(_content(path))
        if resume:
            if not path.is_dir():
                raise UserError(f"no run to resume at {path}: check --out, or drop --resume to start one")
            _check_same(path, record, config)
        elif occupied and overwrite:
            _require_run(path)
        elif occupied:
            raise UserError(f"{path} exists: give --resume to continue it, --overwrite to replace it, or another --out")
    except OSError as error:
        raise unusable(path, error) from error
    return occupied


def make(path: Path, *, unused: bool) -> Path:
    """Make a run directory and return it.

    Args:
      path: the directory.
      unused: whether it must not be there yet: then a number is added to its name until it is not.
    """
    if not unused:
        path.mkdir(parents=True, exist_ok=True)
        return path
    for number in itertools.count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with contextlib.suppress(FileExistsError):
            candidate.mkdir(parents=True)
            break
    return candidate


def clear(path: Path) -> None:
    """Empty a run directory but for its lock: config.json goes last, so that this can be interrupted and repeated."""
    config = path / "config.json"
    for child in sorted(path.iterdir(), key=lambda child: child == config):
        if child.name == lock.FILENAME:
            continue
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


def unusable(path: Path, error: OSError) -> UserError:
    """Return the error for a run directory that the file system refuses."""
    return UserError(f"cannot make run directory {path}: {error.strerror}; give another --out")


def _content(path: Path) -> list[Path]:
    """Return what is in a directory, without its lock and the temporary files of an interrupted `write_atomic`."""
    return [child for child in path.iterdir() if child.name != lock.FILENAME and not _is_temporary(child)]


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".tmp"


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
    stored.pop(inputs.KEY, None)  # they may not be known yet
    if isinstance(stored.get("config"), dict) and stored.get("command") == record["command"]:
        stored["config"] = grown(completed(stored["config"], config), config)
    changed = differences(stored, json.loads(json.dumps(record)))
    if changed:
        raise UserError(
            f"cannot resume {path} with another config ({'; '.join(changed[:4])}): "
            "repeat its flags, or give another --out"
        )
