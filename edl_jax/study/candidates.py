"""Losses that a study tries: the best of finished searches."""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax import loss
from edl_jax.core import status
from edl_jax.core.errors import UserError, command, local_path, require
from edl_jax.core.files import read_json
from edl_jax.loss.expression import Record
from edl_jax.search.difference import apart
from edl_jax.search.loss_tables import table_of_loss
from edl_jax.search.nlfs import history
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.result import loss_file
from edl_jax.search.seeds import COMMAND as SEEDS
from edl_jax.search.tables import signatures

Stored = loss.Artifact | loss.FormulaArtifact | loss.NamedArtifact
_TABLES = 64  # that are made at once


class Candidate(NamedTuple):
    """A loss that a study tries.

    Attributes:
      name: short, different from those of the others.
      formula: in writing.
      loss: what stores it.
      table: `[2, K]` float32, its slopes.
      fitness: error that the search measured, or None where it comes from none.
    """

    name: str
    formula: str
    loss: Stored
    table: np.ndarray
    fitness: float | None = None

    @property
    def folder(self) -> str:
        """The name as files and folders have it."""
        return folder_name(self.name)

    def store(self, folder: Path) -> Path:
        """Return the file of the loss in `folder`, written where it is not there."""
        path = folder / f"{self.folder}.safetensors"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            loss.save(self.loss, path)
        return path


def of_runs(
    paths: Sequence[str | Path], count: int, *, num_classes: int = 10, distance: float = 0.0
) -> list[Candidate]:
    """Return the best losses of searches, no loss twice: those with equal tables are one.

    Each search measures fitness by its own student: of several, the best losses take turns, then the second best. A
    loss is called by its search, a letter in the order of `paths`, and its place there.

    Args:
      paths: run directories of finished searches, or directories of several seeds, which stand for their runs.
      count: losses, at most.
      num_classes: C, for the tables of losses that depend on it.
      distance: of `search.difference`, which a loss must be from each better one that is returned; 0 for any.

    Raises:
      UserError: no paths, a directory that holds no finished search of classification, or one that found no loss.
    """
    require(len(paths) > 0, "no search given: give the directories of some that are finished")
    require(count >= 1, f"count is {count}, expected at least 1 loss")
    runs = [run for path in paths for run in _expanded(local_path(path))]
    for run in runs:
        require(runs.count(run) == 1, f"{run} is given twice, expected each search once")
    found = [_found(_name_of_run(i), run, num_classes) for i, run in enumerate(runs)]
    status.say("choosing the losses")
    return apart(_distinct(found), lambda part: np.stack([c.table for c in part]), count, distance, num_classes)


def _distinct(found: Sequence[Iterator[Candidate]]) -> Iterator[Candidate]:
    """Yield the losses of searches in turns, no table twice."""
    seen = set()
    for turn in itertools.zip_longest(*found):
        for candidate in turn:
            if candidate is not None:
                (key,) = signatures(candidate.table[None])
                if key not in seen:
                    seen.add(key)
                    yield candidate


def folder_name(name: str) -> str:
    """Return the name of a loss as files and folders have it."""
    return re.sub(r"[^\w.=,+-]", "-", name)


def formula_of(stored: Stored) -> str:
    """Return a loss in writing."""
    if isinstance(stored, loss.Artifact):
        return loss.learned_loss(stored).formula
    return stored.loss().formula


def _name_of_run(place: int) -> str:
    """Return a, b, c ... z, then r27-, r28- ..."""
    return chr(ord("a") + place) if place < 26 else f"r{place + 1}-"


def _expanded(path: Path) -> list[Path]:
    """Return the finished searches in a directory of several seeds, or the directory itself.

    Raises:
      UserError: it holds no finished search.
    """
    file = path / "config.json"
    require(file.is_file(), f"{path} is no run directory (it has no config.json): give one of `{command('search')}`")
    made = _read(file).get("command")
    require(made in ("search", SEEDS), f"{path} is a {made} run, expected a search: give one of `{command('search')}`")
    require(
        (path / "result.json").is_file(),
        f"{path} is a search that has not finished (it has no result.json): finish it with "
        f"`{command(f'search --out {path} --resume')}`, or give another",
    )
    if made == "search":
        return [path]
    seeds = _read(path / "result.json").get("seeds")
    if not isinstance(seeds, list):
        raise UserError(f"{path / 'result.json'} is damaged (it has no seeds): put back a copy")
    return [run for seed in seeds for run in _expanded(path / f"seed-{seed}")]


def _found(run: str, path: Path, num_classes: int) -> Iterator[Candidate]:
    """Return the losses of a finished search, the best first, some of them the same.

    Raises:
      UserError: it found none, or none of classification.
    """
    result = _read(path / "result.json")
    losses = _of_history(path) if result.get("method") == "nlfs" else _of_winners(path, result)
    require(len(losses) > 0, f"{path} holds no loss: give another search")

    def candidates() -> Iterator[Candidate]:
        for start in range(0, len(losses), _TABLES):
            part = losses[start : start + _TABLES]
            tables = _tables([stored for _, stored in part], num_classes)
            for place, ((fitness, stored), table) in enumerate(zip(part, tables, strict=True), start + 1):
                yield Candidate(f"{run}{place}", formula_of(stored), stored, table, fitness)

    return candidates()


def _of_history(path: Path) -> list[tuple[float, Stored]]:
    """Return (fitness, loss) of all that a search by NLFS trained to the end, the best first."""
    return [
        (entry.fitness, loss.FormulaArtifact(Record(entry.genome.expression(), None, entry.genome.flip)))
        for entry in history.read(path)
    ]


def _of_winners(path: Path, result: dict[str, Any]) -> list[tuple[float, Stored]]:
    """Return (fitness, loss) of the losses that a search has stored, the best first."""
    try:
        fitness = [float(winner["fitness"]) for winner in result["winners"]]
    except (LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{path / 'result.json'} is damaged (it has no winners with their fitness): put back a copy"
        ) from error
    found = []
    for rank, value in enumerate(fitness, 1):
        file = loss_file(path, rank)
        loss.load(file)  # refuses a loss of regression
        found.append((value, loss.load_artifact(file)))
    return found


def _tables(losses: Sequence[Stored], num_classes: int) -> np.ndarray:
    """Return the tables `[P, 2, K]` of losses: those of formulas at once."""
    records = {i: x.record for i, x in enumerate(losses) if isinstance(x, loss.FormulaArtifact)}
    of_formulas = tables_of_expressions(
        [record.expression for record in records.values()], [record.weights for record in records.values()]
    )
    signs = {i: -table if records[i].flip else table for i, table in zip(records, of_formulas, strict=True)}
    tables = []
    for i, stored in enumerate(losses):
        if i in signs:
            tables.append(signs[i])
        else:
            function = loss.learned_loss(stored) if isinstance(stored, loss.Artifact) else stored.loss()
            tables.append(table_of_loss(function, num_classes))
    return np.stack(tables)


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): put back a copy, or give another search") from error
