"""The tangent kernels of a run's sequence: computed once, in memory where they fit, else in a file that is mapped."""

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.backend import memory
from edl_jax.core.errors import UserError, require
from edl_jax.loss.threads import Threads
from edl_jax.search.kernels import Linearisation, linearise, require_form
from edl_jax.search.sequence import Sequence
from edl_jax.search.students.base import Params, Student
from edl_jax.search.tasks import CLASSIFICATION, Task

FILE = "tangent_kernels.npy"
_MEMORY_SHARE, _DISK_SHARE = 0.5, 0.9  # of what is free
_GIB = 2**30


class Linearisations:
    """The linearisations of all steps of a sequence, in their order; may be iterated over any number of times."""

    def __init__(self, steps: list[Linearisation], kernels: np.ndarray | None, task: Task = CLASSIFICATION) -> None:
        """Take the steps, the mapped kernels `[S, B_v C, B_t C]` where the steps hold none, and the student's task."""
        self._steps, self._kernels, self.task = steps, kernels, task

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def on_disk(self) -> bool:
        """Whether kernels are read from a file."""
        return self._kernels is not None

    def __iter__(self) -> Iterator[Linearisation]:
        for i, step in enumerate(self._steps):
            yield step if self._kernels is None else step._replace(kernel=jnp.asarray(self._kernels[i]))


def kernel_bytes(steps: int, batch_size: int, num_classes: int, validation_batch_size: int | None = None) -> int:
    """Return the bytes of the kernels of a sequence: float32 `[S, B_v C, B_t C]`, both batches of one size if None."""
    return 4 * steps * num_classes**2 * batch_size * (validation_batch_size or batch_size)


def place(needed: int, one: int, directory: Path | None) -> Path | None:
    """Return where kernels of `needed` bytes, `one` of them each, are kept: None for memory, or a file in `directory`.

    Raises:
      UserError: they fit nowhere; says how many would.
    """
    free = memory.available_bytes()
    if free is None or needed <= _MEMORY_SHARE * free:
        return None
    disk = 0 if directory is None else shutil.disk_usage(directory).free
    if directory is not None and needed <= _DISK_SHARE * disk:
        return directory / FILE
    fitting = int(max(_MEMORY_SHARE * free, _DISK_SHARE * disk) // one)
    where = "no directory is given" if directory is None else f"{disk / _GIB:.1f} GiB in {directory}"
    smaller = int((max(_MEMORY_SHARE * free, _DISK_SHARE * disk) / needed) ** 0.5 * 100)
    raise UserError(
        f"the tangent kernels of {needed // one} steps take {needed / _GIB:.1f} GiB, free are {free / _GIB:.1f} GiB of "
        f"memory (half of it is used) and {where}: {fitting} steps would fit, or batches of {smaller} % the size, "
        "or choose --local-search matrix_free"
    )


def compute(
    student: Student,
    sequence: Sequence,
    *,
    decay: float = 0.0,
    directory: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Linearisations:
    """Return the linearisations of a student along a sequence.

    Args:
      student: with a tangent kernel.
      sequence: of one inner step.
      decay: as `linearise` takes it.
      directory: for the file, where memory is short; None for no file.
      on_step: called with the number of kernels there are, often; what it raises ends the computation.

    Raises:
      UserError: the student has no tangent kernel, the sequence several inner steps, or kernels fit nowhere.
    """
    require_form(student)
    steps, inner, batch_size = sequence.train_rows.shape
    require(inner == 1, f"inner_steps is {inner}, expected 1 for linearised local search: choose --local-search exact")
    rows, columns = sequence.validation_rows.shape[1] * student.num_classes, batch_size * student.num_classes
    needed = kernel_bytes(steps, batch_size, student.num_classes, sequence.validation_rows.shape[1])
    path = place(needed, needed // steps, directory)
    kernels = None if path is None else np.lib.format.open_memmap(path, "w+", np.float32, (steps, rows, columns))

    def one(i: int) -> Linearisation:
        sides = [
            (examples.inputs[chosen], examples.labels[chosen])
            for examples, chosen in (
                (sequence.train, sequence.train_rows[i, 0]),
                (sequence.validation, sequence.validation_rows[i]),
            )
        ]
        step = linearise(student, _weights(student, sequence.key_of(i)), *sides, decay)
        if kernels is not None:
            kernels[i] = step.kernel
            return step._replace(kernel=jnp.zeros((), jnp.float32))
        # Else the host runs ahead, and holds what many steps need at once.
        return jax.block_until_ready(step)

    found: list[Linearisation] = []
    # A CPU's cores are better used by a step each.
    at_once = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    with Threads(at_once) as threads:
        while len(found) < steps:
            begun = [threads.submit(one, i) for i in range(len(found), min(len(found) + at_once, steps))]
            for task in begun:
                found.append(task.result())
                if on_step is not None:
                    on_step(len(found))
    if kernels is not None:
        kernels.flush()
    return Linearisations(found, kernels, student.task)


@functools.partial(jax.jit, static_argnums=0)
def _weights(student: Student, key: jax.Array) -> Params:
    return student.init(key)[0]
