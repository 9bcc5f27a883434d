"""What a student is: a small network as pure functions of explicit parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from edl_jax.search.students.layers import Tap, no_tap
from edl_jax.search.tasks import CLASSIFICATION, Task

Params = Any
Stats = Any
# Of a batch, shared by all candidates
Inputs = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Student:
    """A network that a search trains with its candidates.

    Attributes:
      name: of the architecture.
      num_classes: C, outputs: 1 in regression.
      init: key -> (parameters, running statistics); the statistics are `{}` without batch normalisation.
      embed: images `[N, H, W, channels]` uint8 of a whole set, or rows of a table `[N, F]` float32 -> what batches are
        taken from, `[N, ...]`; themselves, or features that are computed once a search.
      prepare: (batch of it `[B, ...]`, key of dropout and augmentation, or None for neither) -> inputs, the part of the
        forward pass that does not depend on parameters.
      apply: (parameters, statistics, inputs, train, tap) -> (logits `[B, C]`, or predictions `[B, 1]`, statistics).
      lr: learning rate that suits it with Nesterov momentum 0.9 and a loss like cross-entropy.
      tangent_kernel: whether `kernels` has a form for it: no batch normalisation, no dropout.
      task: what it is trained for.
    """

    name: str
    num_classes: int
    init: Callable[[jax.Array], tuple[Params, Stats]]
    prepare: Callable[[jax.Array, jax.Array | None], Inputs]
    apply: Callable[[Params, Stats, Inputs, bool, Tap], tuple[jax.Array, Stats]]
    embed: Callable[[np.ndarray], np.ndarray] = np.asarray
    lr: float = 0.01
    tangent_kernel: bool = False
    task: Task = CLASSIFICATION

    def logits(self, params: Params, stats: Stats, inputs: Inputs) -> jax.Array:
        """Return the logits `[B, C]` of a trained student, or its predictions `[B, 1]`."""
        return self.apply(params, stats, inputs, False, no_tap)[0]
