"""The checkpoint of an epoch that was stopped midway, apart from those of whole epochs: RUN/stopped."""

import contextlib
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edl_jax import training
from edl_jax.core.checkpoints import Checkpoints
from edl_jax.core.errors import UserError
from edl_jax.training.epoch import Begun

_FOLDER = "stopped"
_LOGGER = logging.getLogger("edl_jax")


class Midway(NamedTuple):
    """An epoch that was stopped.

    Attributes:
      state: after its last step.
      sums: over its steps.
      seconds: [] float32 that these took.
    """

    state: training.TrainState
    sums: training.TrainSums
    seconds: np.ndarray

    def place(self, steps: int) -> tuple[training.TrainState, int, Begun, float]:
        """Return (state, epoch counted from 0, what is done of it, seconds) in epochs of `steps` steps.

        At least one step is done. Where all are, the evaluation is left.
        """
        epoch, done = divmod(int(self.state.step) - 1, steps)
        return self.state, epoch, Begun(self.sums, done + 1), float(self.seconds)


def save(path: Path, midway: Midway) -> None:
    """Save it in the run directory `path`."""
    Checkpoints(path / _FOLDER).save(int(midway.state.step), midway)


def restore(path: Path, state: training.TrainState, *, step: int, whole: int) -> Midway | None:
    """Return the epoch that was stopped in the run directory `path`, or None.

    What is outdated is removed, and so is what cannot be read, with a warning.

    Args:
      path: run directory.
      state: like which it is.
      step: of the checkpoint of whole epochs that the run could go on from; an older epoch is outdated.
      whole: steps that cannot be divided: those of an epoch, where that is one program, or 1.
    """
    checkpoints, found = Checkpoints(path / _FOLDER), None
    if any(stored > step and stored % whole == 0 for stored in checkpoints.steps()):
        try:
            found = checkpoints.restore(Midway(state, training.TrainSums.zeros(), np.zeros((), np.float32)))
        except UserError:
            _LOGGER.warning("what %s holds is unreadable: going on from the last whole epoch", checkpoints.folder)
    if found is None or found[0] <= step or found[0] % whole:
        remove(path)
        return None
    return found[1]


def remove(path: Path) -> None:
    """Remove what a run directory has of this."""
    checkpoints = Checkpoints(path / _FOLDER)
    if checkpoints.folder.is_dir():
        checkpoints.delete()
        with contextlib.suppress(OSError):  # what others have put there stays
            checkpoints.folder.rmdir()
