"""Asking a run to stop at a moment that loses nothing.

A `Stop` is handed down to the loops, which look at it. On the command line `edl_jax.core.signals` asks; nothing is
installed where a library user calls the same functions.
"""

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path


class Stopped(KeyboardInterrupt):
    """A command has ended because it was asked to. As one of Ctrl-C, it passes `except Exception`."""


class Stop:
    """Whether a run was asked to stop.

    Attributes:
      signal: number of the signal that asked, or None.
      path: run directory that `--resume` goes on with, or None while there is none.
      after: what is done and kept, such as `step 7 of 40`.
      hint: what to do where there is no directory.
      raised: whether `Stopped` was raised.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.path: Path | None = None
        self.after = ""
        self.hint = ""
        self.raised = False
        self._deferring = 0

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @property
    def deferred(self) -> bool:
        """Whether the code that runs chooses the moment."""
        return self._deferring > 0

    def request(self, number: int = signal.SIGTERM) -> None:
        """Ask to stop, from any thread. The first of several signals counts."""
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
        """Leave the moment to the code in the context, which asks `requested`; what it leaves is raised at the end."""
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1
        self.check()

    def line(self) -> str:
        """Return what a person is told."""
        text = "interrupted" if self.signal is None else f"stopped by {signal_name(self.signal)}"
        text += f" after {self.after}" if self.after else ""
        if self.path is None:
            return f"{text}: {self.hint}" if self.hint else text
        out = min(str(self.path), os.path.relpath(self.path), key=len)
        return f"{text}: give the same command with --out {shlex.quote(out)} and --resume to go on"


def signal_name(number: int) -> str:
    """Return what a person calls a signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
