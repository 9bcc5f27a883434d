"""What local searches share: settings, outcome, Adam on the parameters of candidates in parts of one program."""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax.core.errors import require
from edl_jax.search.students.train import LARGEST_BUCKET, bucket

OnStep = Callable[[int], None]
_REPORT_SECONDS = 0.2


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
      moves: `[P]` float32, how far a linearised training step moves the validation outputs: root mean square over
        outputs, mean over steps; NaN for other searches. Up to 0.05 its gradients are within some per cent of the exact
        ones; from 0.1 on they may have another direction.
    """

    params: Any
    losses: np.ndarray
    finite: np.ndarray
    moves: np.ndarray


class LocalSearch(Protocol):
    """A local search along the sequence it was made for."""

    def __call__(self, params: Any, candidates: Any, on_step: OnStep | None = None) -> Found:
        """Return what the parameters of P candidates become.

        Args:
          params: where to start, arrays `[P, ...]`.
          candidates: what else the family's slopes take, arrays `[P, ...]`, or None.
          on_step: called now and then with the steps done; what it raises ends the search.
        """
        ...


class State(NamedTuple):
    """Parameters of candidates under way, and which of them met only what is finite."""

    params: Any
    opt_state: Any
    finite: jax.Array


# State after a step of the search, losses [P], moves [P]
Step = tuple[State, jax.Array, jax.Array]


def follow(config: LocalSearchConfig, state: State, gradients: Any, losses: jax.Array) -> State:
    """Return the state after a step of Adam for each candidate whose loss and gradient are finite."""
    good = jnp.isfinite(losses) & state.finite
    for leaf in jax.tree.leaves(gradients):
        good &= jnp.isfinite(jnp.sum(leaf.reshape(leaf.shape[0], -1), axis=1))

    def pick(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(good.reshape((-1,) + (1,) * (new.ndim - 1)), new, old) if new.ndim else new

    updates, opt_state = optax.adam(config.lr).update(gradients, state.opt_state)
    params = optax.apply_updates(state.params, updates)
    kept: tuple[Any, Any] = jax.tree.map(pick, (params, opt_state), (state.params, state.opt_state))
    return State(*kept, good)


def run(
    config: LocalSearchConfig,
    params: Any,
    candidates: Any,
    step: Callable[..., Step],
    along: Callable[[], Iterable[Any]],
    on_step: OnStep | None = None,
) -> Found:
    """Return the outcome of `step` for each element of `along()`, for candidates in parts padded to a `bucket`."""
    since = time.perf_counter()
    count = len(jax.tree.leaves(params)[0])
    found = []
    for start in range(0, count, LARGEST_BUCKET):
        rows = np.arange(start, min(start + LARGEST_BUCKET, count))
        padded = np.pad(rows, (0, bucket(len(rows)) - len(rows)), mode="edge")
        part, others = jax.tree.map(lambda x, padded=padded: jnp.asarray(x)[padded], (params, candidates))
        state = State(part, optax.adam(config.lr).init(part), jnp.ones(len(padded), bool))
        losses, moves = [], []
        for i, at in enumerate(along(), 1):
            state, *of_step = step(state, others, at)
            losses.append(of_step[0])
            moves.append(of_step[1])
            if on_step is not None and time.perf_counter() - since > _REPORT_SECONDS:
                jax.block_until_ready(state.finite)
                on_step(i)
                since = time.perf_counter()
        size = len(rows)
        outcome = (state.params, jnp.stack(losses).T, state.finite, jnp.mean(jnp.stack(moves), axis=0))
        found.append(jax.tree.map(lambda x, size=size: np.asarray(x)[:size], outcome))
    params, losses_of_all, finite, moves_of_all = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    return Found(params, losses_of_all.T, finite, moves_of_all)
