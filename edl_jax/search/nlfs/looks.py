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


_CHUNK = 256  # tables that are made at once: few sizes are compiled, and little memory is taken


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
    found = np.zeros((len(genomes), 2, SIZE), np.float32)
    for start in range(0, len(genomes), _CHUNK):
        part = genomes[start : start + _CHUNK]
        sign = np.where([genome.flip for genome in part], np.float32(-1.0), np.float32(1.0))
        found[start : start + _CHUNK] = tables_of_programs(programs_of(stack(part))) * sign[:, None, None]
    return found


def look_at(genomes: Sequence[Genome], phenotypes: np.ndarray | None = None) -> list[Look]:
    """Return the looks of valid genomes.

    Args:
      genomes: P genomes.
      phenotypes: `[P, 1000]` that their check found; None to check them here.
    """
    if phenotypes is None and genomes:
        phenotypes = check(stack(genomes)).phenotype
        assert len(phenotypes) == len(genomes), f"expected valid genomes, {POINTS} points each"
    looks = []
    for start in range(0, len(genomes), _CHUNK):
        keys = signatures(tables_of_genomes(genomes[start : start + _CHUNK]))
        assert phenotypes is not None
        looks += [Look(*look) for look in zip(keys, phenotypes[start : start + _CHUNK], strict=True)]
    return looks


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
