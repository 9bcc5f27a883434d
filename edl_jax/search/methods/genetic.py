"""EvoMAL and GP-LFL: genetic programming, with and without a local search."""

from collections.abc import Sequence

import numpy as np

from edl_jax.search import families, gp
from edl_jax.search.config import SearchConfig
from edl_jax.search.methods.base import Method, Row, Winner, row_of
from edl_jax.search.trials import Report, Trials


class GeneticProgramming(Method):
    """EvoMAL, and GP-LFL, which is the same without a local search."""

    def __init__(self, config: SearchConfig, trials: Trials) -> None:
        self._config, self._gp, self._trials = config, config.gp, trials

    def init(self) -> gp.GPState:
        """Return the first population."""
        return gp.init(self._gp, self._config.seed, self._config.trees)

    def advance(self, state: gp.GPState, report: Report) -> tuple[gp.GPState, Row]:
        """Try what is new in the population, and breed the next one."""
        keys = self._trials.keys([member.tree for member in state.population])
        asked = gp.ask(self._gp, state, keys)
        found: dict[int, gp.Evaluation] = {}
        counts: dict[str, int] = {}
        if asked:
            outcome = self._trials.try_trees([state.population[i].tree for i in asked], report)
            found, counts = dict(zip(asked, outcome.evaluations, strict=True)), outcome.counts
        new = gp.tell(self._gp, state, keys, found, self._trials.keys if self._gp.retries else None)
        new_counts = {**counts, "known": len(keys) - len(asked) + counts.get("known", 0)}
        best = new.best_entry
        fitness = [evaluation.fitness for evaluation in found.values()]
        return new, row_of(fitness, None if best is None else best.evaluation.fitness, new_counts)

    def dump(self, state: gp.GPState) -> str:
        """Return the state as text."""
        return state.to_json()

    def load(self, text: str) -> gp.GPState:
        """Return the state that `dump` gave; what it tried is known from now on."""
        state = gp.GPState.from_json(text)
        entries = [*state.archive.values()]
        self._trials.remember([entry.tree for entry in entries], [entry.evaluation for entry in entries])
        return state

    def winners(self, state: gp.GPState, count: int) -> list[Winner]:
        """Return the best entries of the archive."""
        entries = sorted(
            (e for e in state.archive.values() if np.isfinite(e.evaluation.fitness)),
            key=lambda e: (e.evaluation.fitness, e.tree.size, e.generation),
        )[: 4 * count]
        found = [Winner(e.evaluation.fitness, e.generation + 1, e.tree, e.evaluation.weights) for e in entries]
        return self._distinct(found)[:count]

    def _distinct(self, winners: Sequence[Winner]) -> list[Winner]:
        """Return those of which no earlier one is the same loss."""
        trees = [winner.tree for winner in winners if winner.tree is not None]
        keys = families.keys(self._trials.task, trees, [winner.weights for winner in winners])
        first = {key: i for i, key in reversed([*enumerate(keys)])}
        return [winners[i] for i in sorted(first.values())]
