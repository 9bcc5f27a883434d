"""The exact local search: unrolled differentiation through a student's own training steps."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from edl_jax.backend import compiler
from edl_jax.search.local_search.base import (
    Found,
    LocalSearchConfig,
    OnStep,
    State,
    Step,
    follow,
    run,
)
from edl_jax.search.sequence import Sequence
from edl_jax.search.students.base import Student
from edl_jax.search.students.layers import no_tap
from edl_jax.search.tasks import Slopes
from edl_jax.training.optimizer import sgd


class Exact:
    """Unrolled differentiation through the training steps of a student: one program for each `bucket` of candidates."""

    def __init__(
        self,
        slopes: Slopes,
        config: LocalSearchConfig,
        student: Student,
        sequence: Sequence,
        *,
        vectorised: bool | None = None,
    ) -> None:
        """Take a family, settings, a student and the run's sequence.

        Args:
          slopes: of the family; differentiable in x as well where there are several inner steps.
          config: settings; the sequence has its inner steps.
          student: any.
          sequence: of the run.
          vectorised: whether candidates are one `jax.vmap`; None for all but CPUs.
        """
        self._slopes, self._config, self._student, self._sequence = slopes, config, student, sequence
        self._vectorised = jax.default_backend() != "cpu" if vectorised is None else vectorised
        self._optimizer = sgd(config.inner_lr, momentum=config.momentum, weight_decay=config.weight_decay)
        self._step = jax.jit(self._advance, donate_argnums=0, compiler_options=compiler.options())  # type: ignore[call-overload]

    def __call__(self, params: Any, candidates: Any, on_step: OnStep | None = None) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        steps = range(len(self._sequence.train_rows))
        return run(self._config, params, candidates, self._step, lambda: map(self._sequence.at, steps), on_step)

    def task_loss(self, params: Any, candidate: Any, at: tuple[jax.Array, Any, Any]) -> jax.Array:
        """Return the task's loss after the training steps with one candidate."""
        task = self._student.task
        key, (batches, batch_labels), (images, labels) = at
        weights, stats = self._student.init(key)
        opt_state = self._optimizer.init(weights)
        for batch, targets in zip(batches, batch_labels, strict=True):
            inputs = self._student.prepare(batch, None)

            def outputs(weights: Any, inputs: Any = inputs, stats: Any = stats) -> tuple[jax.Array, Any]:
                return self._student.apply(weights, stats, inputs, True, no_tap)

            found, pull, stats = jax.vjp(outputs, weights, has_aux=True)
            gradient = task.gradient(self._slopes, params, candidate, found, targets) / len(targets)
            updates, opt_state = self._optimizer.update(pull(gradient)[0], opt_state, weights)
            weights = optax.apply_updates(weights, updates)
        trained = self._student.apply(weights, stats, self._student.prepare(images, None), True, no_tap)[0]
        return task.loss(trained, labels)

    def _advance(self, state: State, candidates: Any, at: tuple[jax.Array, Any, Any]) -> Step:
        def one(candidate: tuple[Any, Any]) -> tuple[jax.Array, Any]:
            return jax.value_and_grad(self.task_loss)(*candidate, at)

        mapped = jax.vmap(one) if self._vectorised else functools.partial(jax.lax.map, one)
        losses, gradients = mapped((state.params, candidates))
        return follow(self._config, state, gradients, losses), losses, jnp.full_like(losses, jnp.nan)
