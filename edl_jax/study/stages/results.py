"""What a stage found of each loss, in a file that grows while it runs."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edl_jax.core.errors import UserError
from edl_jax.core.files import parse_json, plain, read_json, write_atomic, write_json

_RESULTS, _STAGE = "results.jsonl", "stage.json"
_LOGGER = logging.getLogger("edl_jax")


class Result(NamedTuple):
    """What a stage found of a loss.

    Attributes:
      name: of the candidate.
      error: validation error rate where training ended, of a downstream run that of its best epoch; infinite where it
        was not finite.
      loss: validation cross-entropy there, likewise.
      steps: that it was trained.
      seconds: of training and evaluation.
    """

    name: str
    error: float
    loss: float
    steps: int
    seconds: float


def order(results: Sequence[Result]) -> list[Result]:
    """Return results, the best first: by error, then by cross-entropy."""
    return sorted(results, key=lambda result: (result.error, result.loss))


def begin(directory: Path, identity: Mapping[str, Any]) -> dict[str, Result]:
    """Return what a directory holds of a stage, by name, and record what the stage is.

    Args:
      directory: of the stage.
      identity: what must be the same when it goes on, as JSON has it.

    Raises:
      UserError: it holds another stage.
    """
    file = directory / _STAGE
    if not file.is_file():
        write_json(file, identity)
        return {}
    try:
        stored = read_json(file)
    except ValueError as error:
        raise UserError(f"{file} is damaged ({error}): remove {directory} to train that stage again") from error
    for key, value in identity.items():
        if stored.get(key) != plain(value):
            shown = f": {stored.get(key)} -> {value}" if isinstance(value, (str, int)) else ""
            raise UserError(
                f"cannot go on in {directory}: its {key} is not what it began with{shown}; remove it to begin anew"
            )
    return {result.name: result for result in _read(directory / _RESULTS)}


def write(directory: Path, results: Sequence[Result]) -> None:
    """Write all results so far: whole, or not at all."""
    lines = (json.dumps(plain(result._asdict()), allow_nan=False) for result in results)
    write_atomic(directory / _RESULTS, "".join(f"{line}\n" for line in lines).encode())


def count(directory: Path) -> int:
    """Return how many losses a directory has results of."""
    file = directory / _RESULTS
    return len(file.read_bytes().splitlines()) if file.is_file() else 0


def _read(file: Path) -> list[Result]:
    """Return the results of a file; a damaged line costs a warning, and is made again."""
    found = []
    for number, line in enumerate(file.read_bytes().splitlines() if file.is_file() else [], 1):
        try:
            row = parse_json(line)
            error, loss = (math.inf if row[name] is None else float(row[name]) for name in ("error", "loss"))
            found.append(Result(str(row["name"]), error, loss, int(row["steps"]), float(row["seconds"])))
        except (LookupError, TypeError, ValueError) as error:
            _LOGGER.warning("%s is damaged in line %d (%s): that loss is trained again", file, number, error)
    return found
