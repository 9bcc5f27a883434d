"""The linearised local search: nothing is trained, a tangent kernel says what a training step does."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.backend import compiler
from edl_jax.search.kernel_store import Linearisations
from edl_jax.search.kernels import Linearisation
from edl_jax.search.local_search.base import (
    Found,
    LocalSearchConfig,
    OnStep,
    State,
    Step,
    follow,
    run,
)
from edl_jax.search.tasks import Slopes


class Linearised:
    """The linearised local search: one program for each `bucket` of candidates."""

    def __init__(
        self,
        slopes: Slopes,
        config: LocalSearchConfig,
        linearisations: Linearisations,
        *,
        vectorised: bool | None = None,
    ) -> None:
        """Take a family, settings, and the linearisations that `kernel_store.compute` returns.

        Args:
          slopes: of the family.
          config: settings; the linearisations are those of `config.decay`.
          linearisations: of the run's sequence.
          vectorised: whether the slopes of all candidates are one `jax.vmap`; None for all but CPUs.
        """
        self._slopes, self._config, self._linearisations = slopes, config, linearisations
        self._vectorised = jax.default_backend() != "cpu" if vectorised is None else vectorised
        self._step = jax.jit(self._advance, donate_argnums=0, compiler_options=compiler.options())  # type: ignore[call-overload]

    def __call__(self, params: Any, candidates: Any, on_step: OnStep | None = None) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        return run(self._config, params, candidates, self._step, lambda: self._linearisations, on_step)

    def task_losses(self, params: Any, candidates: Any, at: Linearisation) -> tuple[jax.Array, jax.Array]:
        """Return the task's losses `[P]` after a training step with each candidate, and its `Found.moves`."""
        task = self._linearisations.task
        points = task.points(at.train_logits, at.train_labels)  # the same for all candidates

        def gradient(candidate: tuple[Any, Any]) -> jax.Array:
            return task.gradient_at(self._slopes, *candidate, *points).ravel()

        mapped = jax.vmap(gradient) if self._vectorised else functools.partial(jax.lax.map, gradient)
        moves = (self._config.step_size / len(at.train_labels)) * (mapped((params, candidates)) @ at.kernel.T)
        logits = at.logits[None] - moves.reshape(-1, *at.logits.shape)
        sizes = jnp.sqrt(jnp.mean(jnp.square(moves), axis=1))
        return jax.vmap(task.loss, (0, None))(logits, at.labels), sizes

    def _advance(self, state: State, candidates: Any, at: Linearisation) -> Step:
        def total(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            losses, moves = self.task_losses(params, candidates, at)
            return jnp.sum(losses), (losses, moves)  # candidates do not meet: a gradient of the sum is one of each

        gradients, (losses, moves) = jax.grad(total, has_aux=True)(state.params)
        return follow(self._config, state, gradients, losses), losses, moves
