"""Fitness of candidates by training students: all in full, or in a race that stops those that fall behind.

Successive halving over steps: all are trained to the first rung and evaluated there, on a part of the validation
examples; the better share goes on from where it is, to the next rung. Nothing is trained twice. With one rung it is the
papers' protocol: every candidate trained in full, on all validation examples.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.search.students.evaluate import Evaluator, Score
from edl_jax.search.students.train import LARGEST_BUCKET, Examples, Population, Trainer, bucket


@dataclasses.dataclass(frozen=True)
class RacingConfig:
    """Settings of a race."""

    rungs: tuple[int, ...] = (25, 50, 150, 500)
    """Steps that students are evaluated after, ascending; the last is the whole training."""
    kept: tuple[float, ...] = (0.6, 0.35, 0.2)
    """Share of all candidates, descending, that goes on from each rung but the last."""
    least: int = 2
    """Candidates that go on at least."""
    examples: int = 2000
    """Validation examples of the rungs but the last, at most; the last takes all."""

    def __post_init__(self) -> None:
        rungs, kept = self.rungs, self.kept
        require(
            len(rungs) > 0 and rungs[0] >= 1 and all(a < b for a, b in itertools.pairwise(rungs)),
            f"rungs are {rungs}, expected ascending numbers of steps",
        )
        require(
            len(kept) == len(rungs) - 1,
            f"kept has {len(kept)} shares for {len(rungs)} rungs, expected one for each rung but the last",
        )
        require(
            all(0.0 < b <= a for a, b in itertools.pairwise((1.0, *kept))),
            f"kept is {kept}, expected descending shares of at most 1",
        )
        require(self.least >= 1, f"least is {self.least}, expected at least 1 candidate")
        require(self.examples >= 1, f"examples is {self.examples}, expected at least 1")

    def going_on(self, rung: int, count: int) -> int:
        """Return how many of `count` candidates go on from a rung."""
        return min(count, max(self.least, round(self.kept[rung] * count)))


def full(steps: int = 500) -> RacingConfig:
    """Return the papers' protocol: no race."""
    return RacingConfig(rungs=(steps,), kept=())


class Race(NamedTuple):
    """Outcome of a race for P candidates.

    Attributes:
      fitness: `[P]` float64, error at the last rung reached, but at least the largest of those that went further:
        the order of fitness is that of the race. Infinite for candidates that ended as not finite.
      error: `[P]` float64, error rate (in regression mean squared error) at the last rung reached.
      loss: `[P]` float64, the task's loss there.
      steps: `[P]` int, steps trained.
      errors: `[R, P]` float64, error at each rung; NaN where a candidate was not evaluated.
    """

    fitness: np.ndarray
    error: np.ndarray
    loss: np.ndarray
    steps: np.ndarray
    errors: np.ndarray


def run(
    trainer: Trainer,
    evaluator: Evaluator,
    tables: Any,
    examples: Examples,
    rows: np.ndarray | jax.Array,
    key: jax.Array,
    config: RacingConfig | None = None,
    *,
    dropout: jax.Array | None = None,
    on_rung: Callable[[int, np.ndarray], None] | None = None,
) -> Race:
    """Race candidates.

    Args:
      trainer: of the student.
      evaluator: of the same student, on validation examples.
      tables: `[P, 2, K]` slopes, or what else the trainer takes, arrays `[P, ...]`.
      examples: training examples.
      rows: int32 `[steps, B]`, batches of at least as many steps as the last rung.
      key: of the students' first weights, the same for all.
      config: settings.
      dropout: key of dropout; None for none.
      on_rung: called with the rung and the errors `[P]` so far, infinite where unknown.
    """
    config = config or RacingConfig()
    count = len(jax.tree.leaves(tables)[0])
    require(count >= 1, "a race of no candidates, expected at least 1")
    parts = _Parts(trainer, evaluator, tables, examples, jnp.asarray(rows), key, dropout)
    errors = np.full((len(config.rungs), count), np.nan)
    losses = np.full(count, np.inf)
    steps = np.zeros(count, int)
    running = np.arange(count)
    for rung, stop in enumerate(config.rungs):
        last = rung == len(config.rungs) - 1
        start = config.rungs[rung - 1] if rung else 0
        score = parts.advance(running, start, stop, evaluator.size if last else min(config.examples, evaluator.size))
        errors[rung, running], losses[running], steps[running] = score.error, score.loss, stop
        if on_rung is not None:
            on_rung(rung, np.where(np.isnan(errors[rung]), np.inf, errors[rung]))
        if not last:
            best = np.lexsort((score.loss, score.error))[: config.going_on(rung, count)]
            best = best[np.isfinite(score.error[best])]
            running = running[np.sort(best)]
            parts.keep(running)
            if len(running) == 0:
                break
    return _race(errors, losses, steps)


def _race(errors: np.ndarray, losses: np.ndarray, steps: np.ndarray) -> Race:
    reached = np.sum(~np.isnan(errors), axis=0) - 1
    error = errors[reached, np.arange(errors.shape[1])]
    fitness = error.copy()
    worst = -np.inf
    for rung in range(len(errors) - 1, -1, -1):
        here = reached == rung
        fitness[here] = np.maximum(fitness[here], worst)
        worst = max([worst, *fitness[here & np.isfinite(fitness)]])
    return Race(fitness, error, losses, steps, errors)


class _Parts:
    """The candidates of a race, in parts that one program trains."""

    def __init__(
        self,
        trainer: Trainer,
        evaluator: Evaluator,
        tables: Any,
        examples: Examples,
        rows: jax.Array,
        key: jax.Array,
        dropout: jax.Array | None,
    ) -> None:
        self._trainer, self._evaluator = trainer, evaluator
        self._examples, self._rows, self._dropout = examples, rows, dropout
        count = len(jax.tree.leaves(tables)[0])
        self._members: list[np.ndarray] = []
        self._tables, self._populations = [], []
        for start in range(0, count, LARGEST_BUCKET):
            members = np.arange(start, min(start + LARGEST_BUCKET, count))
            padded = np.pad(members, (0, bucket(len(members)) - len(members)), mode="edge")
            self._members.append(members)
            self._tables.append(jax.tree.map(lambda x, padded=padded: jnp.asarray(x)[padded], tables))
            self._populations.append(trainer.init(key, len(padded)))

    def advance(self, running: np.ndarray, start: int, stop: int, count: int) -> Score:
        """Train the candidates `running` and return their scores on `count` validation examples."""
        found = np.full((2, max(members.max() for members in self._members) + 1), np.inf)
        for i, members in enumerate(self._members):
            active = np.isin(members, running)
            if not active.any():
                continue
            size = self._populations[i].finite.shape[0]
            active = np.pad(active, (0, size - len(active)))
            self._populations[i] = self._trainer.advance(
                self._populations[i],
                self._tables[i],
                self._examples,
                self._rows,
                start,
                stop,
                active=jnp.asarray(active),
                key=self._dropout,
            )
            score = self._evaluator(self._populations[i], count=count, active=active)
            found[:, members] = np.stack(score)[:, : len(members)]
        return Score(*found[:, running])

    def keep(self, running: np.ndarray) -> None:
        """Gather the candidates `running` in fewer parts, where others would only take room and time.

        On a CPU candidates that do not run cost nothing, and a smaller program would have to be compiled.
        """
        if not self._trainer.vectorised or len(running) == 0:
            return
        places = [(i, j) for i, members in enumerate(self._members) for j, m in enumerate(members) if m in set(running)]
        if sum(len(members) for members in self._members) == len(places):
            return
        together: list[tuple[np.ndarray, object, Population]] = []
        for start in range(0, len(places), LARGEST_BUCKET):
            chosen = places[start : start + LARGEST_BUCKET]
            padded = chosen + [chosen[-1]] * (bucket(len(chosen)) - len(chosen))
            gathered = [jax.tree.map(lambda x, j=j: x[j], (self._tables[i], self._populations[i])) for i, j in padded]
            tables, population = jax.tree.map(lambda *x: jnp.stack(x), *gathered)
            together.append((np.array([self._members[i][j] for i, j in chosen]), tables, population))
        self._members, self._tables, self._populations = ([*x] for x in zip(*together, strict=True))
