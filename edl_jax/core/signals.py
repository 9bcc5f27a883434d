"""Signals that ask a command to stop."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any

from edl_jax.core import status
from edl_jax.core.errors import UserError
from edl_jax.core.stopping import Stop, Stopped, signal_name

# Ctrl-C, schedulers and spot machines, the end of a terminal.
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_SECONDS = 0.5  # within which signals count as one: launchers send on what the terminal sends as well
_AGAIN_SECONDS = 1.0  # after which `Stopped` is raised again: some callbacks swallow exceptions
_GRACE_SECONDS = 2.0  # for the main thread to answer: nothing interrupts what a library does outside Python
_LOOK_SECONDS = 0.25


class Signals:
    """Signals that ask `stop`, as a context manager of the main thread; in another one nothing is caught.

    Code that defers is asked; other code is left by `Stopped`. A second signal ends the process where it is, and so
    does the first one where the main thread does not answer, as inside a compiler: runs bear that as they bear a kill.
    What the program was started to ignore, as `nohup` does with the end of the terminal, stays ignored.

    Args:
      own_process: whether the process is there for this command alone, so that it may be ended.
    """

    def __init__(self, *, own_process: bool) -> None:
        self.stop = Stop()
        self._own = own_process
        self._is_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.get_ident()
        self._before: dict[int, Any] = {}
        self._answered = 0.0  # when the main thread last was told of a signal
        self._repeats = 0  # signals that the watch sends, and has not met yet

    def __enter__(self) -> "Signals":
        """Install the handlers."""
        if not self._is_main:
            return self
        if self._own:
            # Python runs handlers between two instructions of the main thread; this tells a thread of signals at once.
            reader, self._writer = socket.socketpair()
            self._writer.setblocking(False)
            self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._watcher = threading.Thread(target=self._watch, args=(reader,), name="signals", daemon=True)
            self._watcher.start()
        self._unraisable_before = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        for number in _NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._install(number)
        return self

    def __exit__(self, *_: object) -> None:
        """Put back what was there."""
        if not self._is_main:
            return
        if self._own:
            signal.set_wakeup_fd(self._wakeup_before)
            self._writer.close()  # which ends the thread
            self._watcher.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._unraisable_before

    def also(self, name: str | None) -> Stop:
        """Return `stop`, which one more signal asks from now on, such as `USR1` or `SIGUSR1`.

        Raises:
          UserError: there is no such signal, or it cannot be caught.
        """
        if name is None:
            return self.stop
        full = f"SIG{name.upper().removeprefix('SIG')}"
        number = signal.Signals.__members__.get(full)
        if number is None or full in ("SIGKILL", "SIGSTOP"):
            raise UserError(f"requeue_signal is {name}, expected a signal that can be caught, such as USR1")
        if self._is_main:
            self._install(number)
        return self.stop

    def leave(self) -> None:
        """End the process, if it is the command's own, without waiting for threads that compile, as Python would."""
        if not self._own:
            return
        number = self.stop.signal or signal.SIGINT
        if number == signal.SIGINT:  # a shell ends its loop only if this ends by the signal itself
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(128 + number)

    def _install(self, number: int) -> None:
        before = signal.signal(number, self._handle)
        self._before.setdefault(number, before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal, in the main thread."""
        second = self.stop.requested and time.monotonic() - self._answered > _SAME_SECONDS and number != signal.SIGHUP
        self._answered = time.monotonic()
        self.stop.request(number)
        if self.stop.deferred and (self._own or not second):
            return
        if _is_unwinding():  # an earlier one, which cleans up
            return
        if self._own and _is_importing(frame):  # nothing to clean up, and a library that is half there prints traces
            _tell(self.stop.line())
            self.leave()
        self.stop.raised = True
        raise Stopped(self.stop.line())

    def _watch(self, reader: socket.socket) -> None:
        """See to it that the process stops, whatever the main thread is at; in a thread."""
        first = asked = None  # when the first signal came, and when the main thread was asked last
        while True:
            reader.settimeout(None if first is None else _LOOK_SECONDS)
            try:
                numbers = reader.recv(64)
                if not numbers:
                    reader.close()
                    return
            except TimeoutError:
                numbers = b""
            now = time.monotonic()
            for number in numbers:
                if number not in self._before:
                    continue
                if self._repeats and number == self.stop.signal:
                    self._repeats -= 1
                elif first is None or asked is None:
                    first, asked = now, self._answered or now
                    self.stop.request(number)
                    if self.stop.deferred:
                        status.say(f"\n{signal_name(number)}: stopping at the next step; once more ends it at once")
                elif now - first > _SAME_SECONDS and number != signal.SIGHUP:
                    _tell(self.stop.line())
                    os._exit(128 + number)
            if asked is None or self.stop.deferred:
                continue
            if self._answered >= asked and now - asked > _AGAIN_SECONDS:
                asked, self._repeats = now, self._repeats + 1
                signal.pthread_kill(self._thread, self.stop.signal or signal.SIGINT)
            elif self._answered < asked and now - asked > _GRACE_SECONDS:
                _tell(self.stop.line())
                os._exit(128 + (self.stop.signal or signal.SIGINT))

    def _unraisable(self, unraisable: Any) -> None:
        """Say nothing of a stop that was raised inside a destructor: it is raised again."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._unraisable_before(unraisable)


def _tell(line: str) -> None:
    """Print a line on standard error, whoever holds the locks of Python's."""
    with contextlib.suppress(OSError):
        os.write(2, f"{line}\n".encode(errors="replace"))


def _is_unwinding() -> bool:
    """Return whether the code that runs handles an interrupt."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a frame runs inside an import."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
