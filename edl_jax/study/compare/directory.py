"""The directory of a grid, in which many processes may work at once."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edl_jax.core import destination, environment
from edl_jax.core.config import override, to_dict
from edl_jax.core.errors import UserError, require
from edl_jax.core.files import read_json, write_json
from edl_jax.core.inputs import KEY, Input, recorded
from edl_jax.core.lock import InUseError, Lock
from edl_jax.core.stopping import Stop
from edl_jax.study.compare.config import CompareConfig, united
from edl_jax.study.compare.leases import Leases, LeaseTimes

COMMAND = "compare"
_CONFIG = "config.json"
# A lock is held for as long as it takes to write a file, or to draw the figures.
_PATIENCE, _PAUSE = 120.0, 0.1


def find(out: str | Path | None, *, resume: bool, overwrite: bool, join: bool) -> Path:
    """Return the directory of these flags; nothing is written.

    Raises:
      UserError: the flags contradict each other, or the directory may not be had with them.
    """
    if join:
        require(not (resume or overwrite), "--join goes without --resume and --overwrite: give one of them")
        require(out is not None, "--join needs the directory of the grid: give it with --out DIR")
    return destination.locate(COMMAND, out, resume, overwrite)


def is_resumed(path: Path, *, resume: bool, join: bool) -> bool:
    """Return whether the grid of a directory is gone on with."""
    return resume or (join and (path / _CONFIG).is_file())


def wanted(path: Path, config: CompareConfig, *, resume: bool, overwrite: bool) -> CompareConfig:
    """Return the grid that `path` is to hold: resumed, the union of what it holds and `config`; nothing is written.

    Args:
      path: directory of the grid.
      config: what is asked for.
      resume: whether the grid that is there is gone on with.
      overwrite: whether what is there is replaced.

    Raises:
      UserError: the cells of the two are trained in another way, what is there is no grid, or the directory may not be
        had.
    """
    if resume and (path / _CONFIG).is_file():
        config = united(read_config(path), config)
    destination.check(path, _record(config), config, resume, overwrite)
    return config


def read_config(path: Path) -> CompareConfig:
    """Return the grid of a directory.

    Raises:
      UserError: it holds none, or a damaged one.
    """
    file = path / _CONFIG
    try:
        record = read_json(file)
        command, settings = record["command"], record["config"]
    except OSError as error:
        raise UserError(f"{path} holds no grid of {COMMAND} (it has no {_CONFIG}): check --out") from error
    except (ValueError, LookupError) as error:
        raise UserError(f"{file} is damaged ({error}): put back a copy, or start again with --overwrite") from error
    require(command == COMMAND, f"{path} is a {command} run, expected a grid of {COMMAND}: check --out")
    return override(CompareConfig(), settings, source=str(file))


def open_grid(
    path: Path,
    config: CompareConfig,
    inputs: Mapping[str, Input],
    *,
    resume: bool = False,
    join: bool = False,
    overwrite: bool = False,
    unused: bool = False,
    stop: Stop | None = None,
) -> Path:
    """Make the directory of a grid, or extend the grid that is there; return the directory.

    Args:
      path: the directory.
      config: what is asked for, or what `wanted` has returned.
      inputs: what the cells read from files.
      resume: go on with the grid that is there.
      join: the same, or make it where there is none yet.
      overwrite: replace what is there.
      unused: take another name where the directory exists.
      stop: ends the waiting for a process that writes into the directory.

    Raises:
      UserError: as `wanted`, other inputs than the grid began with, or a worker lives in what is to be replaced.
    """
    try:
        path = destination.make(path, unused=unused)
        with locked(path, stop):
            # What was so before may be so no longer, until the lock is held.
            resume = is_resumed(path, resume=resume, join=join)
            config = wanted(path, config, resume=resume, overwrite=overwrite)
            if overwrite:
                _clear(path)
            record: dict[str, Any] = _record(config)
            if digests := recorded(path, inputs):
                record[KEY] = digests
            if not (path / _CONFIG).is_file() or read_json(path / _CONFIG) != record:
                (path / "result.json").unlink(missing_ok=True)  # of a smaller grid
                write_json(path / _CONFIG, record)
            write_json(path / "environment.json", environment.describe(path))
    except OSError as error:
        raise destination.unusable(path, error) from error
    return path


@contextlib.contextmanager
def locked(path: Path, stop: Stop | None = None) -> Iterator[None]:
    """Hold the lock of a grid's directory; wait for who has it, which is never for long.

    Raises:
      UserError: it is held for longer.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            lock = Lock(path)
            break
        except InUseError:
            if time.monotonic() > until:
                raise
        if stop is not None:
            stop.check()
        time.sleep(_PAUSE)
    try:
        yield
    finally:
        lock.release()


def leases_of(path: Path, times: LeaseTimes) -> Leases:
    """Return the leases of a grid's directory."""
    return Leases(path / "leases", times)


def _clear(path: Path) -> None:
    living = leases_of(path, LeaseTimes()).held()
    require(
        not living,
        f"{path} has cells in work ({', '.join(living[:3])}): stop those processes, or remove {path / 'leases'} if "
        "they have ended",
    )
    destination.clear(path)


def _record(config: CompareConfig) -> dict[str, Any]:
    return {"command": COMMAND, "config": to_dict(config)}
