"""ML3: a network that a local search trains."""

import json

import jax
import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.search import ml3
from edl_jax.search.config import SearchConfig
from edl_jax.search.families import encode_networks
from edl_jax.search.methods.base import Method, Row, Winner, mapping_of, row_of
from edl_jax.search.trials import Report, Trials


class ML3(Method):
    """A network that a local search trains: one candidate, one generation."""

    def __init__(self, config: SearchConfig, trials: Trials) -> None:
        self._config, self._trials = config, trials

    def init(self) -> Winner | None:
        """Return nothing: there is no population."""
        return None

    def advance(self, state: Winner | None, report: Report) -> tuple[Winner | None, Row]:
        """Train the network, and a student with it."""
        first = ml3.init(jax.random.fold_in(jax.random.key(self._config.seed), 2))
        found = self._trials.descend(jax.tree.map(lambda x: np.asarray(x)[None], first), None, report)
        race = self._trials.train(encode_networks(self._trials.task, found.params), report)
        params = jax.tree.map(lambda x: np.asarray(x)[0], found.params)
        fitness = float(race.fitness[0])
        counts = {"diverged": int(not np.isfinite(fitness)), "trained": 1, "steps": int(race.steps.sum())}
        return Winner(fitness, 1, params=params), row_of([fitness], fitness, counts)

    def dump(self, state: Winner | None) -> str:
        """Return the state as text."""
        assert state is not None
        leaves = [np.asarray(leaf).ravel().tolist() for leaf in jax.tree.leaves(state.params)]
        return json.dumps({"fitness": str(state.fitness), "params": leaves})

    def load(self, text: str) -> Winner | None:
        """Return the state that `dump` gave."""
        data = mapping_of(text)
        leaves, structure = jax.tree.flatten(jax.eval_shape(ml3.init, jax.random.key(0)))
        try:
            found = [
                np.array(x, leaf.dtype).reshape(leaf.shape) for x, leaf in zip(data["params"], leaves, strict=True)
            ]
            return Winner(float(data["fitness"]), 1, params=jax.tree.unflatten(structure, found))
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(f"this is no state of a search ({error}): start the search again") from error

    def winners(self, state: Winner | None, count: int) -> list[Winner]:
        """Return the network."""
        return [] if state is None or not np.isfinite(state.fitness) else [state]
