"""One process a run directory: a lock that ends with the process that holds it, however that ends.

Where the file system knows `flock`, it decides, between machines too if the file system shares it (NFS does, unless it
is mounted with `nolock` or `local_lock`). Elsewhere what the file says decides: a process of this machine that is alive
keeps others out, and one of another machine, of which nothing can be known, gets a warning and gives way.
"""

import contextlib
import json
import logging
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from edl_jax.core.errors import UserError

FILENAME = ".lock"
_LOGGER = logging.getLogger("edl_jax")
# A look at a lock holds it for a moment, which is no reason to refuse a run.
_TRIES, _PAUSE = 5, 0.02


class InUseError(UserError):
    """Another run has the directory."""


class Lock:
    """The lock of a run directory, held from when it is made until `release`, or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Args:
          folder: the run directory.

        Raises:
          InUseError: another run holds it; the message names its process.
          OSError: the file of the lock cannot be written.
        """
        file = folder / FILENAME
        descriptor = _acquire(file)
        self._end = weakref.finalize(self, _release, file, descriptor, os.getpid())
        try:
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(_describe(os.getpid())).encode())
        except BaseException:
            self.release()
            raise

    @property
    def is_held(self) -> bool:
        """Whether it has not been released."""
        return self._end.alive

    def release(self) -> None:
        """Let others have the directory; a second call does nothing."""
        self._end()


def check_free(folder: Path) -> None:
    """Raise InUseError if a run holds the lock of a directory; nothing is written or kept."""
    file = folder / FILENAME
    with contextlib.suppress(OSError):  # there is none, or it is not for us, as opening the run will say
        descriptor = os.open(file, os.O_RDWR)
        try:
            _take(file, descriptor)
        finally:
            os.close(descriptor)


def _acquire(file: Path) -> int:
    """Return the descriptor of the locked file."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            unknown = _take(file, descriptor)
            # Who held it may have removed the file meanwhile: then this is the lock of nothing.
            if file.exists() and os.path.samestat(file.stat(), os.fstat(descriptor)):
                break
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    if unknown:
        _LOGGER.warning(
            "%s has no locks, so whether %s still runs in it is not known: going on", file.parent, _name(unknown)
        )
    return descriptor


def _take(file: Path, descriptor: int) -> dict[str, Any]:
    """Lock an open file, and return the process that may have it all the same, where the file system has no locks.

    Raises:
      InUseError: another run holds the lock.
    """
    for _ in range(_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE)
        except (AttributeError, OSError):  # this system, or this file system, has no such locks
            return _take_without_flock(file, _owner(descriptor))
        else:
            return {}
    raise _in_use(file, _owner(descriptor))


def _take_without_flock(file: Path, owner: dict[str, Any]) -> dict[str, Any]:
    """Return the process that the file names if it may be alive, and raise InUseError if it is."""
    if owner and (owner.get("host") != socket.gethostname() or os.name != "posix"):
        return owner
    if owner and owner == _describe(owner["pid"]):
        raise _in_use(file, owner)
    return {}


def _release(file: Path, descriptor: int, pid: int) -> None:
    """Remove the file, then let go of it; in a fork of the process that holds the lock, nothing is done."""
    if os.getpid() == pid:
        with contextlib.suppress(OSError):
            file.unlink()
        os.close(descriptor)


def _owner(descriptor: int) -> dict[str, Any]:
    """Return what the file says of the process that holds the lock; nothing where it says nothing."""
    with contextlib.suppress(OSError, ValueError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = json.loads(os.read(descriptor, 4096))
        if isinstance(owner, dict) and isinstance(owner.get("pid"), int):
            return owner
    return {}


def _describe(pid: int) -> dict[str, Any]:
    """Return what tells a process of this machine from any other, those that had its number before included."""
    started = None
    with contextlib.suppress(OSError, IndexError):  # elsewhere than on Linux
        started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return {"pid": pid, "host": socket.gethostname(), "started": started}


def _name(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner.get('host')}" if owner else "another process"


def _in_use(file: Path, owner: dict[str, Any]) -> InUseError:
    return InUseError(f"{file.parent} is in use by {_name(owner)}: wait for its end or stop it, or give another --out")
