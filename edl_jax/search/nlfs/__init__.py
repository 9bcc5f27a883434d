"""Neural loss function search (NLFS): genomes, integrity check, mutation, regularized evolution."""

from edl_jax.search.nlfs import history
from edl_jax.search.nlfs.config import NLFSConfig
from edl_jax.search.nlfs.evolve import (
    Child,
    Trial,
    draw_first,
    generators,
    parse,
    propose,
    random_valid,
    tell,
    tell_first,
    tell_screened,
)
from edl_jax.search.nlfs.genomes import stack
from edl_jax.search.nlfs.history import Entry
from edl_jax.search.nlfs.integrity import REASONS, Check, check
from edl_jax.search.nlfs.looks import Look, Looks, tables_of_genomes
from edl_jax.search.nlfs.state import NLFSState

__all__ = [
    "REASONS",
    "Check",
    "Child",
    "Entry",
    "Look",
    "Looks",
    "NLFSConfig",
    "NLFSState",
    "Trial",
    "check",
    "draw_first",
    "generators",
    "history",
    "parse",
    "propose",
    "random_valid",
    "stack",
    "tables_of_genomes",
    "tell",
    "tell_first",
    "tell_screened",
]
