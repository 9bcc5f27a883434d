"""The history of a search: every loss that it tried, who its parent was, when it was born and when it died."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edl_jax.core.errors import UserError, command, require
from edl_jax.core.files import write_atomic
from edl_jax.loss.expression import genome_text
from edl_jax.loss.expression.nlfs import Genome

FILE = "history.jsonl"
"""Name of the file in the run directory."""


class Entry(NamedTuple):
    """A loss that a search tried.

    Attributes:
      genome: oriented: its `flip` is that of the integrity check.
      fitness: error rate of the student; infinite if it ended early or was not finite.
      birth: iteration that tried it, from 1; 0 for the first losses.
      death: iteration that replaced it, `birth` for one that was never in the population; None for one that is.
      parent: its parent's place in the history, None for the first losses.
      screened: error rate of the student that screens the first losses, where there is one.
    """

    genome: Genome
    fitness: float
    birth: int = 0
    death: int | None = None
    parent: int | None = None
    screened: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON has it: `fitness` is null for infinity."""
        numbers = {name: _number(getattr(self, name)) for name in ("fitness", "screened")}
        return {**self._asdict(), "genome": genome_text.to_text(self.genome), **numbers}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Entry":
        """Return the entry that `to_dict` gave.

        Raises:
          UserError: it gave no such data.
        """
        try:
            genome = genome_text.from_text(data["genome"])
            fitness, screened = data["fitness"], data["screened"]
            death, parent = (None if data[name] is None else int(data[name]) for name in ("death", "parent"))
            return cls(
                genome,
                math.inf if fitness is None else float(fitness),
                int(data["birth"]),
                death,
                parent,
                None if screened is None else float(screened),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"this is no entry of a history ({type(error).__name__}: {error})") from error


def write(directory: Path, entries: Iterable[Entry]) -> None:
    """Write the history into a run directory, an entry a line."""
    lines = (json.dumps(entry.to_dict()) for entry in entries)
    write_atomic(directory / FILE, "".join(f"{line}\n" for line in lines).encode())


def read(directory: Path) -> list[Entry]:
    """Return the losses of a finished search that trained to the end, the best first, of equal ones the earliest.

    Raises:
      UserError: as `read_all`.
    """
    entries = read_all(directory)
    return sorted((entry for entry in entries if math.isfinite(entry.fitness)), key=lambda entry: entry.fitness)


def read_all(directory: Path) -> list[Entry]:
    """Return the history of a finished search in the order in which losses were tried: `parent` counts in it.

    Raises:
      UserError: the directory holds no finished search by NLFS, or a history that is damaged.
    """
    path = directory / FILE
    require(
        (directory / "config.json").is_file() or path.is_file(),
        f"{directory} is no run directory: give one of `search`",
    )
    require(
        path.is_file(),
        f"{directory} holds no history of NLFS: give a finished `{command('search --method nlfs')}`, or finish "
        "this one with --resume",
    )
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            found.append(Entry.from_dict(json.loads(line)))
        except (ValueError, UserError) as error:
            raise UserError(f"{path} is damaged at line {number} ({error}): make the search again") from error
    require(len(found) > 0, f"{path} is empty: make the search again")
    return found


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
