"""The state of a search: a history, and which of its losses are alive."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from edl_jax.core.errors import UserError
from edl_jax.search.nlfs.history import Entry


class NLFSState(NamedTuple):
    """A search between two generations.

    Attributes:
      seed: of the search.
      generation: generations done.
      iteration: iterations done, those that were skipped included.
      history: every loss that was tried, in that order.
      population: places in the history of the losses that are alive; none until all first losses are tried.
    """

    seed: int
    generation: int = 0
    iteration: int = 0
    history: tuple[Entry, ...] = ()
    population: tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return the state as text."""
        return json.dumps({**self._asdict(), "history": [entry.to_dict() for entry in self.history]})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NLFSState":
        """Return the state of the data in what `to_json` gave.

        Raises:
          UserError: it is no text of a state.
        """
        try:
            seed, generation, iteration = (int(data[name]) for name in ("seed", "generation", "iteration"))
            history = tuple(Entry.from_dict(entry) for entry in data["history"])
            population = tuple(int(place) for place in data["population"])
            if not all(0 <= place < len(history) for place in population):
                raise ValueError("a place in the population is outside the history")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"this is no state of NLFS ({type(error).__name__}: {error}): search again") from error
        return cls(seed, generation, iteration, history, population)
