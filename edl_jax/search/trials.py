"""Trials of candidates: rejection, local search and training, with what all candidates of a run share."""

import collections
import contextlib
import functools
import time
from collections import abc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from edl_jax.loss.expression import Expression
from edl_jax.search import families, kernel_store, racing, students
from edl_jax.search.config import SearchConfig
from edl_jax.search.gp import Evaluation
from edl_jax.search.local_search import Exact, Guarded, Linearised, LocalSearch, MatrixFree, check_method
from edl_jax.search.rejection import reject
from edl_jax.search.sequence import Sequence, draw
from edl_jax.search.split import Split
from edl_jax.search.tabular import TabularSplit
from edl_jax.search.tasks import Task
from edl_jax.search.training import Training

# Called with what is done and how far it is; what it raises ends the trial.
Report = Callable[[str], None]


class Outcome(NamedTuple):
    """What the trial of some candidates found.

    Attributes:
      evaluations: one a candidate.
      counts: how many were `rejected`, `known` (their table after the local search is that of an earlier candidate),
        `diverged`, `strong` (a linearised step moved logits too far to be trusted) and `trained`, and the
        `steps` that they were trained.
    """

    evaluations: list[Evaluation]
    counts: dict[str, int]


class Trials:
    """What all candidates of a run share: their training, the local search and its tangent kernels.

    Attributes:
      config: settings, settled for the student.
      training: of the candidates.
      descent: settings of the local search.
      directory: where tangent kernels may lie that do not fit in memory, or None.
      seconds: part -> wall seconds spent so far.
    """

    def __init__(self, config: SearchConfig, split: Split | TabularSplit) -> None:
        """Take settings and examples.

        Raises:
          UserError: a student that cannot take these images, or that has no local search of this kind.
        """
        candidates = families.NETWORKS if config.method == "ml3" else families.TREES
        self.training = Training(config, split, config.seed, candidates)
        self.config = config.settled(self.student)
        assert self.config.lr is not None
        self.descent = self.config.descent(self.config.lr)
        check_method(self.config.local_search, self.student, self.descent)
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.directory: Path | None = None
        self._local_search: LocalSearch | None = None
        self._known: dict[str, float] = {}

    @property
    def student(self) -> students.Student:
        """The student's architecture."""
        return self.training.student

    @property
    def task(self) -> Task:
        """What the student is trained for."""
        return self.training.task

    @functools.cached_property
    def free_outputs(self) -> np.ndarray:
        """Return the outputs of the untrained student that rejection descends on: of the first training examples."""
        params, stats = self.student.init(self.training.key)
        first = self.training.examples.inputs[: self.config.rejection.examples]
        return np.asarray(self.student.logits(params, stats, self.student.prepare(first, None)))

    def keys(self, trees: abc.Sequence[Expression]) -> list[str]:
        """Return a key for each tree, equal for those that are one candidate."""
        return families.keys(self.task, trees)

    def prepare(self, report: Report) -> None:
        """Compute what a local search needs once a run."""
        if self.config.local_search == "none" or self._local_search is not None:
            return
        with self._timed("kernels"):
            self._local_search = self._make_local_search(report)

    def remember(self, trees: abc.Sequence[Expression], evaluations: abc.Sequence[Evaluation]) -> None:
        """Take candidates that were tried earlier, so that one whose table becomes one of theirs is known."""
        found = [(t, e) for t, e in zip(trees, evaluations, strict=True) if not e.rejected]
        keys = families.keys(self.task, [t for t, _ in found], [e.weights for _, e in found])
        for key, (_, evaluation) in zip(keys, found, strict=True):
            self._known.setdefault(key, evaluation.fitness)

    def try_trees(self, trees: abc.Sequence[Expression], report: Report, *, filtered: bool = True) -> Outcome:
        """Return what the trial of trees finds.

        Args:
          trees: at least one, each another candidate.
          report: called with what is being done, at least every second or so.
          filtered: whether candidates may be rejected.
        """
        self.prepare(report)
        count = len(trees)
        rejected = np.zeros(count, bool)
        weights: list[tuple[float, ...] | None] = [None] * count
        strong = 0
        first = self.config.filter_order == "fast" or self.config.local_search == "none"
        if filtered and first:
            rejected = self._rejected(trees, weights)
        if self.config.local_search != "none":
            left = np.flatnonzero(~rejected).tolist()
            found, strong = self._search_locally([trees[i] for i in left], report)
            for i, w in zip(left, found, strict=True):
                weights[i] = w
            if filtered and not first:
                rejected = self._rejected(trees, weights)
        left = np.flatnonzero(~rejected).tolist()
        fitness, counts = self._fitness([trees[i] for i in left], [weights[i] for i in left], report)
        values = np.full(count, np.inf)
        values[left] = fitness
        evaluations = [Evaluation(float(f), w, bool(r)) for f, w, r in zip(values, weights, rejected, strict=True)]
        return Outcome(evaluations, {"rejected": int(rejected.sum()), "strong": strong, **counts})

    def train(self, candidates: Any, report: Report) -> racing.Race:
        """Return the race of candidates: their fitness."""

        def on_steps(done: int, running: int) -> None:
            report(f"training {running} candidates, step {done} of {self.config.steps}")

        with self._timed("training"):
            return self.training.race(candidates, self.config.rungs, at_least=self.places, on_steps=on_steps)

    def descend(self, params: Any, candidates: Any, report: Report) -> Any:
        """Return the `Found` of the local search from parameters."""
        self.prepare(report)
        assert self._local_search is not None
        count = len(jax.tree.leaves(params)[0])

        def on_step(done: int) -> None:
            report(f"local search of {count} candidates, step {done} of {self.config.local_steps}")

        with self._timed("local_search"):
            return self._local_search(params, candidates, on_step)

    @functools.cached_property
    def places(self) -> int:
        """Return how many candidates programs of training are made for, at least."""
        return self.training.places(self.config.population_size)

    def sequence(self, steps: int) -> Sequence:
        """Return what the first steps of the local search learn from."""
        return draw(
            self.training.examples,
            self._validation,
            self.config.seed,
            steps=steps,
            inner_steps=self.config.inner_steps,
            batch_size=self.config.batch_size,
        )

    @functools.cached_property
    def _validation(self) -> students.Examples:
        """Return the validation examples as the local search reads them: `linear` computes features of them."""
        return students.Examples.of(self.student, *self.training.split.validation)

    def _make_local_search(self, report: Report) -> LocalSearch:
        slopes = self.training.family.slopes
        sequence = self.sequence(self.config.local_steps)
        if self.config.local_search == "exact":
            return Exact(slopes, self.descent, self.student, sequence)
        if self.config.local_search == "matrix_free":
            return MatrixFree(slopes, self.descent, self.student, sequence)
        kernels = kernel_store.compute(
            self.student,
            sequence,
            decay=self.descent.decay,
            directory=self.directory,
            on_step=lambda done: report(f"tangent kernel {done} of {self.config.local_steps}"),
        )
        linearised = Linearised(slopes, self.descent, kernels)
        if self.config.local_search == "linearised":
            return linearised
        return Guarded(linearised, Exact(slopes, self.descent, self.student, sequence))

    def _rejected(self, trees: abc.Sequence[Expression], weights: abc.Sequence[tuple[float, ...] | None]) -> np.ndarray:
        with self._timed("rejection"):
            targets = np.asarray(self.training.examples.labels[: self.config.rejection.examples])
            return reject(
                families.encode_trees(self.task, trees, weights),
                self.free_outputs,
                targets,
                self.config.rejection,
                task=self.task,
                gradient=self.training.family.gradient,
            ).rejected

    def _search_locally(self, trees: abc.Sequence[Expression], report: Report) -> tuple[list[tuple[float, ...]], int]:
        """Return the edge weights that a local search finds, and how many candidates were too strong for it."""
        if not trees:
            return [], 0
        found = self.descend(*families.parameters(self.task, trees), report)
        weights = [tuple(float(x) for x in w[: t.size]) for w, t in zip(found.params, trees, strict=True)]
        return weights, int(np.sum(found.moves > Guarded.LIMIT))

    def _fitness(
        self, trees: abc.Sequence[Expression], weights: abc.Sequence[tuple[float, ...] | None], report: Report
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Return the fitness of candidates; those that became what was trained before have theirs."""
        counts = dict.fromkeys(("known", "trained", "diverged", "steps"), 0)
        if not trees:
            return np.zeros(0), counts
        candidates = families.encode_trees(self.task, trees, weights)
        keys = families.keys(self.task, trees, weights)
        new = {key: i for i, key in reversed([*enumerate(keys)]) if key not in self._known}
        rows = sorted(new.values())
        counts["known"], counts["trained"] = len(keys) - len(rows), len(rows)
        if rows:
            race = self.train(jax.tree.map(lambda x: x[np.array(rows)], candidates), report)
            counts["diverged"], counts["steps"] = int(np.sum(~np.isfinite(race.error))), int(race.steps.sum())
            self._known |= {keys[i]: float(f) for i, f in zip(rows, race.fitness, strict=True)}
        return np.array([self._known[key] for key in keys]), counts

    @contextlib.contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start
