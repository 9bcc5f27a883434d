"""One call of the command line in this process, and what it owes to whoever typed it, whatever it reads."""

import contextlib
import dataclasses
import faulthandler
import io
import logging
import os
import pickle
import re
import shlex
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, note, seed, settings, strategies as st

from edl_jax.cli.main import main

# Seconds that nothing here takes, on a machine that is shared; a call in C that never returns ends the process.
HANG_SECONDS = 120
EXIT_CODES = (0, 1, 2, 3)

# How many mutations all tests make together, and which: `make fuzz`.
MUTATIONS = int(os.environ.get("EDL_JAX_MUTATIONS", "200"))
SEED = int(os.environ.get("EDL_JAX_FUZZ_SEED", "0"))

_unpickled: list[str] = []
_watching = False


class HangError(BaseException):
    """A call that took too long; no handler of exceptions takes it."""


class FaultError(AssertionError):
    """A call that broke a promise."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call did.

    Attributes:
      arguments: that were given.
      code: exit code, None where an exception came out.
      out: standard output.
      err: standard error, that of libraries in C included.
      unpickled: what was read by pickle, and where.
      trace: of the exception that came out, or "".
    """

    arguments: tuple[str, ...]
    code: int | None
    out: str
    err: str
    unpickled: tuple[str, ...]
    trace: str

    @property
    def faults(self) -> list[str]:
        """What every call owes, broken."""
        found = []
        if self.trace:
            found.append(f"an exception came out: {self.trace.splitlines()[-1]}")
        elif self.code not in EXIT_CODES:
            found.append(f"exit code {self.code}")
        if self.unpickled:
            found.append(f"unpickled: {self.unpickled}")
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        expected = 0 if self.code == 0 else 1
        if lines and "as said above" in lines[-1]:  # of predict: a line an image that cannot be read
            expected = len(lines)
        if not self.trace and len(lines) != expected:
            found.append(f"{len(lines)} error lines with exit code {self.code}, expected {expected}")
        # What the file system says may stand as it is, since it names the file.
        if "--debug shows the traceback" in self.err and not re.search(
            r"error: \w*(OS|Directory|File\w+)Error", self.err
        ):
            found.append("an error that nobody has foreseen")
        if "Traceback (most recent call last)" in self.err:
            found.append("a traceback on stderr")
        if any(not line.removeprefix("error: ").strip() for line in lines):
            found.append("an empty error line")
        return found

    def __str__(self) -> str:
        said = "\n".join(f"    {line[:400]}" for line in (self.err + self.trace).splitlines()[-40:])
        return f"  edl-jax {shlex.join(self.arguments)}\n  exit code {self.code}\n{said}"


def fuzz(share: float, check: Callable[[st.DataObject], None]) -> None:
    """Make a share of the mutations; `check` draws one and raises what it breaks.

    The first that breaks something is told with all that it drew; the same seed and number draw the same again.
    """

    @seed(SEED)
    @settings(
        max_examples=max(round(share * MUTATIONS), 1),
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        try:
            check(data)
        except FaultError as error:
            test = os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)")
            note(f"again: EDL_JAX_MUTATIONS={MUTATIONS} EDL_JAX_FUZZ_SEED={SEED} pytest -m slow {shlex.quote(test)}")
            raise FaultError(error) from None

    run()


def call(arguments: Sequence[str]) -> Outcome:
    """Run one command in this process."""
    arguments = tuple(map(str, arguments))
    code, trace = None, ""
    with _streams() as (out, err), _no_pickle() as unpickled, _time_limit(), warnings.catch_warnings():
        warnings.simplefilter("default")  # as a person has it
        try:
            code = main(arguments)
        except SystemExit as error:  # --help of the parser
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except (Exception, HangError, KeyboardInterrupt):
            trace = traceback.format_exc()
    return Outcome(arguments, code, out(), err(), tuple(unpickled), trace)


@contextlib.contextmanager
def _streams() -> Iterator[tuple[Callable[[], str], Callable[[], str]]]:
    """Catch what is written to both streams, by libraries in C as well, as a pipe that takes UTF-8 would get it."""
    before, root = (sys.stdout, sys.stderr), logging.getLogger()
    handlers, root.handlers = root.handlers, []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        for number, file in zip((1, 2), files, strict=True):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            os.dup2(file.fileno(), number)
            stack.callback(os.dup2, kept, number)
        texts = [
            io.TextIOWrapper(io.FileIO(os.dup(number), "w"), "utf-8", errors, write_through=True)
            for number, errors in ((1, "strict"), (2, "backslashreplace"))
        ]
        sys.stdout, sys.stderr = texts
        content = ["", ""]
        try:
            yield (lambda: content[0]), (lambda: content[1])
        finally:
            sys.stdout, sys.stderr = before
            root.handlers = handlers
            for i, (text, file) in enumerate(zip(texts, files, strict=True)):
                with contextlib.suppress(OSError, ValueError):
                    text.close()
                file.seek(0)
                content[i] = file.read().decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _no_pickle() -> Iterator[list[str]]:
    """Collect what is read by pickle meanwhile."""
    global _watching
    _unpickled.clear()
    _watching = True
    try:
        yield _unpickled
    finally:
        _watching = False


def _audit(event: str, arguments: tuple) -> None:
    if _watching and event == "pickle.find_class":
        place = " < ".join(f"{frame.name} ({Path(frame.filename).name})" for frame in traceback.extract_stack()[-6:-1])
        _unpickled.append(f"{arguments}: {place}")


sys.addaudithook(_audit)  # for good, since no hook can be taken away


def _watched(function: Callable) -> Callable:
    """Note calls of a function of pickle: numbers and text need no class that the audit hook would see."""

    def read(*arguments, **keywords):
        if _watching:
            _unpickled.append(f"{function.__name__}: {traceback.extract_stack()[-2]}")
        return function(*arguments, **keywords)

    return read


pickle.load, pickle.loads = _watched(pickle.load), _watched(pickle.loads)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def late(*_: object) -> None:
        raise HangError(f"no end after {HANG_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(HANG_SECONDS)
    faulthandler.dump_traceback_later(2 * HANG_SECONDS, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def tree(root: Path) -> dict[str, bytes | str | None]:
    """Return what is below a folder: relative name -> content of a file, target of a link, None of a folder."""
    found: dict[str, bytes | str | None] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 -- names that are no text
            relative = os.path.relpath(path, root)
            if os.path.islink(path):  # noqa: PTH114
                found[relative] = os.readlink(path)  # noqa: PTH115
            elif name in folders:
                found[relative] = None
            else:
                with open(path, "rb") as file:  # noqa: PTH123
                    found[relative] = file.read()
    return found


def restore(root: Path, before: dict[str, bytes | str | None]) -> None:
    """Make what is below a folder equal to what it was, with as few writes as possible."""
    now = tree(root)
    for name in sorted(now, reverse=True):
        if name not in before or (before[name] is None) != (now[name] is None) or isinstance(now[name], str):
            path = root / name
            path.rmdir() if now[name] is None else path.unlink()
            now.pop(name)
    for name, content in sorted(before.items()):
        path = root / name
        if name in now and now[name] == content:
            continue
        if content is None:
            path.mkdir()
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)


def changes(before: dict, after: dict, allowed: str) -> list[str]:
    """Return names that are lost, changed or new, but for those that a pattern allows."""
    names = {name for name in before.keys() | after.keys() if before.get(name, 0) != after.get(name, 0)}
    return sorted(name for name in names if not re.fullmatch(allowed, name))
