"""A worker: it takes cells by leases, runs them, and waits for those that others have."""

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from edl_jax.core import failures, status
from edl_jax.core.errors import DivergedError, UserError
from edl_jax.core.lock import InUseError
from edl_jax.core.stopping import Stop, Stopped
from edl_jax.downstream import RunSequence
from edl_jax.study.compare.cells import Cell
from edl_jax.study.compare.directory import leases_of, read_config
from edl_jax.study.compare.leases import Lease, LeaseTimes
from edl_jax.study.compare.ledger import DIVERGED, ERROR, Ledger
from edl_jax.study.compare.plan import make_plan

_POLL = 1.0  # seconds between two looks at cells that others have
_STEP = 0.1  # seconds between two looks at whether to stop
# A cell whose workers end without a word, as for want of memory, would end all of them.
_MOST_ATTEMPTS = 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_LOGGER = logging.getLogger("edl_jax")


class WorkOptions(NamedTuple):
    """What a worker is given beside the directory.

    Attributes:
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      times: of leases.
    """

    data_dir: str | os.PathLike[str] | None = None
    cache_dir: str | os.PathLike[str] | None = None
    times: LeaseTimes = LeaseTimes()


class CellStop(Stop):
    """Asks a cell to stop where its worker is asked to, or has lost the lease."""

    def __init__(self, worker: Stop, lease: Lease) -> None:
        super().__init__()
        self._worker, self._lease = worker, lease

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self._worker.requested or self._lease.lost

    def check(self, after: str = "") -> None:
        """Raise `Stopped` if a stop was asked for."""
        self._worker.check(after)
        if self._lease.lost:
            raise Stopped("another worker has the cell")

    @contextmanager
    def deferring(self) -> Iterator[None]:
        """Leave the moment to the code in the context."""
        with self._worker.deferring():
            yield
        self.check()


def work(directory: Path, options: WorkOptions, stop: Stop) -> None:
    """Run cells of a grid until none is left: each has a result or has failed. The grid may grow meanwhile.

    Args:
      directory: of the grid, which `open_grid` has made.
      options: folders and times.
      stop: asks the worker to stop, after the next step.

    Raises:
      Stopped: `stop` was asked; the cell in work goes on after the last step.
      OSError: the disk is full, which no other cell would survive.
    """
    ledger, leases = Ledger(directory), leases_of(directory, options.times)
    sequence = RunSequence(options.data_dir, options.cache_dir)
    aside: dict[str, float] = {}  # cells whose run directory another process has -> until when
    while True:
        stop.check()
        left = [cell for cell in make_plan(read_config(directory), ledger).cells if not ledger.is_settled(cell)]
        if not left:
            return
        for cell in left:
            if aside.get(cell.name, 0.0) > time.monotonic():
                continue
            lease = leases.take(cell.name)
            if lease is None:
                continue
            try:
                given_up = leases.attempts(cell.name) > _MOST_ATTEMPTS
                if ledger.is_settled(cell):  # meanwhile
                    pass
                elif given_up:
                    ledger.fail(
                        cell, ERROR, f"{_MOST_ATTEMPTS} workers ended while they had it, perhaps for want of memory"
                    )
                elif not _run(cell, ledger, sequence, stop, lease):
                    aside[cell.name] = time.monotonic() + options.times.renew
            finally:
                lease.release()
            break
        else:
            _wait(_POLL, stop)


def _run(cell: Cell, ledger: Ledger, sequence: RunSequence, stop: Stop, lease: Lease) -> bool:
    """Run a cell, and return whether it is settled or with another worker; else another process has its directory."""
    try:
        with status.quiet():
            path, note = ledger.path(cell), f", cell {cell.name}"
            sequence.run(cell.config, path, temperature=True, stop=CellStop(stop, lease), note=note)
    except InUseError:
        return False
    except Stopped:
        if stop.requested or not lease.lost:
            raise
        _LOGGER.warning("%s: another worker has taken it over", cell.name)
    except Exception as error:
        if stop.raised or _is_full(error):
            raise
        if not lease.lost:
            _LOGGER.debug("cell %s", cell.name, exc_info=error)
            kind = DIVERGED if isinstance(error, DivergedError) else ERROR
            message = str(error) if isinstance(error, UserError) else failures.describe(error)
            ledger.fail(cell, kind, message)
    return True


def _is_full(error: BaseException) -> bool:
    """Return whether the disk is full or may not be written."""
    seen: BaseException | None = error
    while seen is not None:
        if (isinstance(seen, OSError) and seen.errno in _FULL) or os.strerror(errno.ENOSPC) in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _wait(seconds: float, stop: Stop) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        stop.check()
        time.sleep(min(_STEP, left))
