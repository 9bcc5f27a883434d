"""The linearised local search without kernels: for many classes, short memory, and students without a tangent kernel.

A candidate's training step moves the validation logits by -lr J_v J_t^T g. The kernel J_v J_t^T grows with the square
of the number of classes; here it is never formed. Each candidate costs a pass backward and one forward, and as many
again for its gradient: about half of an exact step, and nothing once a run.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.backend import compiler
from edl_jax.search.local_search.base import Found, LocalSearchConfig, OnStep, State, Step, follow, run
from edl_jax.search.sequence import Sequence
from edl_jax.search.students.base import Student
from edl_jax.search.students.layers import no_tap
from edl_jax.search.tasks import Slopes


class MatrixFree:
    """The linearised local search without kernels: one program for each `bucket` of candidates."""

    def __init__(
        self,
        slopes: Slopes,
        config: LocalSearchConfig,
        student: Student,
        sequence: Sequence,
        *,
        vectorised: bool | None = None,
    ) -> None:
        """Take a family, settings, a student and the run's sequence, of one inner step.

        Args:
          slopes: of the family.
          config: settings.
          student: any.
          sequence: of the run.
          vectorised: whether candidates are one `jax.vmap`; None for all but CPUs.
        """
        self._slopes, self._config, self._student, self._sequence = slopes, config, student, sequence
        self._vectorised = jax.default_backend() != "cpu" if vectorised is None else vectorised
        self._step = jax.jit(self._advance, donate_argnums=0, compiler_options=compiler.options())  # type: ignore[call-overload]

    def __call__(self, params: Any, candidates: Any, on_step: OnStep | None = None) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        steps = range(len(self._sequence.train_rows))
        return run(self._config, params, candidates, self._step, lambda: map(self._sequence.at, steps), on_step)

    def task_losses(self, params: Any, candidates: Any, at: tuple[jax.Array, Any, Any]) -> tuple[jax.Array, jax.Array]:
        """Return the task's losses `[P]` after a training step with each candidate, and its `Found.moves`."""
        task, student = self._student.task, self._student
        key, (batches, batch_labels), (images, labels) = at
        weights, stats = student.init(key)
        sides = [student.prepare(inputs, None) for inputs in (batches[0], images)]

        def outputs(side: Any, weights: Any) -> jax.Array:
            return student.apply(weights, stats, side, True, no_tap)[0]

        found, pull = jax.vjp(functools.partial(outputs, sides[0]), weights)
        _, push = jax.linearize(functools.partial(outputs, sides[1]), weights)
        decayed = jax.tree.map(lambda x: x * (1.0 - self._config.decay), weights)
        start = outputs(sides[1], decayed)
        points = task.points(found, batch_labels[0])

        def one(candidate: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
            gradient = task.gradient_at(self._slopes, *candidate, *points) / len(labels)
            moves = self._config.step_size * push(pull(gradient)[0])
            return task.loss(start - moves, labels), jnp.sqrt(jnp.mean(jnp.square(moves)))

        mapped = jax.vmap(one) if self._vectorised else functools.partial(jax.lax.map, one)
        return mapped((params, candidates))

    def _advance(self, state: State, candidates: Any, at: tuple[jax.Array, Any, Any]) -> Step:
        def total(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            losses, moves = self.task_losses(params, candidates, at)
            return jnp.sum(losses), (losses, moves)  # candidates do not meet: a gradient of the sum is one of each

        gradients, (losses, moves) = jax.grad(total, has_aux=True)(state.params)
        return follow(self._config, state, gradients, losses), losses, moves
