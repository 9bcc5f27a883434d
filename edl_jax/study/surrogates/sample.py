"""The losses that the networks of a study are trained with: random ones, or some of what searches by NLFS tried."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from edl_jax.core.errors import local_path, require
from edl_jax.core.inputs import Input
from edl_jax.loss import FormulaArtifact
from edl_jax.loss.expression import Record
from edl_jax.loss.expression.nlfs import Genome
from edl_jax.search import nlfs
from edl_jax.search.tables import signatures
from edl_jax.study.candidates import Candidate

_DRAW = 4  # number of the generator
_Item = TypeVar("_Item")


def draw(runs: Sequence[str], count: int, seed: int) -> list[Candidate]:
    """Return `count` losses that passed NLFS's integrity check, no two of which are one loss.

    Args:
      runs: directories of finished searches by NLFS, each of which gives an equal share of the losses: one at random
        of each of as many quantiles of its fitness, the best included. None for random losses.
      count: how many.
      seed: of the draw.

    Raises:
      UserError: a directory that holds no finished search by NLFS, or fewer losses than its share.
    """
    rng = np.random.default_rng([seed, _DRAW])
    genomes = _of_histories(rng, runs, count) if runs else nlfs.random_valid(rng, nlfs.NLFSConfig(), count)
    tables = nlfs.tables_of_genomes(genomes)
    records = [Record(genome.expression(), flip=genome.flip) for genome in genomes]
    width = len(str(count))
    return [
        Candidate(f"{i:0{width}d}", record.formula, FormulaArtifact(record), table)
        for i, (record, table) in enumerate(zip(records, tables, strict=True), 1)
    ]


def digest(candidates: Sequence[Candidate]) -> Input:
    """Return what a resumed study must find again."""
    content = hashlib.blake2b(digest_size=16)
    for candidate in candidates:
        content.update(candidate.formula.encode())
        content.update(np.asarray(candidate.table).tobytes())
    return Input("the candidates", content.hexdigest())


def spread(rng: np.random.Generator, items: Sequence[_Item], count: int) -> list[_Item]:
    """Return `count` of some items in their order: the first, and one at random of each of as many equal parts.

    Args:
      rng: generator.
      items: at least `count`, the best first.
      count: how many.
    """
    parts = np.array_split(np.arange(len(items)), count)
    return [items[0], *(items[int(rng.choice(part))] for part in parts[1:])]


def _of_histories(rng: np.random.Generator, runs: Sequence[str], count: int) -> list[Genome]:
    """Return genomes that searches tried, an equal share of each."""
    paths = [local_path(run) for run in runs]
    require(len({path.resolve() for path in paths}) == len(paths), "a run is given twice, expected each once")
    require(
        count >= len(paths), f"candidates is {count}, expected at least one for each of the {len(paths)} runs given"
    )
    histories = [_finished(path) for path in paths]
    shares = [len(part) for part in np.array_split(np.arange(count), len(paths))]
    seen: set[str] = set()
    found: list[Genome] = []
    for path, genomes, share in zip(paths, histories, shares, strict=True):
        new = []
        for genome, key in zip(genomes, signatures(nlfs.tables_of_genomes(genomes)), strict=True):
            if key not in seen:
                seen.add(key)
                new.append(genome)
        require(
            len(new) >= share,
            f"{path} has {len(new)} different losses that trained, expected at least {share}: lower --candidates, or "
            "give other runs",
        )
        found += spread(rng, new, share)
    return found


def _finished(path: Path) -> list[Genome]:
    """Return the genomes of a finished search, the best first."""
    require(path.is_dir(), f"no search at {path}: give the directory of a finished run of `search --method nlfs`")
    require(
        (path / "result.json").is_file(),
        f"{path} is no finished run (result.json is missing): finish it with --resume, or leave it out",
    )
    return [entry.genome for entry in nlfs.history.read(path)]
