"""What a search compares of genomes: keys of their tables, and phenotypes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edl_jax.loss.expression.nlfs import Genome
from edl_jax.search.nlfs.genomes import programs_of, stack
from edl_jax.search.nlfs.integrity import POINTS, check
from edl_jax.search.program_tables import tables_of_programs
from edl_jax.search.tables import SIZE, signatures

TWIN = 0.01
"""Euclidean distance of two phenotypes up to which the authors' code takes them for one loss."""


class Look(NamedTuple):
    """What a search compares of a genome.

    Attributes:
      key: equal for genomes whose tables are the same.
      phenotype: float32 `[1000]`, scaled; `flip` applied.
    """

    key: str
    phenotype: np.ndarray


def tables_of_genomes(genomes: Sequence[Genome]) -> np.ndarray:
    """Return the tables `[P, 2, K]` float32 of genomes, `flip` applied."""
    if not genomes:
        return np.zeros((0, 2, SIZE), np.float32)
    sign = np.where([genome.flip for genome in genomes], np.float32(-1.0), np.float32(1.0))
    return tables_of_programs(programs_of(stack(genomes))) * sign[:, None, None]


def look_at(genomes: Sequence[Genome]) -> list[Look]:
    """Return the looks of valid genomes."""
    if not genomes:
        return []
    phenotypes = check(stack(genomes)).phenotype
    assert len(phenotypes) == len(genomes), f"expected valid genomes, {POINTS} points each"
    return [Look(*look) for look in zip(signatures(tables_of_genomes(genomes)), phenotypes, strict=True)]


class Looks:
    """The looks of what a search tried, computed once for each loss."""

    def __init__(self) -> None:
        self._found: dict[Genome, Look] = {}

    def of(self, genomes: Sequence[Genome]) -> list[Look]:
        """Return the looks of valid genomes."""
        new = [genome for genome in dict.fromkeys(genomes) if genome not in self._found]
        self._found |= zip(new, look_at(new), strict=True)
        return [self._found[genome] for genome in genomes]


def is_twin(look: Look, others: Sequence[Look], kind: str) -> bool:
    """Return whether a loss is one of others: `kind` is `table` or `phenotype`."""
    if not others:
        return False
    if kind == "table":
        return any(look.key == other.key for other in others)
    distance = np.linalg.norm(np.stack([other.phenotype for other in others]) - look.phenotype, axis=1)
    return bool(np.min(distance) <= TWIN)
