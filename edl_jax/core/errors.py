"""Errors that a person can cause: one line, exit code 2."""

import difflib
import sys
from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """Input that cannot be used.

    The message is one line that names the value, says what was expected and what to do. The command
    line prints it on stderr and exits with `exit_code`; library users catch it as an exception. `detail` holds
    further lines to print below it, for an error that has a place in what was typed.
    """

    exit_code = 2
    detail = ""


class DivergedError(UserError):
    """Training met a non-finite loss; the last good checkpoint is kept."""

    exit_code = 3


def closest(name: str, names: Iterable[str], count: int = 3) -> str:
    """Return `"did you mean a, b? choose from ..."` for an unknown name."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}choose from {', '.join(known)}"


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """Return the error for a name that a registry does not hold."""
    return UserError(f"unknown {kind} {name!r}: {closest(name, names)}")


def require(condition: bool, message: str) -> None:
    """Raise `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def command(line: str) -> str:
    """Return what to type for `line`, a command of edl_jax and its flags, as the running program was called."""
    called = Path(sys.argv[0])
    if called.name == "run.py":
        return f"python run.py {line}"
    if called.name == "__main__.py" and called.parent.name == "edl_jax":
        return f"python -m edl_jax {line}"
    return f"edl-jax {line}"
