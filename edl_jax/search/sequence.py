"""What a local search learns from, step by step: first weights, training batches and a validation batch.

It is drawn once a run, so that all candidates of all generations see the same, as in EvoMAL's released code.
"""

import dataclasses

import jax
import jax.numpy as jnp

from edl_jax.search.split import batches
from edl_jax.search.students.train import Examples

Pair = tuple[jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Sequence:
    """A run's steps of local search.

    Attributes:
      key: of the weights: those of step i are drawn by `fold_in(key, i)`.
      train: training examples.
      validation: validation examples.
      train_rows: int32 `[S, I, B]`, the batches of the I inner steps of each of the S steps.
      validation_rows: int32 `[S, B_v]`.
    """

    key: jax.Array
    train: Examples
    validation: Examples
    train_rows: jax.Array
    validation_rows: jax.Array

    def key_of(self, step: int) -> jax.Array:
        """Return the key of the weights of a step."""
        return jax.random.fold_in(self.key, step)

    def at(self, step: int) -> tuple[jax.Array, Pair, Pair]:
        """Return what a step learns from: key of the weights, batches `[I, B, ...]` and labels, validation batch."""
        train, validation = self.train_rows[step], self.validation_rows[step]
        return (
            self.key_of(step),
            (self.train.inputs[train], self.train.labels[train]),
            (self.validation.inputs[validation], self.validation.labels[validation]),
        )


def draw(
    train: Examples, validation: Examples, seed: int, *, steps: int = 250, inner_steps: int = 1, batch_size: int = 128
) -> Sequence:
    """Return the sequence of a run.

    Args:
      train: training examples.
      validation: validation examples; steps differentiate the task's loss on them.
      seed: of weights and batches.
      steps: S.
      inner_steps: I.
      batch_size: B and B_v; of a set that has fewer examples, all of them.
    """
    sizes = [min(batch_size, len(part.labels)) for part in (train, validation)]
    train_rows = batches(seed, len(train.labels), steps * inner_steps, sizes[0])
    validation_rows = batches(seed + 1, len(validation.labels), steps, sizes[1])
    return Sequence(
        jax.random.key(seed),
        train,
        validation,
        jnp.asarray(train_rows.reshape(steps, inner_steps, sizes[0])),
        jnp.asarray(validation_rows),
    )
