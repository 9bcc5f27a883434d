"""Candidates as arrays, by what they are (trees or networks) and what students are trained for.

In classification trees and networks become tables, and students train with one program for both. In regression there
are no tables: a tree is a tape of its operators, a network its parameters.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from edl_jax.loss.expression import Expression, compile_program, weighted
from edl_jax.search import ml3, regression
from edl_jax.search.program_tables import FAMILIES, tables_of_expressions
from edl_jax.search.slopes import Tape, program_slopes, tape_of_programs
from edl_jax.search.students.train import Gradient
from edl_jax.search.tables import doubled, logit_gradient, signatures
from edl_jax.search.tasks import CLASSIFICATION, REGRESSION, Slopes, Task

OPERATORS = FAMILIES[0]
"""Operators of trees: EvoMAL's."""
_SHORTEST = 32  # of the programs and tapes that a local search compiles for; doubled as often as needed

Weights = Sequence[Sequence[float] | None]


class Family(NamedTuple):
    """What kind of candidates a run has.

    Attributes:
      gradient: of a candidate's loss in a student's outputs, as `students.Trainer` takes it.
      slopes: of a candidate, as a local search takes them.
    """

    gradient: Gradient
    slopes: Slopes


TREES: dict[Task, Family] = {
    CLASSIFICATION: Family(logit_gradient, functools.partial(program_slopes, OPERATORS)),
    REGRESSION: Family(regression.gradient, regression.slopes),
}
"""Task -> the family of trees."""
NETWORKS: dict[Task, Family] = {
    CLASSIFICATION: Family(logit_gradient, ml3.slopes),
    REGRESSION: Family(regression.network_gradient, ml3.raw_slopes),
}
"""Task -> the family of ML3's networks."""


def encode_trees(task: Task, trees: Sequence[Expression], weights: Weights | None = None) -> Any:
    """Return trees with edge weights as what students train with, arrays `[P, ...]`."""
    return tables_of_expressions(trees, weights) if task is CLASSIFICATION else regression.encode(trees, weights)


def encode_networks(task: Task, params: Any) -> Any:
    """Return networks, parameters `[P, ...]`, as what students train with."""
    return ml3.tables_of_params(params) if task is CLASSIFICATION else params


def keys(task: Task, trees: Sequence[Expression], weights: Weights | None = None) -> list[str]:
    """Return a key for each tree with its edge weights, equal for those that are one loss."""
    if not trees:
        return []
    if task is CLASSIFICATION:
        return signatures(tables_of_expressions(trees, weights))
    every = [None] * len(trees) if weights is None else weights
    return regression.keys([weighted(tree, w) for tree, w in zip(trees, every, strict=True)])


def parameters(task: Task, trees: Sequence[Expression]) -> tuple[Any, Any]:
    """Return (edge weights `[P, L]` of 1, what else slopes take): where a local search starts."""
    if task is REGRESSION:
        return regression.encode(trees)
    tape = tape_of(trees)
    return tape.weights, tape


def tape_of(trees: Sequence[Expression]) -> Tape:
    """Return the tape of trees, of lengths that few programs need to be compiled for."""
    length = doubled(max(tree.size for tree in trees), _SHORTEST)
    programs = [compile_program(tree, length) for tree in trees]
    return tape_of_programs(jax.tree.map(lambda *x: np.stack(x), *programs), OPERATORS, length)
