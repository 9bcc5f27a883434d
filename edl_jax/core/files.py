"""Files that are written whole or not at all, and JSON that any reader takes."""

import contextlib
import csv
import io
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_csv(path: Path, header: Sequence[object], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, atomically: nothing stands for None and NaN."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if isinstance(x, float) and math.isnan(x) else x for x in row] for row in rows])
    write_atomic(path, text.getvalue().encode())


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files below `folder` that `write_atomic` left behind in processes that were killed."""
    for path in folder.rglob(".*.tmp"):
        found = re.fullmatch(r"\..+\.(\d+)\.tmp", path.name)
        if found and not _is_alive(int(found[1])):
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    """Return whether a process of this machine has that number; elsewhere than on POSIX systems no one can ask."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # sends nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; non-finite numbers become null."""
    text = json.dumps(plain(value), indent=2, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
      OSError: there is no such file, or it cannot be read.
      ValueError: it holds something else; the message is what one would tell a person.
    """
    return parse_json(path.read_bytes())


def parse_json(content: bytes) -> dict[str, Any]:
    """Return the JSON object that UTF-8 text says.

    Raises:
      ValueError: it says something else; the message is what one would tell a person.
    """
    try:
        value = json.loads(content.decode(), parse_int=_integer, parse_float=_finite, parse_constant=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")  # names of files may have any bytes
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}")
    return value


def _integer(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:  # no float, and no count of anything
        raise ValueError(f"the number {text[:20]}... is too large")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # which is written as null
        raise ValueError(f"it holds the number {text}")
    return value


def plain(value: Any) -> Any:
    """Return `value` with arrays as lists, NumPy scalars as Python ones and non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
