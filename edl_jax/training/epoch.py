"""What the drivers of an epoch share: its order, the loop over its steps, and the interface of what they compile."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.training.metrics import TrainSums
from edl_jax.training.state import TrainState

CHECK_EVERY = 50  # steps between two looks at bad_step


class Watch(Protocol):
    """What the `steps` driver asks and tells while an epoch runs."""

    def due(self, done: int) -> bool:
        """Return whether to wait for the device after `done` steps of the epoch."""
        ...

    def report(self, done: int) -> None:
        """Take note that `done` steps of the epoch are finished."""
        ...

    def enough(self, done: int) -> bool:
        """Return whether to end the epoch after `done` steps."""
        ...


class Begun(NamedTuple):
    """The part of an epoch that was trained before.

    Attributes:
      sums: of its steps.
      done: its steps; a `TrainEpoch` takes it while some are left.
    """

    sums: TrainSums
    done: int


class TrainEpoch(Protocol):
    """A compiled epoch: donates `state`, returns its successor and the epoch's sums, still on the device."""

    def __call__(
        self, state: TrainState, epoch: int, watch: Watch | None = None, begun: Begun | None = None
    ) -> tuple[TrainState, TrainSums]:
        """Train for epoch number `epoch`, counted from 0, or what is left of one that was begun (no scan is)."""
        ...


class BindEpoch(Protocol):
    """An epoch compiled for shapes: what one training needs of its seed and its data is passed in."""

    def __call__(self, key: jax.Array, images: Any, labels: Any) -> TrainEpoch:
        """Return the epochs of one training.

        Args:
          key: PRNG key of the whole training, the same for every epoch.
          images: uint8 [N, H, W, C], on the device unless the driver streams them.
          labels: int32 [N], likewise.
        """
        ...


def epoch_order(key: jax.Array, epoch: jax.Array, num_examples: int, batch_size: int) -> jax.Array:
    """Return the examples of every step of an epoch: int32 [num_examples // batch_size, batch_size].

    Each epoch is its own permutation of all examples, of which the last incomplete batch is dropped.
    """
    steps = num_examples // batch_size
    order = jax.random.permutation(jax.random.fold_in(key, epoch), num_examples).astype(jnp.int32)
    return order[: steps * batch_size].reshape(steps, batch_size)


def compile_order(key: Any, num_examples: int, batch_size: int) -> Callable[[jax.Array, int], jax.Array]:
    """Compile (key, epoch) -> `epoch_order`."""

    @jax.jit
    def draw_order(key: jax.Array, epoch: jax.Array) -> jax.Array:
        return epoch_order(key, epoch, num_examples, batch_size)

    compiled = draw_order.lower(key, np.int32(0)).compile()
    return lambda key, epoch: compiled(key, np.int32(epoch))


def run_steps(
    step: Callable[..., tuple[TrainState, TrainSums]],
    inputs: Iterable[tuple[Any, ...]],
    state: TrainState,
    watch: Watch | None,
    begun: Begun | None,
) -> tuple[TrainState, TrainSums]:
    """Return state and sums after a compiled step for each of `inputs`; a step that went bad ends the loop early.

    Args:
      step: (state, sums, *input) -> (state, sums), which donates its first two arguments.
      inputs: one tuple a step.
      state: before the first step.
      watch: decides when to wait for the device; without one that is every `CHECK_EVERY` steps.
      begun: the steps before these.
    """
    sums, before = begun or (TrainSums.zeros(), 0)
    for done, given in enumerate(inputs, before + 1):
        state, sums = step(state, sums, *given)
        if done % CHECK_EVERY == 0 if watch is None else watch.due(done):
            if int(state.bad_step) >= 0:  # waits for the device
                break
            if watch is not None:
                watch.report(done)
        if watch is not None and watch.enough(done):
            break
    return state, sums
