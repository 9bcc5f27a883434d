"""What people type, names and paths, and the errors that they can cause: one line, exit code 2."""

import difflib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

_LONGEST_REASON = 200  # characters
# Path makes one slash of two: so the usual schemes are known by one, while a folder may be named `a:`.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|(?:abfss?|az|file|ftp|gcs|gs|hdfs|hf|https?|s3|sftp|ssh):/")


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
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(fold(each), each)
    found = difflib.get_close_matches(name, known, n=count, cutoff=0.5)
    # Whoever types capitals or hyphens is near, too.
    near = found or [folded[key] for key in difflib.get_close_matches(fold(name), folded, n=count, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}choose from {', '.join(known)}"


def unknown(kind: str, name: str, names: Iterable[str]) -> UserError:
    """Return the error for a name that a registry does not hold."""
    return UserError(f"unknown {kind} {name!r}: {closest(name, names)}")


def fold(name: str) -> str:
    """Return what is compared of a name: case, hyphens, underscores and spaces do not matter."""
    return re.sub(r"[-_\s]+", "", name).casefold()


def canonical(name: str, names: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """Return the one of `names` that `name` is but for case, hyphens, underscores and spaces; else `name` itself.

    Args:
      name: what was typed.
      names: of a registry.
      synonyms: other usual names, each with the one that it stands for.
    """
    known = list(names)
    if name in known:
        return name
    spelled = {fold(other): meant for other, meant in (synonyms or {}).items()}
    spelled |= {fold(each): each for each in known}
    return spelled.get(fold(name), name)


def choose(kind: str, name: str, names: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """Return `canonical`, which is stored and printed.

    Raises:
      UserError: it is none of `names` (closest listed).
    """
    known = list(names)
    found = canonical(name, known, synonyms)
    if found not in known:
        raise unknown(kind, name, known)
    return found


def settle(config: Any, field: str, names: Iterable[str], kind: str | None = None) -> None:
    """Replace a field of a frozen config, which holds a name, by what `choose` returns; in `__post_init__`.

    Args:
      config: frozen dataclass.
      field: its field.
      names: of the registry.
      kind: what the names are, where the field does not say it.

    Raises:
      UserError: as `choose`.
    """
    object.__setattr__(config, field, choose(kind or field, getattr(config, field), names))


def local_path(path: str | os.PathLike[str]) -> Path:
    """Return a path as a person types it: `~` expanded, and of a `file://` URL the file.

    Raises:
      UserError: another URL, or the home directory of a user who is not known.
    """
    text = os.fspath(path)
    if _URL.match(text):
        if text.startswith("file:/"):
            return Path(url2pathname(urlsplit(text).path))
        scheme, _, rest = text.partition(":")
        raise UserError(
            f"{scheme}://{rest.lstrip('/')} is a URL, expected a path on this machine: copy what is there to a local "
            "folder, or mount it, and give that"
        )
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path's own says less where there is no such user
    if expanded.startswith("~"):
        who = text[1:].split("/")[0]
        why = f"there is no user {who}" if who else "this user has no home directory"
        raise UserError(f"{text} cannot be expanded: {why}; give the whole path" + ("" if who else ", or set HOME"))
    return Path(expanded)


def require(condition: bool, message: str) -> None:
    """Raise `UserError(message)` unless `condition` holds."""
    if not condition:
        raise UserError(message)


def one_line(text: str, longest: int | None = None) -> str:
    """Return a text without line ends, cut where it has more than `longest` characters."""
    text = " ".join(text.split())
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def reason(error: BaseException, *, kind: bool = False) -> str:
    """Return in a line what an error says, cut where it is long; with `kind`, or where it says nothing, its class."""
    said, name = one_line(str(error), _LONGEST_REASON), type(error).__name__
    return f"{name}: {said}" if kind and said else said or name


def command(line: str) -> str:
    """Return what to type for `line`, a command of edl_jax and its flags, as the running program was called."""
    called = Path(sys.argv[0])
    if called.name == "run.py":
        return f"python run.py {line}"
    if called.name == "__main__.py" and called.parent.name == "edl_jax":
        return f"python -m edl_jax {line}"
    return f"edl-jax {line}"
