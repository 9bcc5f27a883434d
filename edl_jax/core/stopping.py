"""Asking a command to stop at a moment that loses nothing.

A `Stop` is handed down to the loops, which look at it; `Signals` has the signals of a process ask it. Nothing is
installed where a library user calls the same functions.
"""

import contextlib
import os
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from edl_jax.core import status
from edl_jax.core.errors import UserError

# What asks every command to stop: Ctrl-C, schedulers and spot machines, and the end of a terminal.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_SAME_SECONDS = 0.5  # within which signals count as one: launchers send on what the terminal sends as well
_GRACE_SECONDS = 5.0  # for the main thread to end: what a library runs outside Python cannot be interrupted
_LOOK_SECONDS = 0.25


class Stopped(KeyboardInterrupt):
    """A command has ended because it was asked to. As one of Ctrl-C, it passes `except Exception`."""


class Stop:
    """Whether a command was asked to stop.

    Attributes:
      signal: number of the signal that asked, or None.
      path: run directory that `--resume` goes on with, or None while there is none.
      after: what is done and kept, such as `step 7 of 40`.
      raised: whether `Stopped` was raised.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.path: Path | None = None
        self.after = ""
        self.raised = False
        self._deferring = 0

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @property
    def deferred(self) -> bool:
        """Whether the code that runs decides when to stop."""
        return self._deferring > 0

    def request(self, number: int = signal.SIGTERM) -> None:
        """Ask to stop; from any thread. The first of several signals counts."""
        if self.signal is None:
            self.signal = number

    def check(self, after: str = "") -> None:
        """Raise `Stopped` if a stop was asked for; `after` says what is done and kept."""
        self.after = after or self.after
        if self.requested:
            self.raised = True
            raise Stopped(self.line())

    @contextlib.contextmanager
    def deferring(self) -> Iterator[None]:
        """Leave to the code in the context when to stop: it asks `requested`. A request that it left is raised."""
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1
        self.check()

    def line(self) -> str:
        """Return what a person is told."""
        text = f"stopped by {_name(self.signal)}" if self.signal is not None else "interrupted"
        text += f" after {self.after}" if self.after else ""
        if self.path is None:
            return text
        out = min(str(self.path), os.path.relpath(self.path), key=len)
        return f"{text}: give the same command with --out {shlex.quote(out)} and --resume to go on"


class Signals:
    """Signals that ask a `Stop`, as a context manager of the main thread; elsewhere none are caught.

    Code that defers is asked, other code is left by `Stopped` at once. A second signal ends the process where it is,
    and so does a first one that the main thread does not come to, since it waits for a library: runs bear that, as they
    bear a kill. What an earlier program has told this one to ignore, such as the end of the terminal under `nohup`,
    stays ignored.
    """

    def __init__(self) -> None:
        self.stop = Stop()
        self._before: dict[int, Any] = {}
        self._wakeups: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> "Signals":
        """Install the handlers."""
        if threading.current_thread() is not threading.main_thread():
            return self
        # Python runs handlers between two instructions of the main thread; this tells a thread of each signal at once.
        self._wakeups = reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True)
        self._thread.start()
        self._unraisable_before = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        for name in _SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._install(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back what was there."""
        if self._wakeups is None:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        sys.unraisablehook = self._unraisable_before
        reader, writer = self._wakeups
        writer.close()  # which ends the thread
        self._thread.join()
        reader.close()

    def also(self, name: str | None) -> Stop:
        """Have one more signal ask, such as `USR1` or `SIGUSR1`, and return the `Stop` that all of them ask.

        Raises:
          UserError: there is no such signal, or it cannot be caught.
        """
        if name is None:
            return self.stop
        full = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
        number = getattr(signal, full, None) if full.isalnum() else None
        if not isinstance(number, signal.Signals) or full in ("SIGKILL", "SIGSTOP"):
            raise UserError(f"requeue_signal is {name}, expected a signal that can be caught, such as USR1")
        if self._wakeups is not None:
            self._install(number)
        return self.stop

    def _install(self, number: int) -> None:
        before = signal.signal(number, self._handle)
        self._before.setdefault(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Called in the main thread."""
        self.stop.request(number)
        if not self.stop.deferred and not self.stop.raised:
            self.stop.check()

    def _watch(self, reader: socket.socket) -> None:
        """Say at once that a signal has come, and end the process where the main thread will not."""
        first = free = None  # when the first signal came, and since when nothing defers
        while True:
            reader.settimeout(None if first is None else _LOOK_SECONDS)
            try:
                numbers = reader.recv(64)
            except TimeoutError:
                numbers = b" "[:0]
            else:
                if not numbers:
                    return
            now = time.monotonic()
            caught = [number for number in numbers if number in self._before]
            if first is None and caught:
                first = now
                self.stop.request(caught[0])
                if self.stop.deferred:
                    status.say(f"\n{_name(caught[0])}: stopping at the next step; once more ends it at once")
            elif first is not None and now - first > _SAME_SECONDS and any(n != _HANGUP for n in caught):
                self._end(f"{self.stop.line()} (a second signal: {_name(caught[-1])})", caught[-1])
            if first is not None:
                free = None if self.stop.deferred else now if free is None else free
                if free is not None and now - free > _GRACE_SECONDS:
                    self._end(self.stop.line(), self.stop.signal)

    def _end(self, line: str, number: int | None) -> None:
        """End the process at once: no lock is waited for, no thread, no buffer."""
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode(errors="replace"))
        os._exit(128 + (number or 0))

    def _unraisable(self, unraisable: Any) -> None:
        """Pass over a stop that was raised inside a destructor: the watch ends what goes on after it."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._unraisable_before(unraisable)


_HANGUP = getattr(signal, "SIGHUP", None)


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
