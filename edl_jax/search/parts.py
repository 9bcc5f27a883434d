"""Candidates of a race in parts: on a CPU one part a core, trained at the same time by one program each.

A CPU's cores are poorly used by one program of small matrix products: two such programs in two threads train half as
many candidates again in the same time.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.threads import Threads
from edl_jax.search.students.evaluate import Evaluator, Score
from edl_jax.search.students.train import LARGEST_BUCKET, Examples, Population, Trainer, bucket


class _Part(NamedTuple):
    """Some candidates, padded to the size of a program.

    Attributes:
      members: `[M]` their numbers.
      tables: arrays `[size, ...]`.
      population: arrays `[size, ...]`.
    """

    members: np.ndarray
    tables: Any
    population: Population


class Parts:
    """The candidates of a race, in parts that one program trains."""

    def __init__(
        self,
        trainer: Trainer,
        evaluator: Evaluator,
        tables: Any,
        examples: Examples,
        rows: jax.Array,
        key: jax.Array,
        *,
        noise: jax.Array | None = None,
        at_least: int = 1,
    ) -> None:
        """Take what `racing.run` takes."""
        self._trainer, self._evaluator = trainer, evaluator
        self._examples, self._rows, self._noise = examples, rows, noise
        self._cores = 1 if trainer.vectorised else os.cpu_count() or 1
        self._count, self._at_least = len(jax.tree.leaves(tables)[0]), at_least
        self._parts = []
        for members in self._divided(np.arange(self._count)):
            padded = self._padded(members)
            part = jax.tree.map(lambda x, padded=padded: jnp.asarray(x)[padded], tables)
            self._parts.append(_Part(members, part, trainer.init(key, len(padded))))

    def advance(self, running: np.ndarray, start: int, stop: int) -> None:
        """Train the candidates `running`."""

        def train(part: _Part, active: np.ndarray) -> _Part:
            population = self._trainer.advance(
                part.population,
                part.tables,
                self._examples,
                self._rows,
                start,
                stop,
                active=jnp.asarray(active),
                key=self._noise,
            )
            return part._replace(population=jax.block_until_ready(population))

        self._parts = self._each(train, running)

    def score(self, running: np.ndarray, count: int) -> Score:
        """Return the scores of the candidates `running` on `count` validation examples."""
        found = np.full((2, self._count), np.inf)

        def evaluate(part: _Part, active: np.ndarray) -> _Part:
            score = self._evaluator(part.population, count=count, active=active)
            found[:, part.members] = np.stack(score)[:, : len(part.members)]
            return part

        self._each(evaluate, running)
        return Score(*found[:, running])

    def keep(self, running: np.ndarray) -> None:
        """Divide the candidates `running` anew, so that parts have equal work; the others are left behind."""
        if len(running) == 0:
            return
        place = {m: (i, j) for i, part in enumerate(self._parts) for j, m in enumerate(part.members)}
        new = []
        for members in self._divided(running):
            places = [place[m] for m in self._padded(members)]
            # On a CPU NumPy gathers without a program for each shape.
            stack = jnp.stack if self._trainer.vectorised else lambda leaves: jnp.asarray(np.stack(leaves))
            one = [
                jax.tree.map(lambda x, j=j: x[j], self._host((self._parts[i].tables, self._parts[i].population)))
                for i, j in places
            ]
            tables, population = jax.tree.map(lambda *leaves, stack=stack: stack(leaves), *one)
            new.append(_Part(members, tables, population))
        self._parts = new

    def _divided(self, members: np.ndarray) -> list[np.ndarray]:
        """Return the members of each part."""
        count = max(min(self._cores, len(members)), -(-len(members) // LARGEST_BUCKET))
        return np.array_split(members, count)

    def _padded(self, members: np.ndarray) -> np.ndarray:
        """Return members with the last one repeated, as many as a program is compiled for."""
        least = -(-min(self._at_least, self._cores * LARGEST_BUCKET) // self._cores)
        size = bucket(min(max(len(members), least), LARGEST_BUCKET))
        return np.pad(members, (0, size - len(members)), mode="edge")

    def _host(self, tree: Any) -> Any:
        return tree if self._trainer.vectorised else jax.tree.map(np.asarray, tree)

    def _each(self, function: Callable[[_Part, np.ndarray], _Part], running: np.ndarray) -> list[_Part]:
        """Return the parts after `function` of each in which candidates run, at the same time on a CPU."""
        chosen: Sequence[np.ndarray] = [
            np.pad(np.isin(part.members, running), (0, part.population.finite.shape[0] - len(part.members)))
            for part in self._parts
        ]
        pairs = list(zip(self._parts, chosen, strict=True))
        if self._trainer.vectorised or len(pairs) == 1:
            return [function(part, active) if active.any() else part for part, active in pairs]
        with Threads(len(pairs)) as threads:
            begun = [threads.submit(function, part, active) if active.any() else None for part, active in pairs]
            return [part if task is None else task.result() for (part, _), task in zip(pairs, begun, strict=True)]
