"""What methods of a search share: a winner, the steps of a method, the numbers of a generation."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.loss import Artifact, FormulaArtifact
from edl_jax.loss.expression import Expression, Record
from edl_jax.search import ml3
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.trials import Report

Row = dict[str, float | int | None]


class Winner(NamedTuple):
    """A candidate that a search found.

    Attributes:
      fitness: the smaller, the better.
      generation: in which it was tried, from 1.
      tree: its expression, or None for a network.
      weights: edge weights of the tree, or None.
      params: parameters of the network, or None.
    """

    fitness: float
    generation: int
    tree: Expression | None = None
    weights: tuple[float, ...] | None = None
    params: Any = None

    def table(self) -> np.ndarray:
        """Return its table `[2, K]` float32; it is one of classification."""
        if self.tree is None:
            return ml3.tables_of_params(self.network())[0]
        return tables_of_expressions([self.tree], [self.weights])[0]

    def network(self) -> Any:
        """Return its parameters as a population of one, leaves `[1, ...]`."""
        return jax.tree.map(lambda x: np.asarray(x)[None], self.params)

    def artifact(self, metadata: Mapping[str, Any]) -> Artifact | FormulaArtifact:
        """Return it as what `loss.save` writes."""
        if self.tree is None:
            return ml3.artifact(self.params, metadata)
        return FormulaArtifact(Record(self.tree, self.weights), metadata)


class Method(Protocol):
    """A search, as pure steps from state to state; `Trials` alone is shared."""

    def init(self) -> Any:
        """Return the state before the first generation."""
        ...

    def advance(self, state: Any, report: Report) -> tuple[Any, Row]:
        """Return the state after a generation, and numbers of that generation."""
        ...

    def dump(self, state: Any) -> str:
        """Return the state as text."""
        ...

    def load(self, text: str) -> Any:
        """Return the state that `dump` gave; `UserError` for another text."""
        ...

    def winners(self, state: Any, count: int) -> list[Winner]:
        """Return the best candidates so far, the best first, no candidate twice."""
        ...

    def store(self, state: Any, directory: Path) -> None:
        """Write into the run directory what a finished search leaves besides its best candidates: nothing."""

    def draw(self, state: Any, directory: Path, figure_format: str) -> list[Path]:
        """Write figures of the method into `directory`/figures, and return their paths: none."""
        return []


def row_of(fitness: Sequence[float], best: float | None, counts: Mapping[str, int]) -> Row:
    """Return what metrics.jsonl says of a generation."""
    finite = [x for x in fitness if np.isfinite(x)]
    return {
        "best": best,
        "generation_best": min(finite, default=None),
        "generation_median": float(np.median(finite)) if finite else None,
        "evaluated": counts.get("rejected", 0) + counts.get("trained", 0),
        **{name: counts.get(name, 0) for name in ("rejected", "known", "strong", "trained", "diverged", "steps")},
    }


def mapping_of(text: str) -> dict[str, Any]:
    """Return the JSON object that a checkpoint holds.

    Raises:
      UserError: it holds none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"this is no state of a search ({error}): start the search again") from error
    if not isinstance(found, dict):
        raise UserError(f"this is no state of a search (it is a {type(found).__name__}): start the search again")
    return found
