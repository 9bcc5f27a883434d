"""The run that most tests of stage 1 look at."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pretrain_cases import quick_ends, run_here

RUN_PY = Path(__file__).parents[2] / "run.py"


@pytest.fixture(scope="module")
def drawn():
    """Runs of the module end quickly, see `quick_ends`."""
    with quick_ends() as found:
        yield found


@pytest.fixture(scope="session")
def debug_run(tmp_path_factory):
    """An uninterrupted run of preset `debug`, one for all workers: its directory and what was printed."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    printed = folder / "debug_run.txt"
    with (folder / "debug_run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not printed.exists():
            with quick_ends():
                printed.write_text(run_here(folder / "debug_run")[1])
    return folder / "debug_run", printed.read_text()


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """Start `python run.py pretrain ...` with stdin closed and no terminal."""
    folder = tmp_path_factory.mktemp("elsewhere")
    # They and this process share one compilation cache.
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    # Another process may be writing what is read: then it is compiled again, with a warning.
    environment["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation cache"

    def start(*args):
        line = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, str(RUN_PY), "pretrain", *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(line, cwd=folder, env=environment, **pipes)

    return start
