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
from edl_jax.search.parts import Parts
from edl_jax.search.students.evaluate import Evaluator
from edl_jax.search.students.train import Examples, Trainer

# Candidates times steps of a call, which nothing stops before its end.
_CALL_STEPS = 100


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
    limit: float | None = None
    """Error at a rung but the last above which a candidate ends, its fitness infinite (default: none)."""

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
        require(self.limit is None or 0.0 < self.limit < np.inf, f"limit is {self.limit}, expected a positive error")

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
        the order of fitness is that of the race. Infinite for candidates that ended as not finite, or above the limit.
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
    noise: jax.Array | None = None,
    at_least: int = 1,
    on_steps: Callable[[int, int], None] | None = None,
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
      noise: key of dropout and augmentation, the same for all; None for neither.
      at_least: candidates that programs are made for, where there are fewer: races of a search share them then.
      on_steps: called with the steps done and the candidates that run, often; what it raises ends the race.
    """
    config = config or RacingConfig()
    count = len(jax.tree.leaves(tables)[0])
    require(count >= 1, "a race of no candidates, expected at least 1")
    last_step = config.rungs[-1]
    require(last_step <= len(rows), f"steps 0 to {last_step}, expected at most the {len(rows)} of the batches")
    parts = Parts(trainer, evaluator, tables, examples, jnp.asarray(rows), key, noise=noise, at_least=at_least)
    errors = np.full((len(config.rungs), count), np.nan)
    losses = np.full(count, np.inf)
    steps = np.zeros(count, int)
    running = np.arange(count)
    limit = np.finfo(float).max if config.limit is None else config.limit
    for rung, stop in enumerate(config.rungs):
        last = rung == len(config.rungs) - 1
        start = config.rungs[rung - 1] if rung else 0
        while start < stop:
            done = min(stop, start + max(1, _CALL_STEPS // len(running)))
            parts.advance(running, start, done)
            start = done
            if on_steps is not None:
                on_steps(done, len(running))
        score = parts.score(running, evaluator.size if last else min(config.examples, evaluator.size))
        errors[rung, running], losses[running], steps[running] = score.error, score.loss, stop
        if not last:
            best = np.lexsort((score.loss, score.error))[: config.going_on(rung, count)]
            best = best[score.error[best] <= limit]
            running = running[np.sort(best)]
            parts.keep(running)
            if len(running) == 0:
                break
    return _race(errors, losses, steps, limit)


def _race(errors: np.ndarray, losses: np.ndarray, steps: np.ndarray, limit: float) -> Race:
    reached = np.sum(~np.isnan(errors), axis=0) - 1
    error = errors[reached, np.arange(errors.shape[1])]
    hopeless = (reached < len(errors) - 1) & (error > limit)
    fitness = np.where(hopeless, np.inf, error)
    worst = -np.inf
    for rung in range(len(errors) - 1, -1, -1):
        here = reached == rung
        fitness[here] = np.maximum(fitness[here], worst)
        worst = max([worst, *fitness[here & np.isfinite(fitness)]])
    return Race(fitness, error, losses, steps, errors)
