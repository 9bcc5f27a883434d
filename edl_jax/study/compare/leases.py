"""Leases: which worker has a cell, among processes of one machine or of several that share a directory.

A lease is a file, LEASES/NAME.GENERATION, made with O_EXCL, so that one worker has it. A thread of that worker renews
it: every few seconds the file says a larger number. Who waits watches that number over its own monotonic clock; the
times of files and the clocks of other machines do not matter. A lease whose number stood still for too long is taken
over by making the file of the next generation, which again one worker alone can do. The worker before finds that file
when it next renews, and stops. Nothing is ever removed or renamed, so that no two workers can misread each other.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from edl_jax.core.errors import UserError, require

_NAME = re.compile(r"(?P<name>.+)\.(?P<generation>\d+)")


class LeaseTimes(NamedTuple):
    """How often a lease is renewed, and how long others wait for that.

    Attributes:
      renew: seconds between two renewals.
      expire: seconds without one after which a lease is taken over.
    """

    renew: float = 5.0
    expire: float = 60.0

    def check(self) -> None:
        """Raise `UserError` unless a lease is renewed several times before it expires."""
        require(self.renew > 0.0, f"the lease is renewed every {self.renew} s, expected a positive number")
        require(
            self.expire >= 3.0 * self.renew,
            f"--lease-seconds is {self.expire:g}, expected at least {3.0 * self.renew:g}: it is renewed every "
            f"{self.renew:g} s",
        )


class Lease:
    """A lease that this process has, renewed by a thread until `release`.

    Attributes:
      lost: whether another worker has taken it over, or it could not be renewed for too long.
    """

    def __init__(self, file: Path, times: LeaseTimes, clock: Callable[[], float]) -> None:
        """Renew the lease of a file that was just made."""
        self.lost = False
        self._file, self._times, self._clock = file, times, clock
        self._owner = {**this_process(), "id": uuid.uuid4().hex}
        self._count = 0
        self._ended = threading.Event()
        self._renewed = clock()
        self._write()
        self._thread = threading.Thread(target=self._keep, name=f"lease {file.name}", daemon=True)
        self._thread.start()

    def renew(self) -> None:
        """Renew it, or find that it is lost."""
        try:
            taken = _next(self._file).exists() or not self._file.exists()
            if not taken:
                self._write()
                self._renewed = self._clock()
        except OSError:  # a file server that is away for a moment
            taken = False
        if taken or self._clock() - self._renewed > self._times.expire:
            self.lost = True

    def release(self) -> None:
        """Let others have it at once; a lost one is left to who has it."""
        self._ended.set()
        self._thread.join()
        if not self.lost:
            with contextlib.suppress(OSError):
                self._write(released=True)

    def _keep(self) -> None:
        while not self.lost and not self._ended.wait(self._times.renew):
            self.renew()

    def _write(self, *, released: bool = False) -> None:
        self._count += 1
        text = json.dumps({**self._owner, "count": self._count, "released": released})
        # In place: who reads a part of it sees a change, and a change says that the worker lives.
        self._file.write_text(text, encoding="utf-8")


class Leases:
    """The leases of a directory, as one process sees them.

    Args:
      folder: that holds their files; it is made.
      times: of renewal and expiry.
      clock: seconds, monotonic.
    """

    def __init__(self, folder: Path, times: LeaseTimes, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._times, self._clock = folder, times, clock
        self._seen: dict[str, tuple[Path, bytes, float]] = {}  # name -> file, content, when that was first seen

    def take(self, name: str) -> Lease | None:
        """Return the lease of a name, or None while another worker has it."""
        newest = self._newest(name)
        if newest is None:
            file = self._folder / f"{name}.1"
        elif self._is_free(name, newest):
            file = _next(newest)
        else:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:  # another worker was faster
            return None
        self._seen.pop(name, None)
        return Lease(file, self._times, self._clock)

    def attempts(self, name: str) -> int:
        """Return how many workers had the lease of a name and ended without letting go of it."""
        return sum(not _content(file).get("released") for _, file in self._generations(name))

    def held(self) -> list[str]:
        """Return who has leases that may be alive, as far as one look tells: `process 12 on host`."""
        found = []
        for name in sorted({match["name"] for _, match in _files(self._folder)}):
            newest = self._newest(name)
            content = {} if newest is None else _content(newest)
            if content and not content.get("released") and not is_dead(content):
                found.append(f"process {content.get('pid')} on {content.get('host')}")
        return sorted(set(found))

    def _is_free(self, name: str, file: Path) -> bool:
        """Return whether the newest lease of a name may be taken over."""
        try:
            content = file.read_bytes()
        except OSError:
            return False
        said = _parse(content)
        if said.get("released") or is_dead(said):
            return True
        before = self._seen.get(name)
        if before is None or before[:2] != (file, content):
            self._seen[name] = (file, content, self._clock())
            return False
        return self._clock() - before[2] > self._times.expire

    def _newest(self, name: str) -> Path | None:
        generations = self._generations(name)
        return generations[-1][1] if generations else None

    def _generations(self, name: str) -> list[tuple[int, Path]]:
        """Return (generation, file) of a name, the oldest first."""
        found = []
        generation = 1
        while (file := self._folder / f"{name}.{generation}").exists():
            found.append((generation, file))
            generation += 1
        return found


def this_process() -> dict[str, Any]:
    """Return what tells this process from any other, on this machine and on others."""
    return {"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid(), "started": _started(os.getpid())}


def is_dead(owner: dict[str, Any]) -> bool:
    """Return whether a process, as `this_process` describes it, is known to have ended: one of this machine alone."""
    machine, pid = owner.get("machine"), owner.get("pid")
    if machine is None or machine != _machine() or not isinstance(pid, int):
        return False
    return _started(pid) != owner.get("started")


def _machine() -> str | None:
    """Return what processes share that see each other's numbers: the boot and the namespace, or None elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - it is no path
    except OSError:  # elsewhere than on Linux
        return None


def _started(pid: int) -> str | None:
    """Return when a process was started, or None where there is none (a zombie is none)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else words[19]


def _next(file: Path) -> Path:
    """Return the file of the generation after this one."""
    match = _NAME.fullmatch(file.name)
    if match is None:
        raise UserError(f"{file} is no lease: remove it")
    return file.with_name(f"{match['name']}.{int(match['generation']) + 1}")


def _files(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    if folder.is_dir():
        for file in folder.iterdir():
            match = _NAME.fullmatch(file.name)
            if match:
                yield file, match


def _content(file: Path) -> dict[str, Any]:
    try:
        return _parse(file.read_bytes())
    except OSError:
        return {}


def _parse(content: bytes) -> dict[str, Any]:
    """Return what a lease says; nothing where it is half written."""
    with contextlib.suppress(ValueError):
        found = json.loads(content)
        if isinstance(found, dict):
            return found
    return {}
