"""Each command once without interruption: its numbers, and how long it takes."""

import functools
import time

import pytest
from crash_cases import finish, numbers


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Return a function: name of a command -> (numbers, seconds, bytes in the directory) without interruption."""
    root = tmp_path_factory.mktemp("whole")

    @functools.cache
    def run(name):
        for attempt in ("first", "timed"):  # the first one compiles
            out, begun = root / f"{name} {attempt}", time.monotonic()
            ended = finish(name, out)
            assert ended.code == 0, ended.err
            seconds = time.monotonic() - begun
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        return numbers(out), seconds, size

    return run
