"""Commands in processes of their own that are told to stop, whatever they are at, and then go on."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

pytestmark = pytest.mark.slow  # the fast tier stops runs in process, and processes without a run

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
TIMES = ("seconds", "images_per_second", "peak_memory", "generations_per_second", "artifact")
DIGITS = "downstream --config digits --epochs 40 --checkpoint-every 7"
PRETRAIN = "pretrain --config debug --generations 450 --chunk 60 --population-size 128 --num-pairs 4096"
COMMANDS = {
    "pretrain": f"{PRETRAIN} --evaluation plain",
    "steps": f"{DIGITS} --loop steps --val-size 64 --ema 0.9",
    "scan": f"{DIGITS} --loop scan",
    "stream": f"{DIGITS} --loop stream",
    "seeds": f"{DIGITS} --seeds 3 1",
    "compare": "compare --config digits --epochs 40 --checkpoint-every 7 --losses cross_entropy --seeds 0-2",
    "ablate": "ablate --config debug --factors noise std_rule",
}


def start(command, out, *more):
    resume = ["--resume"] if out.is_dir() else []
    line = [sys.executable, str(ROOT / "run.py"), *command.split(), "--out", str(out), *resume, *more]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, env=ENVIRONMENT, **streams)


def finish(command, out):
    process = start(command, out)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0, err


def stop(process, number, condition, delay=0.0):
    """Send a signal once the condition holds, and return what the process says."""
    while process.poll() is None and not condition():
        time.sleep(0.002)
    time.sleep(delay)
    assert process.poll() is None, "it ended before it was told to"
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (-number if number == signal.SIGINT else 128 + number), err
    said = [line for line in err.splitlines() if not re.search(r" take |^compare: |^\d+ of \d+: ", line)]  # estimates
    assert len(said) == 1, err
    assert said[0].startswith(f"stopped by {'Ctrl-C' if number == signal.SIGINT else number.name}")
    return said[0]


def untimed(value):
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if not any(part in name for part in TIMES)}
        return {name: untimed(item) for name, item in kept.items()}
    return [untimed(item) for item in value] if isinstance(value, list) else value


def content(out):
    """Return all numbers that a run leaves, but for times."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "metrics.jsonl":
            found[name] = [untimed(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.name == "result.json":
            found[name] = untimed(json.loads(path.read_text()))
        elif path.suffix == ".safetensors" and "checkpoints" not in path.parts:
            with safe_open(path, framework="numpy") as file:
                found[name] = {key: file.get_tensor(key).tolist() for key in file.keys()}  # noqa: SIM118
        elif path.suffix == ".npz":  # a cell of an ablation, whose length is a matter of time
            with np.load(path) as file:
                found[name] = file["test_ratio"].tolist()
    last = max(out.rglob("checkpoints/*.safetensors"), key=lambda path: int(path.stem), default=None)
    if last is not None:
        with safe_open(last, framework="numpy") as file:
            found["checkpoint"] = {key: file.get_tensor(key).tolist() for key in file.keys()}  # noqa: SIM118
    return found


def work(out):
    """Return how much a run has done: what it has written."""
    return sum(path.stat().st_size for path in [*out.rglob("metrics.jsonl"), *out.rglob("*.npz")])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return command -> the numbers of an uninterrupted run."""
    known = {}

    def get(name):
        if name not in known:
            out = tmp_path_factory.mktemp(name) / "run"
            finish(COMMANDS[name], out)
            known[name] = content(out)
        return known[name]

    return get


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stops_at_every_signal_and_goes_on(tmp_path, whole, name):
    out = tmp_path / "a run"
    expected = whole(name)
    for number, more in (
        (signal.SIGTERM, ()),
        (signal.SIGUSR1, ("--requeue-signal", "USR1")),
        (signal.SIGINT, ()),
        (signal.SIGHUP, ()),
    ):
        before = work(out)
        process = start(COMMANDS[name], out, *more)
        said = stop(process, number, lambda least=before: work(out) > least, delay=0.05)
        assert f"--out '{out}' and --resume to go on" in said
        assert not (out / "result.json").exists()
    finish(COMMANDS[name], out)
    found = content(out)
    if name == "ablate":  # its results are numbers of equal time
        expected, found = ({k: v for k, v in some.items() if k.endswith(".npz")} for some in (expected, found))
    assert found == expected
    assert not list(out.rglob("stopped"))


@pytest.mark.parametrize("name", ["pretrain", "steps"])
@pytest.mark.parametrize("seconds", [0.4, 1.2, 2.0, 3.0])
def test_before_training_there_is_a_line_and_the_same_command_can_be_given(tmp_path, whole, name, seconds):
    out = tmp_path / "run"
    process = start(COMMANDS[name], out)
    said = stop(process, signal.SIGINT, lambda: True, seconds)
    if out.exists():
        assert said.endswith(f"--out {out} and --resume to go on")
    else:
        assert said == "stopped by Ctrl-C: give the same command again"
    finish(COMMANDS[name], out)
    assert content(out) == whole(name)


@pytest.mark.parametrize("name", ["pretrain", "steps"])
def test_a_run_that_is_evaluated_and_drawn_stops_at_once(tmp_path, whole, name):
    out = tmp_path / "run"
    last = out / "checkpoints" / f"{450 if name == 'pretrain' else 40}.safetensors"
    said = stop(start(COMMANDS[name], out), signal.SIGTERM, last.exists, 0.1)
    assert " after generation 450 of 450" in said or " after step " in said
    finish(COMMANDS[name], out)
    assert content(out) == whole(name)


@pytest.mark.parametrize("name", ["pretrain", "steps", "ablate"])
def test_a_run_goes_on_whose_output_no_one_reads(tmp_path, whole, name):
    process = start(COMMANDS[name], tmp_path / "run")
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=600) == 0
    assert name == "ablate" or content(tmp_path / "run") == whole(name)
