"""What a person at a terminal sees while nothing else is printed."""

import sys


def say(what: str) -> None:
    """Print a line on standard error that says what begins now, where that is a terminal."""
    if sys.stderr.isatty():
        print(f"{what} ...", file=sys.stderr, flush=True)
