"""The state of a search by genetic programming: population, archive, best, as values that JSON can hold."""

import dataclasses
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from edl_jax.core.errors import UserError
from edl_jax.loss.expression import Expression
from edl_jax.loss.expression.evomal import from_tree, to_tree


class Member(NamedTuple):
    """A tree of the population.

    Attributes:
      tree: the tree, its edges not weighted.
      fitness: its fitness, or None before it has one.
    """

    tree: Expression
    fitness: float | None = None


class Evaluation(NamedTuple):
    """What evaluating a tree found.

    Attributes:
      fitness: the smaller, the better; infinity where the tree was rejected.
      weights: `[size]` edge weights that local search found, or None.
      rejected: whether the rejection protocol refused it.
    """

    fitness: float
    weights: tuple[float, ...] | None = None
    rejected: bool = False


class Entry(NamedTuple):
    """A tree that was evaluated, in the archive.

    Attributes:
      tree: the first tree that was met with its key.
      evaluation: what was found.
      generation: when.
    """

    tree: Expression
    evaluation: Evaluation
    generation: int


@dataclasses.dataclass(frozen=True)
class GPState:
    """State between two generations; a search that goes on from it makes the same trees.

    Attributes:
      seed: of the whole search; with the generation it makes the random numbers.
      generation: of the population, from 0.
      population: the members that are to be evaluated.
      archive: key -> the entry of every candidate that was evaluated.
      best: key of the best entry, or None where none has a finite fitness.
    """

    seed: int
    generation: int
    population: tuple[Member, ...]
    archive: Mapping[str, Entry] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    best: str | None = None

    @property
    def best_entry(self) -> Entry | None:
        """Return the best entry of the archive."""
        return None if self.best is None else self.archive[self.best]

    def to_dict(self) -> dict[str, Any]:
        """Return the state as data that JSON can hold, exactly."""
        return {
            "seed": self.seed,
            "generation": self.generation,
            "population": [{"tree": to_tree(m.tree), "fitness": _number(m.fitness)} for m in self.population],
            "archive": {key: _entry(entry) for key, entry in self.archive.items()},
            "best": self.best,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GPState":
        """Return the state that `to_dict` gave.

        Raises:
          UserError: the data are not those of a state.
        """
        try:
            population = tuple(Member(from_tree(m["tree"]), _number_of(m["fitness"])) for m in data["population"])
            archive = {key: _entry_of(entry) for key, entry in data["archive"].items()}
            best = data["best"]
            if best is not None and best not in archive:
                raise ValueError(f"its best, {best}, is not in its archive")
            return cls(int(data["seed"]), int(data["generation"]), population, MappingProxyType(archive), best)
        except (UserError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"this is no state of a search ({type(error).__name__}: {error}): start the search again"
            ) from error

    def to_json(self) -> str:
        """Return the state as text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "GPState":
        """Return the state that `to_json` gave.

        Raises:
          UserError: the text is not that of a state.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UserError(f"this is no state of a search ({error}): start the search again") from error
        return cls.from_dict(data)


def _number(value: float | None) -> float | str | None:
    """Return a number as JSON has it; an infinity or NaN as text."""
    return value if value is None or math.isfinite(value) else str(value)


def _number_of(value: Any) -> float | None:
    return None if value is None else float(value)


def _entry(entry: Entry) -> dict[str, Any]:
    fitness, weights, rejected = entry.evaluation
    return {
        "tree": to_tree(entry.tree),
        "fitness": _number(fitness),
        "weights": None if weights is None else list(weights),
        "rejected": rejected,
        "generation": entry.generation,
    }


def _entry_of(data: Mapping[str, Any]) -> Entry:
    weights = None if data["weights"] is None else tuple(float(w) for w in data["weights"])
    evaluation = Evaluation(float(data["fitness"]), weights, bool(data["rejected"]))
    return Entry(from_tree(data["tree"]), evaluation, int(data["generation"]))
