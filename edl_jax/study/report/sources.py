"""The directories of a report: what is given, what lies in it, and what each one holds."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edl_jax.core.errors import UserError, command, local_path, reason, require
from edl_jax.core.files import read_json

_DEPTH = 3  # folders below a given one in which runs are looked for
_CONFIG, _RESULT = "config.json", "result.json"


class Source(NamedTuple):
    """A directory that a command has made.

    Attributes:
      name: what the report calls it, unlike that of any other.
      path: the directory.
      command: that made it.
      config: its settings, as stored.
      result: content of result.json; None where it has not finished.
      environment: content of environment.json; empty where it cannot be read.
    """

    name: str
    path: Path
    command: str
    config: Mapping[str, Any]
    result: Mapping[str, Any] | None
    environment: Mapping[str, Any]


def read(given: Sequence[str | Path]) -> tuple[list[Source], list[str]]:
    """Return the directories that are given or lie in given folders, and a line for each in a folder that is left out.

    Args:
      given: directories of commands, or folders that contain such directories.

    Raises:
      UserError: none is given, one twice, one that is no such directory and contains none, or one whose files are
        damaged.
    """
    require(len(given) > 0, f"no directory given: {command('report')} DIR [DIR ...], of any command that makes one")
    paths = [local_path(path) for path in given]
    for text, path in zip(given, paths, strict=True):
        same = sum(path.resolve() == other.resolve() for other in paths)
        require(same == 1, f"{text} is given {same} times, expected each directory once")
    found: dict[Path, Source] = {}
    left: list[str] = []
    for path in paths:
        _check(path)
        if (path / _CONFIG).is_file():
            found.setdefault(path.resolve(), _source(path, path.absolute().name))
            continue
        inner = _runs_in(path, _DEPTH)
        require(
            bool(inner),
            f"{path} is no directory of a command, and contains none (no {_CONFIG}): give one that a command has made",
        )
        for run in inner:
            try:
                found.setdefault(run.resolve(), _source(run, run.relative_to(path).as_posix()))
            except UserError as error:
                left.append(str(error))
    require(bool(found), f"nothing to report: {'; '.join(left[:3])}")
    return _distinct(list(found.values())), left


def _check(path: Path) -> None:
    try:
        exists, is_folder = path.exists(), path.is_dir()
        if is_folder:
            next(path.iterdir(), None)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; give another directory") from error
    require(exists, f"there is no directory {path}: give one that a command has made, or a folder of such")
    require(is_folder, f"{path} is a file, expected a directory that a command has made, or a folder of such")


def _runs_in(folder: Path, depth: int) -> list[Path]:
    """Return the directories of commands below a folder, in the order of their names; those within others are not."""
    found = []
    with contextlib.suppress(OSError):
        for child in sorted(folder.iterdir()):
            if not child.is_dir() or child.is_symlink():
                continue
            if (child / _CONFIG).is_file():
                found.append(child)
            elif depth > 1:
                found += _runs_in(child, depth - 1)
    return found


def _source(path: Path, name: str) -> Source:
    """Return what a directory holds.

    Raises:
      UserError: a file of it is damaged.
    """
    file = path / _CONFIG
    try:
        record = read_json(file)
        made_by, config = record["command"], record["config"]
        if not (isinstance(made_by, str) and isinstance(config, dict)):
            raise ValueError("it is not what a command writes")
        file = path / _RESULT
        result = read_json(file) if file.exists() else None
    except (OSError, ValueError, LookupError) as error:
        why = f"it has no {error.args[0]}" if isinstance(error, KeyError) else reason(error)
        raise UserError(f"{file} cannot be read ({why}): put back a copy, or leave {path} out") from error
    environment: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        environment = read_json(path / "environment.json")
    return Source(name, path, made_by, config, result, environment)


def _distinct(sources: Sequence[Source]) -> list[Source]:
    """Return sources with names that differ."""
    names = [source.name for source in sources]
    if len(set(names)) == len(names):
        return list(sources)
    # The folder above tells them apart where that is what differs; a number does in any case.
    longer = [
        source.name if names.count(source.name) == 1 else f"{source.path.absolute().parent.name}/{source.name}"
        for source in sources
    ]
    if len(set(longer)) < len(longer):
        longer = [f"{number} {name}" for number, name in enumerate(longer, 1)]
    return [source._replace(name=name) for source, name in zip(sources, longer, strict=True)]
