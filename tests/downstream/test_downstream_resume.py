"""A run of stage 2 that is interrupted at any moment and resumed has the numbers of one that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from downstream_cases import SMALL, changed, numbers, rows_of, run

from edl_jax.core.runs import Run

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Stands for a kill between two statements."""


@pytest.mark.slow  # the options' test and signal 9 below do as much
@pytest.mark.parametrize(("loop", "method"), [("steps", "log"), ("scan", "save")])
def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(tmp_path, monkeypatch, finished, loop, method):
    directory = tmp_path / "run"
    config = changed(loop=loop)
    original = getattr(Run, method)
    calls = []

    def die_after(self, *args):
        original(self, *args)
        calls.append(args)
        if len(calls) == 3:
            raise Killed

    monkeypatch.setattr(Run, method, die_after)
    with pytest.raises(Killed):
        run(config, out=directory)
    assert not (directory / "result.json").exists()
    monkeypatch.undo()
    resumed = run(config, out=directory, resume=True)
    if loop == "steps":
        uninterrupted_directory, uninterrupted = finished
    else:
        uninterrupted_directory = tmp_path / "uninterrupted"
        uninterrupted = run(config, out=uninterrupted_directory)
    assert numbers(resumed) == numbers(uninterrupted)
    assert [numbers(row) for row in rows_of(directory)] == [numbers(row) for row in rows_of(uninterrupted_directory)]


class Command:
    """`run.py downstream` with the settings of SMALL, killed and resumed."""

    def __init__(self, out, epochs=SMALL.epochs):
        flags = {"arch": "mlp", "dataset": "digits", "loss": "cross_entropy", "epochs": epochs, "train-size": 256}
        flags |= {"batch-size": 32, "warmup-epochs": 1, "out": out}
        self.out = out
        self.line = [sys.executable, str(ROOT / "run.py"), "downstream"]
        self.line += [part for name, value in flags.items() for part in (f"--{name}", str(value))]

    def start(self):
        """Start it, resuming what is there."""
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        resume = ["--resume"] if self.out.is_dir() else []
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*self.line, *resume], env=environment, text=True, **streams)

    def done(self):
        """The lines of metrics.jsonl."""
        path = self.out / "metrics.jsonl"
        return len(path.read_text().splitlines()) if path.is_file() else 0

    def writing(self):
        """Whether a checkpoint is being written: its file is renamed when that is done."""
        folder = self.out / "checkpoints"
        return folder.is_dir() and any("tmp" in path.name for path in folder.iterdir())

    def kill_when(self, condition, delay=0.0):
        """Start it, send signal 9 once the condition holds and `delay` seconds are over; return whether it did."""
        process = self.start()
        while process.poll() is None and not condition():
            time.sleep(0.001)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)  # a process that has ended takes no notice
        process.communicate()
        return process.returncode == -signal.SIGKILL

    def finish(self):
        """Let it run to its end; return what it wrote to stderr."""
        process = self.start()
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        return err


def assert_same(directory, other):
    ours, theirs = (json.loads((path / "result.json").read_text()) for path in (directory, other))
    assert numbers(ours) == numbers(theirs)
    assert [numbers(row) for row in rows_of(directory)] == [numbers(row) for row in rows_of(other)]


def test_kill_9_a_cut_line_and_an_unreadable_checkpoint(tmp_path, finished, caplog):
    command = Command(tmp_path / "run")
    assert command.kill_when(lambda: command.done() >= 2)
    assert not (command.out / "result.json").exists()
    with (command.out / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "test_acc')
    complete = list((command.out / "checkpoints").glob("*.safetensors"))
    newest = max(complete, key=lambda path: int(path.stem))
    assert len(complete) == 2
    os.truncate(newest, newest.stat().st_size // 2)
    run(SMALL, out=command.out, resume=True)  # the settings are those of the command line
    assert f"checkpoint {newest.stem} in {newest.parent} is unreadable, going on from " in caplog.text
    assert_same(command.out, finished[0])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("{", "", "Extra data"),
        ('"test_nll": ', '"test_nll": [1], "x": ', "is [1], expected"),
        ('"test_ece"', '"x"', "no"),
    ],
)
def test_a_damaged_result_is_made_again(tmp_path, finished, caplog, old, new, reason):
    shutil.copytree(finished[0], tmp_path / "run")
    file = tmp_path / "run" / "result.json"
    file.write_text(file.read_text().replace(old, new, 1))
    result = run(SMALL, out=tmp_path / "run", resume=True)
    assert "result.json is damaged" in caplog.text
    assert reason in caplog.text
    assert numbers(result) == numbers(finished[1]) == numbers(json.loads(file.read_text()))


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_the_numbers_of_an_uninterrupted_run(tmp_path):
    epochs = 3000
    run(changed(epochs=epochs), out=tmp_path / "uninterrupted")
    command, generator, kills, inside = Command(tmp_path / "killed", epochs), random.Random(0), 0, 0
    for i in range(10):
        start, before = time.monotonic(), command.done()
        if i % 3 == 0:  # at any time, that of starting and restoring included
            seconds = generator.uniform(0.5, 9.0)
            kills += command.kill_when(lambda since=start, least=seconds: time.monotonic() - since > least)
        elif i % 3 == 1:  # between two lines
            kills += command.kill_when(lambda least=before: command.done() > least, generator.uniform(0.0, 0.4))
        else:  # while a checkpoint is written
            kills += command.kill_when(lambda least=before: command.done() > least and command.writing())
            inside += command.writing()
    assert kills == 10, "the run was too short to be killed"
    assert inside >= 1, "no kill fell into the writing of a checkpoint"
    assert not (command.out / "result.json").exists()
    command.finish()
    assert_same(command.out, tmp_path / "uninterrupted")
