"""Gradient descent on the parameters of candidate losses: which loss, after a step of training with it, serves best?

A step of the search draws weights, makes a training step with each candidate's loss, and differentiates the task's
loss, cross-entropy, of the trained student on a validation batch in the candidate's parameters (unrolled
differentiation, as EvoMAL and ML3 do it); Adam follows that gradient.

    linearised    the training step moves the validation logits by a tangent kernel, which candidates and generations
                  share: one matrix product for all candidates, nothing is trained
    exact         through the student's own training steps, any number of them, for any student
    none          parameters stay as they are

A family of losses is a function of (parameters, candidate, y, u) that returns slopes dg/du: edge weights and a tape for
EvoMAL's trees, a network and nothing for ML3.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax.backend import compiler
from edl_jax.core.errors import require, unknown
from edl_jax.search.kernel_store import Linearisations
from edl_jax.search.kernels import Linearisation, require_form
from edl_jax.search.sequence import Sequence
from edl_jax.search.students.base import Student
from edl_jax.search.students.layers import no_tap
from edl_jax.search.students.train import LARGEST_BUCKET, bucket
from edl_jax.training.optimizer import sgd

METHODS = ("linearised", "exact", "none")

# (parameters, candidate, y [M], u [M]) -> dg/du [M], of one candidate
Slopes = Callable[[Any, Any, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class LocalSearchConfig:
    """Settings of a local search; the defaults are EvoMAL's."""

    steps: int = 250
    """Steps of Adam on the parameters."""
    lr: float = 1e-3
    """Adam's learning rate."""
    inner_steps: int = 1
    """Training steps of the student between two of them; linearised takes one."""
    inner_lr: float = 0.01
    """Learning rate of the student."""
    momentum: float = 0.9
    """Nesterov momentum of the student."""
    weight_decay: float = 5e-4
    """Coupled weight decay of the student."""
    batch_size: int = 128
    """Examples of a training step, and of the validation that is differentiated."""

    def __post_init__(self) -> None:
        for name in ("steps", "inner_steps", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, f"local search {name} is {value}, expected at least 1")
        for name in ("lr", "inner_lr"):
            value = getattr(self, name)
            require(0.0 < value < np.inf, f"local search {name} is {value}, expected a positive number")
        require(0.0 <= self.momentum < 1.0, f"local search momentum is {self.momentum}, expected 0 <= momentum < 1")
        require(
            0.0 <= self.weight_decay < np.inf,
            f"local search weight_decay is {self.weight_decay}, expected 0 or a positive number",
        )

    @property
    def decay(self) -> float:
        """Share of the weights that weight decay takes in the first step."""
        return self.step_size * self.weight_decay

    @property
    def step_size(self) -> float:
        """Learning rate of the first step: Nesterov's look-ahead adds momentum times the gradient to it."""
        return (1.0 + self.momentum) * self.inner_lr


class Found(NamedTuple):
    """Outcome of a local search.

    Attributes:
      params: parameters, arrays `[P, ...]`.
      losses: `[S, P]` float32, the task's loss after each training step.
      finite: `[P]` bool; a candidate that met a loss or gradient that is not finite keeps the parameters it had then.
      moves: `[P]` float32, how far a linearised training step moves the validation logits: root mean square over
        logits, mean over steps; NaN for other searches. Up to 0.05 its gradients are within some per cent of the exact
        ones; from 0.1 on they may have another direction.
    """

    params: Any
    losses: np.ndarray
    finite: np.ndarray
    moves: np.ndarray


class LocalSearch(Protocol):
    """A local search along the sequence it was made for."""

    def __call__(self, params: Any, candidates: Any) -> Found:
        """Return what the parameters of P candidates become.

        Args:
          params: where to start, arrays `[P, ...]`.
          candidates: what else the family's slopes take, arrays `[P, ...]`, or None.
        """
        ...


class _State(NamedTuple):
    params: Any
    opt_state: Any
    finite: jax.Array


# State after a step of the search, losses [P], moves [P]
_Step = tuple[_State, jax.Array, jax.Array]


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

    def __call__(self, params: Any, candidates: Any) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        return _run(self._config, params, candidates, self._step, lambda: self._linearisations)

    def task_losses(self, params: Any, candidates: Any, at: Linearisation) -> tuple[jax.Array, jax.Array]:
        """Return the task's losses `[P]` after a training step with each candidate, and its `Found.moves`."""
        outputs, labels = at.train_logits, at.train_labels
        u = jax.nn.log_softmax(outputs)
        y = jax.nn.one_hot(labels, u.shape[1])

        def gradient(candidate: tuple[Any, Any]) -> jax.Array:
            return _logit_gradient(self._slopes, *candidate, y, u).ravel()

        mapped = jax.vmap(gradient) if self._vectorised else functools.partial(jax.lax.map, gradient)
        moves = (self._config.step_size / len(labels)) * (mapped((params, candidates)) @ at.kernel.T)
        logits = at.logits[None] - moves.reshape(-1, *at.logits.shape)
        sizes = jnp.sqrt(jnp.mean(jnp.square(moves), axis=1))
        return jax.vmap(_cross_entropy, (0, None))(logits, at.labels), sizes

    def _advance(self, state: _State, candidates: Any, at: Linearisation) -> _Step:
        def total(params: Any) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            losses, moves = self.task_losses(params, candidates, at)
            return jnp.sum(losses), (losses, moves)  # candidates do not meet: a gradient of the sum is one of each

        gradients, (losses, moves) = jax.grad(total, has_aux=True)(state.params)
        return _follow(self._config, state, gradients, losses), losses, moves


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
          slopes: of the family; differentiable in u as well where there are several inner steps.
          config: settings; the sequence has its inner steps.
          student: any.
          sequence: of the run.
          vectorised: whether candidates are one `jax.vmap`; None for all but CPUs.
        """
        self._slopes, self._config, self._student, self._sequence = slopes, config, student, sequence
        self._vectorised = jax.default_backend() != "cpu" if vectorised is None else vectorised
        self._optimizer = sgd(config.inner_lr, momentum=config.momentum, weight_decay=config.weight_decay)
        self._step = jax.jit(self._advance, donate_argnums=0, compiler_options=compiler.options())  # type: ignore[call-overload]

    def __call__(self, params: Any, candidates: Any) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        steps = range(len(self._sequence.train_rows))
        return _run(self._config, params, candidates, self._step, lambda: map(self.at, steps))

    def at(self, step: int) -> tuple[jax.Array, Any, Any]:
        """Return what a step learns from: key of the weights, batches `[I, B, ...]` and labels, validation batch."""
        s = self._sequence
        train, validation = s.train_rows[step], s.validation_rows[step]
        return (
            s.key_of(step),
            (s.train.inputs[train], s.train.labels[train]),
            (s.validation.inputs[validation], s.validation.labels[validation]),
        )

    def task_loss(self, params: Any, candidate: Any, at: tuple[jax.Array, Any, Any]) -> jax.Array:
        """Return the task's loss after the training steps with one candidate."""
        key, (batches, batch_labels), (images, labels) = at
        weights, stats = self._student.init(key)
        opt_state = self._optimizer.init(weights)
        for batch, targets in zip(batches, batch_labels, strict=True):
            inputs = self._student.prepare(batch, None)

            def outputs(weights: Any, inputs: Any = inputs, stats: Any = stats) -> tuple[jax.Array, Any]:
                return self._student.apply(weights, stats, inputs, True, no_tap)

            logits, pull, stats = jax.vjp(outputs, weights, has_aux=True)
            u = jax.nn.log_softmax(logits)
            y = jax.nn.one_hot(targets, u.shape[1])
            gradient = _logit_gradient(self._slopes, params, candidate, y, u) / len(targets)
            updates, opt_state = self._optimizer.update(pull(gradient)[0], opt_state, weights)
            weights = optax.apply_updates(weights, updates)
        logits = self._student.apply(weights, stats, self._student.prepare(images, None), True, no_tap)[0]
        return _cross_entropy(logits, labels)

    def _advance(self, state: _State, candidates: Any, at: tuple[jax.Array, Any, Any]) -> _Step:
        def one(candidate: tuple[Any, Any]) -> tuple[jax.Array, Any]:
            return jax.value_and_grad(self.task_loss)(*candidate, at)

        mapped = jax.vmap(one) if self._vectorised else functools.partial(jax.lax.map, one)
        losses, gradients = mapped((state.params, candidates))
        return _follow(self._config, state, gradients, losses), losses, jnp.full_like(losses, jnp.nan)


class Guarded:
    """The linearised local search, and the exact one for candidates too strong for it."""

    def __init__(self, linearised: Linearised, exact: Exact, limit: float = 0.1) -> None:
        """Take both, and the `Found.moves` from which on a candidate is searched for exactly."""
        self._linearised, self._exact, self._limit = linearised, exact, limit

    def __call__(self, params: Any, candidates: Any) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        found = self._linearised(params, candidates)
        strong = np.flatnonzero(~(found.moves <= self._limit))
        if len(strong) == 0:
            return found
        again = self._exact(*jax.tree.map(lambda x: np.asarray(x)[strong], (params, candidates)))

        def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
            old = np.array(old)
            old[strong] = new
            return old

        return Found(
            jax.tree.map(put, found.params, again.params),
            put(found.losses.T, again.losses.T).T,
            put(found.finite, again.finite),
            found.moves,
        )


def no_search(params: Any, candidates: Any) -> Found:
    """Return the parameters as they are: the local search `none`."""
    count = len(jax.tree.leaves(params)[0])
    return Found(params, np.zeros((0, count), np.float32), np.ones(count, bool), np.full(count, np.nan, np.float32))


def check_method(name: str, student: Student, config: LocalSearchConfig) -> None:
    """Raise `UserError` unless `name` is a local search that suits a student and settings."""
    if name not in METHODS:
        raise unknown("local search", name, METHODS)
    if name == "linearised":
        require_form(student)
        require(
            config.inner_steps == 1,
            f"inner_steps is {config.inner_steps}, expected 1 for linearised local search: choose --local-search exact",
        )


def _logit_gradient(slopes: Slopes, params: Any, candidate: Any, y: jax.Array, u: jax.Array) -> jax.Array:
    """Return the gradient `[B, C]` of a candidate's loss in the logits."""
    d = slopes(params, candidate, y.ravel(), u.ravel()).reshape(u.shape)
    return d - jnp.exp(u) * jnp.sum(d, axis=-1, keepdims=True)


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _follow(config: LocalSearchConfig, state: _State, gradients: Any, losses: jax.Array) -> _State:
    """Return the state after a step of Adam for each candidate whose loss and gradient are finite."""
    good = jnp.isfinite(losses) & state.finite
    for leaf in jax.tree.leaves(gradients):
        good &= jnp.isfinite(jnp.sum(leaf.reshape(leaf.shape[0], -1), axis=1))

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(good.reshape((-1,) + (1,) * (new.ndim - 1)), new, old) if new.ndim else new

    updates, opt_state = optax.adam(config.lr).update(gradients, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    kept: tuple[Any, Any] = jax.tree.map(pick, (params, opt_state), (state.params, state.opt_state))
    return _State(*kept, good)


def _run(
    config: LocalSearchConfig,
    params: Any,
    candidates: Any,
    step: Callable[..., _Step],
    along: Callable[[], Iterable[Any]],
) -> Found:
    """Return the outcome of `step` for each element of `along()`, for candidates in parts padded to a `bucket`."""
    count = len(jax.tree.leaves(params)[0])
    found = []
    for start in range(0, count, LARGEST_BUCKET):
        rows = np.arange(start, min(start + LARGEST_BUCKET, count))
        padded = np.pad(rows, (0, bucket(len(rows)) - len(rows)), mode="edge")
        part, others = jax.tree.map(lambda x, padded=padded: jnp.asarray(x)[padded], (params, candidates))
        state = _State(part, optax.adam(config.lr).init(part), jnp.ones(len(padded), bool))
        losses, moves = [], []
        for at in along():
            state, *of_step = step(state, others, at)
            losses.append(of_step[0])
            moves.append(of_step[1])
        size = len(rows)
        outcome = (state.params, jnp.stack(losses).T, state.finite, jnp.mean(jnp.stack(moves), axis=0))
        found.append(jax.tree.map(lambda x, size=size: np.asarray(x)[:size], outcome))
    params, losses_of_all, finite, moves_of_all = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    return Found(params, losses_of_all.T, finite, moves_of_all)
