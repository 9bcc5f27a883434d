"""Several workers on one machine: processes of their own, which end with the one that started them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import jax
from tqdm import tqdm

from edl_jax.backend import allocator
from edl_jax.core import failures, output
from edl_jax.core.errors import UserError, one_line
from edl_jax.core.signals import Signals
from edl_jax.core.stopping import Stop
from edl_jax.study.compare.leases import LeaseTimes
from edl_jax.study.compare.worker import WorkOptions, work

_LOOK = 0.25  # seconds between two looks
_GRACE = 60.0  # seconds in which workers that are asked to stop do so
# Workers that end by themselves are replaced: the cells of the others are not to wait.
_MOST_DEATHS = 20
_FAILED, _STOPPED = 2, 75
_ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = "import sys; sys.path.insert(0, sys.argv[1]); from edl_jax.study.compare.processes import serve; serve()"
_CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


class _Worker(NamedTuple):
    process: subprocess.Popen[bytes]
    log: Path


def work_in_processes(directory: Path, options: WorkOptions, count: int, stop: Stop) -> None:
    """Run cells of a grid in `count` processes until none is left.

    What a worker prints goes to DIRECTORY/workers/HOST-PID-NUMBER.log.

    Args:
      directory: of the grid, which `open_grid` has made.
      options: folders and times.
      count: of processes.
      stop: asks all of them to stop, after the next step.

    Raises:
      Stopped: `stop` was asked; workers have stored what they did.
      UserError: a worker cannot go on, or they end again and again.
    """
    workers: list[_Worker] = []
    try:
        with stop.deferring():
            workers += [_start(directory, options, number) for number in range(1, count + 1)]
            started = count
            while workers and not stop.requested:
                time.sleep(_LOOK)
                for worker in [worker for worker in workers if worker.process.poll() is not None]:
                    workers.remove(worker)
                    if worker.process.returncode == 0 or stop.requested:
                        continue
                    if worker.process.returncode == _FAILED or started >= count + _MOST_DEATHS:
                        raise UserError(f"a worker has ended ({_last_line(worker.log)}): see {worker.log}")
                    started += 1
                    workers.append(_start(directory, options, started))
    finally:
        _end(workers)


def _start(directory: Path, options: WorkOptions, number: int) -> _Worker:
    """Start a worker. Its standard input is a pipe, whose end tells it that this process has ended."""
    log = directory / "workers" / f"{socket.gethostname()}-{os.getpid()}-{number}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    given = {
        "directory": str(directory),
        "folders": [None if folder is None else os.fspath(folder) for folder in options[:2]],
        "times": list(options.times),
        "cache": [jax.config.values[name] for name in _CACHE],  # type: ignore[attr-defined]
    }
    # A group of its own: Ctrl-C reaches the process that started this one, which passes it on.
    group = {"process_group": 0} if os.name == "posix" else {}
    with log.open("ab") as file:
        command = [sys.executable, "-c", _SCRIPT, str(_ROOT), json.dumps(given)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, **group)  # type: ignore[call-overload]
    return _Worker(process, log)


def _end(workers: list[_Worker]) -> None:
    """Ask workers to stop, and end those that do not."""
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + _GRACE
    for worker in workers:
        try:
            worker.process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


def serve() -> None:
    """Work in a process that `work_in_processes` has started, and end it."""
    given = json.loads(sys.argv[2])
    for name, value in zip(_CACHE, given["cache"], strict=True):
        jax.config.update(name, value)
    tqdm.set_lock(threading.RLock())  # one of multiprocessing's would outlive a process that ends at once
    allocator.keep_freed_memory()
    data_dir, cache_dir = given["folders"]
    options = WorkOptions(data_dir, cache_dir, LeaseTimes(*given["times"]))
    code = 0
    with Signals(own_process=True) as signals, output.short_warnings(debug=False):
        threading.Thread(target=_watch_parent, args=(signals.stop,), daemon=True).start()
        try:
            work(Path(given["directory"]), options, signals.stop)
        except KeyboardInterrupt:
            code = _STOPPED
        except BaseException as error:
            code = _STOPPED if signals.stop.raised else _FAILED
            traceback.print_exc()
            said = str(error) if isinstance(error, UserError) else failures.describe(error)
            print(f"error: {one_line(said)}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # without waiting for threads that compile


def _watch_parent(stop: Stop) -> None:
    """Ask the worker to stop when the process that started it has ended, however that ended."""
    sys.stdin.buffer.read()
    stop.request(signal.SIGTERM)


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        return one_line(next((line for line in reversed(lines) if line.strip()), "without a word"), 300)
    return "without a word"
