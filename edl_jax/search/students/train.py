"""Training of many students at once, on the same batches from the same first weights, each with its candidate's loss.

What a batch is before it meets parameters is computed once for all. On a CPU the candidates of a step follow one
another in a loop inside the program, which leaves each in the cache and skips those that ended; products of many small
matrices have no fast kernel there. Elsewhere they are one `jax.vmap`. One program an architecture and a `bucket` of
candidates trains any number of steps.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax.backend import compiler
from edl_jax.core.errors import require
from edl_jax.search.students.base import Student
from edl_jax.search.students.layers import no_tap
from edl_jax.search.tables import logit_gradient
from edl_jax.search.tasks import CLASSIFICATION

# (candidate, outputs [B, C], targets [B]) -> gradient of each example's loss in the outputs [B, C]
Gradient = Callable[[Any, jax.Array, jax.Array], jax.Array]
_SMALLEST_BUCKET, LARGEST_BUCKET = 8, 32


class Examples(NamedTuple):
    """Examples on the device.

    Attributes:
      inputs: `[N, ...]`, what the student's `embed` returns.
      labels: `[N]` int32 classes, or float32 numbers.
    """

    inputs: jax.Array
    labels: jax.Array

    @classmethod
    def of(cls, student: Student, images: np.ndarray, labels: np.ndarray) -> "Examples":
        """Return images `[N, H, W, channels]` uint8, or rows of a table, and labels `[N]` as the student reads them."""
        return cls(jnp.asarray(student.embed(images)), jnp.asarray(labels, student.task.target_dtype))


class Population(NamedTuple):
    """Students in training, one for each candidate.

    Attributes:
      params: parameters, arrays `[P, ...]`.
      stats: running statistics, arrays `[P, ...]`.
      opt_state: state of the optimizer, arrays `[P, ...]`.
      finite: `[P]` bool, whether all its outputs and their gradients were finite; a student that met another one is
        left as it was then.
    """

    params: Any
    stats: Any
    opt_state: Any
    finite: jax.Array


def bucket(count: int) -> int:
    """Return how many candidates a program is compiled for that has to train `count`: 8, 16 or 32.

    Raises:
      UserError: fewer than one, or more than the largest program's, which `racing` trains in parts.
    """
    require(
        1 <= count <= LARGEST_BUCKET,
        f"{count} candidates at once, expected 1 to {LARGEST_BUCKET}: train them in parts",
    )
    return max(_SMALLEST_BUCKET, 1 << (count - 1).bit_length())


class Trainer:
    """The compiled training of an architecture: pure functions, kept together with what they were made of."""

    def __init__(
        self,
        student: Student,
        optimizer: optax.GradientTransformation,
        *,
        gradient: Gradient = logit_gradient,
        vectorised: bool | None = None,
    ) -> None:
        """Take an architecture and how it is trained.

        Args:
          student: the architecture.
          optimizer: of each student; `training.optimizer.sgd(0.01)` for EvoMAL's.
          gradient: of a candidate's loss; a candidate is an element of what `advance` takes as `tables`. That of tables
            is for classification: see `regression.gradient`.
          vectorised: whether candidates are one `jax.vmap`; None for all but CPUs.
        """
        if gradient is logit_gradient and student.task is not CLASSIFICATION:
            raise ValueError(f"{student.task.name} has no tables: give the gradient of its candidates")
        self.student, self.optimizer, self.gradient = student, optimizer, gradient
        self.vectorised = jax.default_backend() != "cpu" if vectorised is None else vectorised
        self._advance = jax.jit(
            self._steps,
            donate_argnames="population",
            compiler_options=compiler.options(),  # type: ignore[call-overload]
        )

    def init(self, key: jax.Array, count: int) -> Population:
        """Return `count` students of the same first weights, drawn by `key`."""
        params, stats = self.student.init(key)
        one = Population(params, stats, self.optimizer.init(params), jnp.ones((), bool))
        return jax.tree.map(lambda x: jnp.repeat(x[None], count, 0), one)

    def advance(
        self,
        population: Population,
        tables: jax.Array,
        examples: Examples,
        rows: jax.Array,
        start: int,
        stop: int,
        *,
        active: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> Population:
        """Train from step `start` to step `stop`; the arrays of `population` are used up.

        Args:
          population: of P students.
          tables: `[P, 2, K]`, or what else `gradient` takes, arrays `[P, ...]`.
          examples: training examples.
          rows: int32 `[steps, B]`, the examples of every step, `split.batches`.
          start: step that the students are at.
          stop: step to stop before, at most the number of rows.
          active: `[P]` bool, which students are trained; None for all.
          key: of dropout and augmentation, the same for all students; None for neither.

        Raises:
          UserError: there are not so many steps.
        """
        require(
            0 <= start <= stop <= len(rows), f"steps {start} to {stop}, expected at most the {len(rows)} of the batches"
        )
        if active is None:
            active = jnp.ones(population.finite.shape, bool)
        return self._advance(population, tables, examples, rows, jnp.int32(start), jnp.int32(stop), active, key)

    def _steps(
        self,
        population: Population,
        tables: jax.Array,
        examples: Examples,
        rows: jax.Array,
        start: jax.Array,
        stop: jax.Array,
        active: jax.Array,
        key: jax.Array | None,
    ) -> Population:
        def step(i: jax.Array, population: Population) -> Population:
            chosen = rows[i]
            step_key = None if key is None else jax.random.fold_in(key, i)
            # The barrier keeps XLA from computing them again for each candidate, inside the condition.
            inputs = jax.lax.optimization_barrier(self.student.prepare(examples.inputs[chosen], step_key))
            one = functools.partial(self.step, inputs=inputs, labels=examples.labels[chosen])
            return self._map(one, population, tables, active)

        return jax.lax.fori_loop(start, stop, step, population)

    def _map(
        self,
        one: Callable[[Population, Any], Population],
        population: Population,
        tables: Any,
        active: jax.Array,
    ) -> Population:
        """Return the population after `one` step of those that are active and finite."""
        if self.vectorised:
            new = jax.vmap(one)(population, tables)
            kept = _select(active & population.finite & new.finite, new, population)
            return kept._replace(finite=jnp.where(active, kept.finite, population.finite))

        def member(p: jax.Array, population: Population) -> Population:
            old, table = jax.tree.map(lambda x: x[p], (population, tables))

            def train(old: Population) -> Population:
                new = one(old, table)
                return _select(new.finite, new, old)

            new = jax.lax.cond(active[p] & old.finite, train, lambda old: old, old)
            return jax.tree.map(lambda all_of_them, x: all_of_them.at[p].set(x), population, new)

        return jax.lax.fori_loop(0, population.finite.shape[0], member, population)

    def step(self, old: Population, table: Any, *, inputs: Any, labels: jax.Array) -> Population:
        """Return one student after one step, whatever it met.

        Args:
          old: the student, arrays without the axis of candidates.
          table: its candidate.
          inputs: the batch as the student prepares it.
          labels: `[B]`.
        """

        def outputs(params: Any) -> tuple[jax.Array, Any]:
            return self.student.apply(params, old.stats, inputs, True, no_tap)

        logits, pull, stats = jax.vjp(outputs, old.params, has_aux=True)
        gradient = self.gradient(table, logits, labels)
        updates, opt_state = self.optimizer.update(pull(gradient / labels.shape[0])[0], old.opt_state, old.params)
        params = optax.apply_updates(old.params, updates)
        # Sums are finite where all that is summed is, and are two small reductions; weights that this step makes
        # infinite end the student at the next.
        return Population(params, stats, opt_state, jnp.isfinite(jnp.sum(logits)) & jnp.isfinite(jnp.sum(gradient)))


def _select(chosen: jax.Array, new: Population, old: Population) -> Population:
    """Return `new` where `chosen` (one bool, or `[P]`), else `old`; `finite` tells whether a new one was kept."""

    def pick(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(chosen.shape + (1,) * (a.ndim - chosen.ndim)), a, b)

    kept = jax.tree.map(pick, new, old)
    return kept._replace(finite=old.finite & new.finite)
