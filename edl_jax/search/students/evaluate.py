"""Error and loss of many students at once on the first of some examples: those of their task."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.backend import compiler
from edl_jax.core.errors import require
from edl_jax.search.students.base import Student
from edl_jax.search.students.train import Examples, Population


class Score(NamedTuple):
    """How students do their task.

    Attributes:
      error: `[P]` float64 error rate, or mean squared error; infinite for a student that ended as not finite, or has an
        output that is.
      loss: `[P]` float64 mean cross-entropy, or squared error, likewise.
    """

    error: np.ndarray
    loss: np.ndarray


class Evaluator:
    """The compiled evaluation of an architecture on some examples: one program a `bucket`, for any part of them."""

    def __init__(
        self,
        student: Student,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        batch_size: int = 250,
        vectorised: bool | None = None,
    ) -> None:
        """Take an architecture and examples.

        Args:
          student: the architecture.
          images: `[M, H, W, channels]` uint8, or rows of a table `[M, F]` float32.
          labels: `[M]` integer classes, or numbers.
          batch_size: examples of a step of the evaluation.
          vectorised: whether candidates are one `jax.vmap`; None for all but CPUs.
        """
        self.student = student
        self.vectorised = jax.default_backend() != "cpu" if vectorised is None else vectorised
        self.size = len(labels)
        self._batch_size = min(batch_size, self.size)
        examples = Examples.of(student, images, labels)
        missing = -self.size % self._batch_size
        self._examples = jax.tree.map(lambda x: jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)), examples)
        self._evaluate = jax.jit(self._sums, compiler_options=compiler.options())  # type: ignore[call-overload]

    def __call__(self, population: Population, *, count: int | None = None, active: np.ndarray | None = None) -> Score:
        """Evaluate students.

        Args:
          population: P of them.
          count: examples, the first ones; None for all.
          active: `[P]` bool, which students; the others' scores are infinite. None for all.

        Raises:
          UserError: there are not so many examples.
        """
        count = self.size if count is None else count
        require(1 <= count <= self.size, f"evaluation on {count} examples, expected 1 to the {self.size} there are")
        if active is None:
            active = np.ones(population.finite.shape, bool)
        sums = self._evaluate(population, self._examples, jnp.int32(count), jnp.asarray(active))
        error, loss = np.asarray(sums, np.float64) / count
        bad = ~(np.asarray(population.finite) & np.isfinite(loss) & active)
        return Score(np.where(bad, np.inf, error), np.where(bad, np.inf, loss))

    def _sums(self, population: Population, examples: Examples, count: jax.Array, active: jax.Array) -> jax.Array:
        size = self._batch_size

        def batch(i: jax.Array, sums: jax.Array) -> jax.Array:
            taken = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, i * size, size), examples)
            inputs = jax.lax.optimization_barrier(self.student.prepare(taken.inputs, None))  # as in training
            used = i * size + jnp.arange(size) < count

            def one(params: object, stats: object) -> jax.Array:
                logits = self.student.logits(params, stats, inputs)
                error, loss = (f(logits, taken.labels) for f in (self.student.task.errors, self.student.task.losses))
                # An infinite logit of a class beside the true one would be no loss, and is no sound student.
                loss = jnp.where(jnp.all(jnp.isfinite(logits), axis=-1), loss, jnp.nan)
                return jnp.stack([jnp.sum(error, where=used), jnp.sum(loss, where=used)])

            if self.vectorised:
                return sums + jax.vmap(one)(population.params, population.stats).T

            def member(p: jax.Array, sums: jax.Array) -> jax.Array:
                def add(sums: jax.Array) -> jax.Array:
                    params, stats = jax.tree.map(lambda x: x[p], (population.params, population.stats))
                    return sums.at[:, p].add(one(params, stats))

                return jax.lax.cond(active[p] & population.finite[p], add, lambda sums: sums, sums)

            return jax.lax.fori_loop(0, sums.shape[1], member, sums)

        empty = jnp.zeros((2, population.finite.shape[0]))
        return jax.lax.fori_loop(0, (count + size - 1) // size, batch, empty)
