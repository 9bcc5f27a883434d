"""`edl-jax compare` in processes of their own: killed and suspended at a random moment, and gone on with."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from compare_cases import GRID, numbers, read

ROOT = Path(__file__).parents[2]
LONG = f"{GRID} edl gce --seeds 0-2 --epochs 12 --lease-seconds 6"


def start(out, *flags):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(ROOT / "run.py"), *LONG.split(), "--out", str(out), *flags]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def end(process):
    try:
        err = process.communicate(timeout=300)[1]
    finally:
        process.kill()
    assert process.returncode == 0, err
    return err


def epochs(out):
    """How many epochs every cell has written."""
    return {path.parent.name: len(path.read_text().splitlines()) for path in out.glob("cells/*/metrics.jsonl")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The result of a grid that nothing disturbs."""
    out = tmp_path_factory.mktemp("undisturbed") / "grid"
    end(start(out))
    return numbers(read(out))


@pytest.mark.slow
@pytest.mark.parametrize(("moment", "workers"), [(0, 1), (1, 1), (2, 2)])
def test_a_killed_grid_goes_on_with_two_workers_to_the_undisturbed_numbers(moment, workers, undisturbed, tmp_path):
    out, draw = tmp_path / "grid", random.Random(moment)
    killed = start(out, "--workers", str(workers))
    finished = draw.randrange(6)
    until = time.monotonic() + 120
    while len(listing_of_finished(out)) < finished or not list(out.glob("cells/*/config.json")):
        time.sleep(0.02)
        assert time.monotonic() < until
    time.sleep(0.15 * draw.random())  # within the next cell or two, of which some are left on any machine
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    done = listing_of_finished(out)
    assert len(done) < 9
    # Two more, one of which starts two processes; workers of the one that was killed may still be at a last step.
    both = [start(out, "--join"), start(out, "--join", "--workers", "2")]
    for process in both:
        end(process)
    after = listing_of_finished(out)
    assert {name: after[name] for name in done} == done
    assert len(after) == 9
    assert set(epochs(out).values()) == {12}
    assert len(resumed(out)) <= workers
    assert numbers(read(out)) == undisturbed


def resumed(out):
    """Cells that more than one process had."""
    files = out.glob("cells/*/environment.json")
    return [file.parent.name for file in files if json.loads(file.read_text())["earlier_wall_seconds"] > 0.0]


def listing_of_finished(out):
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("cells/*/result.json")}


@pytest.mark.slow
def test_the_lease_of_a_worker_that_was_suspended_is_taken_over(tmp_path):
    """It lives, and gives no sign of life: its cell is another's, and it goes on with others when it wakes."""
    out = tmp_path / "grid"
    sleeper = start(out)
    until = time.monotonic() + 120
    while not list(out.glob("cells/*/metrics.jsonl")) and time.monotonic() < until:
        time.sleep(0.05)
    sleeper.send_signal(signal.SIGSTOP)
    other = start(out, "--join")
    while not listing_of_finished(out) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(8.0)
    sleeper.send_signal(signal.SIGCONT)
    end(sleeper)
    end(other)
    assert set(epochs(out).values()) == {12}
    assert len(resumed(out)) == 1
    assert read(out)["complete"]
