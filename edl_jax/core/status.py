"""What a person at a terminal sees while nothing else is printed."""

import contextlib
import contextvars
import sys
from collections.abc import Iterator

_quiet = contextvars.ContextVar("quiet", default=False)


def say(what: str) -> None:
    """Print a line on standard error that says what begins now, where that is a terminal."""
    if sys.stderr.isatty() and not _quiet.get():
        print(f"{what} ...", file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what runs in the context from saying how far it is, for the sake of who says it of several runs."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def is_quiet() -> bool:
    """Return whether another one says how far the work is."""
    return _quiet.get()
