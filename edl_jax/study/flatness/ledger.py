"""Numbers that are computed one after the other and kept, so that a killed comparison goes on."""

import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from edl_jax.core.errors import reason
from edl_jax.core.files import read_json, write_atomic, write_json
from edl_jax.study.flatness.lanczos import State

_EVERY = 5.0  # seconds between two writes
_LOGGER = logging.getLogger("edl_jax")


class Ledger:
    """Numbers by name, in a JSON file that is written every few seconds."""

    def __init__(self, path: Path) -> None:
        """Read what is in `path`; nothing where it is absent or damaged."""
        self._path, self._written = path, time.monotonic()
        self._found: dict[str, list[float]] = {}
        self._new = False
        if path.is_file():
            try:
                self._found = {key: [_number(x) for x in numbers] for key, numbers in read_json(path).items()}
            except (OSError, ValueError, TypeError) as error:
                _LOGGER.warning("%s is unreadable, computing again: %s", path, reason(error))

    def get(self, name: str, compute: Callable[[], Sequence[float]]) -> list[float]:
        """Return the numbers of a name, computed where they are not there."""
        if name not in self._found:
            self._found[name] = [float(x) for x in compute()]
            self._new = True
            if time.monotonic() - self._written > _EVERY:
                self.write()
        return self._found[name]

    def write(self) -> None:
        """Write what is new."""
        if self._new:
            write_json(self._path, self._found)
        self._new, self._written = False, time.monotonic()


def _number(value: object) -> float:
    if value is None:  # was not finite
        return math.nan
    if not isinstance(value, float | int):
        raise TypeError(f"it holds {value!r}, expected a number")
    return float(value)


class Vectors:
    """The state of Lanczos's method in a folder: a file a vector, and one of the entries of the matrix."""

    def __init__(self, folder: Path) -> None:
        """Keep the state in `folder`."""
        self._folder, self._written, self._stored = folder, time.monotonic(), 0

    def read(self, start: Callable[[], np.ndarray]) -> State:
        """Return the state that is stored, or that before the first step."""
        file = self._folder / "entries.json"
        if file.is_file():
            try:
                record = read_json(file)
                diagonal, beside = ([_number(x) for x in record[key]] for key in ("diagonal", "beside"))
                vectors = [load(self._vector(i).read_bytes())["vector"] for i in range(len(diagonal) + 1)]
                self._stored = len(vectors)
                return State(vectors, diagonal, beside)
            except Exception as error:  # whatever is made of damaged files
                _LOGGER.warning("%s is unreadable, computing again: %s", self._folder, reason(error))
        return State.start(start())

    def keep(self, state: State, *, now: bool = False) -> None:
        """Store a state that has not ended, every few seconds."""
        if state.ended or not (now or time.monotonic() - self._written > _EVERY):
            return
        for i in range(self._stored, len(state.vectors)):
            write_atomic(self._vector(i), save({"vector": state.vectors[i]}))
        self._stored = len(state.vectors)
        write_json(self._folder / "entries.json", {"diagonal": state.diagonal, "beside": state.beside})
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove what is stored, entries first."""
        for file in (self._folder / "entries.json", *self._folder.glob("vector-*.safetensors")):
            file.unlink(missing_ok=True)
        if self._folder.is_dir():
            self._folder.rmdir()

    def _vector(self, index: int) -> Path:
        return self._folder / f"vector-{index:03d}.safetensors"
