"""Errors that nobody has foreseen, in a line: what happened, where, and what to do."""

import traceback
from pathlib import Path

from edl_jax.core.errors import one_line

_PACKAGE = Path(__file__).resolve().parents[1]
_LONGEST = 300  # characters of what a library says


def describe(error: BaseException, again: str = "") -> str:
    """Return a line about an error of any kind: its own words, the place in this package that met it, what to do.

    Args:
      error: the error.
      again: how to go on, where the same command may succeed another time.
    """
    said = one_line("".join(traceback.format_exception_only(error)), _LONGEST)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in said:
        return f"not enough memory ({said}{_place(error)}): ask for less, such as a smaller batch or population"
    return f"{said}{_place(error)}; --debug shows the traceback{again}"


def _place(error: BaseException) -> str:
    """Return `, in data/cache.py, line 33`: the innermost line of this package."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_PACKAGE):
            return f", in edl_jax/{file.relative_to(_PACKAGE).as_posix()}, line {line}"
    return ""
