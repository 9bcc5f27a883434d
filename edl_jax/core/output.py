"""What is printed reaches its reader: in any encoding, and on one line where it is a warning."""

import codecs
import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

from edl_jax.core.errors import one_line

_HANDLER = "edl_jax.output"
# For encodings that lack them; other characters are escaped, such as \u732b.
_ASCII = {
    **dict(zip("±−–→…³≤·×", ("+-", "-", "-", "->", "...", "^3", "<=", "*", "x"), strict=True)),
    **dict.fromkeys("╭╮╰╯├┤┬┴┼", "+"),
    **dict.fromkeys("─━", "-"),
    **dict.fromkeys("│┃", "|"),
}
_LONGEST = 500  # characters of a library's warning


def write_any_text() -> None:
    """Have standard output and error write what their encoding lacks in other characters, instead of failing.

    Bytes of file names that are no text are written as they are. An error handler that the user has chosen stays.
    """
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        # A notebook's or a test's stream need not be a TextIOWrapper.
        if getattr(stream, "errors", None) in ("strict", "surrogateescape", "backslashreplace"):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.reconfigure(errors=_HANDLER)  # type: ignore[union-attr]


@contextlib.contextmanager
def short_warnings(debug: bool) -> Iterator[None]:
    """Show warnings and log records in the context as one line each; with `debug` as Python does, and more of ours."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s") if debug else _OneLine("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    ours, before = logging.getLogger("edl_jax"), warnings.formatwarning
    level = ours.level
    if debug:
        ours.setLevel(logging.DEBUG)
    else:
        warnings.formatwarning = _format_warning
    try:
        yield
    finally:
        warnings.formatwarning = before
        ours.setLevel(level)


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the message on one line."""
        ours = record.name == "edl_jax"
        return one_line(super().format(record), 10 * _LONGEST if ours else _LONGEST)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return one_line(f"warning: {message} ({category.__name__})", _LONGEST) + "\n"


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for the first character that an encoding lacks, and where to go on."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":  # a byte of a file name, as Python keeps it
        return bytes([ord(character) - 0xDC00]), error.start + 1
    escaped = character.encode("ascii", "backslashreplace").decode()
    return _ASCII.get(character, escaped), error.start + 1
