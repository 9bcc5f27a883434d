"""What all candidates that are trained alike share: student, examples, batches, first weights."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.search import families, racing, students
from edl_jax.search.parts import Parts
from edl_jax.search.split import Split, batches
from edl_jax.search.tabular import TabularSplit
from edl_jax.search.tasks import Task

_SMALL = 2**18  # parameters of a student


class Training:
    """The training of candidates, each with a student of its own, from the same first weights on the same batches.

    Attributes:
      config: how students are trained.
      split: examples.
      student: architecture.
      family: of the candidates.
      trainer: of the student.
      evaluator: of the student, on the validation examples.
      examples: for training.
      key: of the students' first weights.
      rows: int32 `[steps, B]`, batches.
      noise: key of dropout and augmentation, or None where there is neither.
    """

    def __init__(
        self,
        config: students.StudentConfig,
        split: Split | TabularSplit,
        seed: int,
        candidates: Mapping[Task, families.Family] = families.TREES,
    ) -> None:
        """Take settings and examples.

        Args:
          config: how students are trained.
          split: examples; images have the size that the settings ask for already.
          seed: of first weights, batches, dropout and augmentation.
          candidates: task -> their family; in classification all are tables.

        Raises:
          UserError: a student that cannot take these images, or settings that do not suit them.
        """
        self.config, self.split = config, split
        plain = students.create(config.arch, split)
        if isinstance(split, TabularSplit):
            for name in ("image_size", "rand_augment"):
                require(not getattr(config, name), f"{name} is {getattr(config, name)}, expected none for a table")
            self.student = plain
        else:
            side = config.image_size
            require(
                side is None or split.images.shape[:2] == (side, side),
                f"images are {split.images.shape[0]}x{split.images.shape[1]} pixels, expected {side}x{side}: load the "
                "data set with that image_size",
            )
            self.student = config.noisy(plain, split.images)
        self.family = candidates[self.student.task]
        optimizer = config.make_optimizer(self.student)
        self.trainer = students.Trainer(self.student, optimizer, gradient=self.family.gradient)
        self.evaluator = students.Evaluator(self.student, *split.validation)
        self.examples = students.Examples.of(self.student, *split.train)
        self.key = jax.random.fold_in(jax.random.key(seed), 1)
        self.rows = jnp.asarray(batches(seed + 2, len(self.examples.labels), config.steps, config.batch_size))
        noisy = config.dropout or config.rand_augment > 0
        self.noise = jax.random.fold_in(jax.random.key(seed), 3) if noisy else None

    @property
    def task(self) -> Task:
        """What students are trained for."""
        return self.student.task

    def parts(self, candidates: Any, *, at_least: int = 1) -> Parts:
        """Return untrained students of candidates, arrays `[P, ...]`; see `racing.run` for `at_least`."""
        return Parts(
            self.trainer,
            self.evaluator,
            candidates,
            self.examples,
            self.rows,
            self.key,
            noise=self.noise,
            at_least=at_least,
        )

    def race(
        self,
        candidates: Any,
        rungs: racing.RacingConfig | None = None,
        *,
        at_least: int = 1,
        on_steps: Callable[[int, int], None] | None = None,
    ) -> racing.Race:
        """Return the race of candidates.

        Args:
          candidates: tables `[P, 2, K]`, or what else the trainer takes, arrays `[P, ...]`.
          rungs: the race; None to train all in full.
          at_least: candidates that programs are made for, where there are fewer.
          on_steps: called with the steps done and the candidates that run, often; what it raises ends the race.
        """
        return racing.run(
            self.trainer,
            self.evaluator,
            candidates,
            self.examples,
            self.rows,
            self.key,
            rungs or racing.full(self.config.steps),
            noise=self.noise,
            at_least=at_least,
            on_steps=on_steps,
        )

    def places(self, count: int) -> int:
        """Return how many candidates programs are made for, at least, where races are of up to `count`.

        Candidates of a small student that do not run cost a CPU nothing, another program seconds of compilation; those
        of a large one are copied at every step.
        """
        size = sum(np.prod(x.shape) for x in jax.tree.leaves(jax.eval_shape(self.student.init, self.key)))
        return count if jax.default_backend() == "cpu" and size < _SMALL else 1
