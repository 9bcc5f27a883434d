"""Commands that are killed or run out of disk, and what two equal runs share."""

import atexit
import dataclasses
import functools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
SEED = int(os.environ.get("EDL_JAX_CRASH_SEED", "0"))
LONGEST = 300  # seconds that no command takes here, on a machine that is shared
_MEASURED = re.compile(r".*seconds.*|.*_per_second|peak_memory_mib|artifact|report")

_TRAIN = ("downstream", "--config", "debug", "--epochs", "12")
_STAGES = ("mlp_small:steps=100,batch_size=32,survivors=2", "mlp:epochs=2,batch_size=32,survivors=1")
COMMANDS = {
    "pretrain": ("pretrain", "--config", "debug", "--generations", "24"),
    "downstream steps": (*_TRAIN, "--loop", "steps"),
    "downstream scan": (*_TRAIN, "--loop", "scan"),
    "downstream stream": (*_TRAIN, "--loop", "stream", "--checkpoint-every", "3"),
    "seeds": ("downstream", "--config", "debug", "--epochs", "4", "--seeds", "0", "1", "2"),
    "ablate": ("ablate", "--config", "debug", "--factors", "std"),
    "compare": ("compare", "--config", "debug", "--epochs", "4", "--seeds", "0-2"),
    "search nlfs": ("search", "--config", "debug", "--method", "nlfs", "--nlfs.iterations", "80"),
    "search": ("search", "--config", "debug", "--gp.generations", "12"),
    "eliminate": ("eliminate", "SEARCH", "--config", "debug", "--stages", _STAGES[0], _STAGES[1]),
    "surrogate-study": ("surrogate-study", "--config", "debug", "--repeat"),
    "correlate": ("correlate", "--config", "debug", "--seeds", "0", "1"),
    "transfer": ("transfer", "--config", "debug"),
    "flatness": ("flatness", "TRAINED", "--config", "debug"),
}


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended: exit code (negative: by a signal) and what it said."""

    code: int
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines of errors."""
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


# What a word of a command stands for: the directory of a run that another command has finished.
RUNS = {"SEARCH": "search", "TRAINED": "downstream steps"}


@functools.cache
def finished(name: str) -> str:
    """Return the directory of a finished run of a command."""
    out = Path(tempfile.mkdtemp(prefix="edl-jax-")) / name.split()[0]
    ended = finish(name, out)
    assert ended.code == 0, ended.err
    atexit.register(shutil.rmtree, out.parent, ignore_errors=True)
    return str(out)


def start(name: str, out: Path) -> subprocess.Popen:
    """Start a command, resuming what is there."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    resume = ["--resume"] if out.is_dir() else []
    arguments = [finished(RUNS[word]) if word in RUNS else word for word in COMMANDS[name]]
    line = [sys.executable, str(ROOT / "run.py"), *arguments, "--out", str(out), *resume]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(line, env=environment, text=True, **streams)


def finish(name: str, out: Path) -> Ended:
    """Run a command to its end, resuming what is there; one that does not end is a failure."""
    process = start(name, out)
    try:
        err = process.communicate(timeout=LONGEST)[1]
    finally:
        process.kill()
    return Ended(process.returncode, err)


def kill_after(name: str, out: Path, seconds: float) -> Ended:
    """Start a command and kill it with signal 9 after so many seconds, if it has not ended."""
    process = start(name, out)
    try:
        err = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        err = process.communicate()[1]
    return Ended(process.returncode, err)


def moments(name: str, count: int) -> list[float]:
    """Return parts of a whole in (0, 1), one drawn in each of `count` equal ones."""
    generator = random.Random(f"{SEED} {name}")
    return [(i + generator.random()) / count for i in range(count)]


def numbers(out: Path) -> dict[str, Any]:
    """Return all that a run leaves but for what is measured: results, metrics, losses, cells of an ablation."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name in ("result.json", "report.json", "config.json"):
            # What an ablation says of equal time depends on the time.
            if path.parent != out or not list(out.glob("cells/*.npz")) or path.name == "config.json":
                text = path.read_text(encoding="utf-8").replace(str(out), "OUT")  # where losses lie that it trains with
                found[name] = _plain(json.loads(text))
                if "loss" in found[name].get("inputs", {}):
                    del found[name]["inputs"]["loss"]  # equal losses are stored with their header in any order
        elif path.name == "metrics.jsonl":
            found[name] = [_plain(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        elif path.suffix == ".safetensors" and "checkpoints" not in name:
            found[name] = {key: array.tolist() for key, array in load_file(path).items()}
        elif path.suffix == ".npz":
            with np.load(path) as file:
                even = int(file["evaluations_end"])
                found[name] = {key: file[key][:, :even].tolist() for key in file.files if file[key].ndim == 2}
                found[name]["test_ratio"] = file["test_ratio"].tolist()
        elif path.is_file() and path.suffix in (".png", ".md"):
            found[name] = "there"
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(x) for key, x in value.items() if not _MEASURED.fullmatch(key)}
    return [_plain(x) for x in value] if isinstance(value, list) else value
