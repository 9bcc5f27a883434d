"""Whenever a run is killed, the resumed one ends as an uninterrupted one: what every command owes to `Run`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax.core.runs import read_checkpoint

ROOT = Path(__file__).parents[2]
# (method, when, which call of it): the gaps between writes, inside each kind of them, and the two ends.
MOMENTS = [
    ("open", "before", 1),  # nothing but the folder
    ("log_all", "after", 1),
    ("half a line", "after", 3),
    ("inside a checkpoint", "before", 3),
    ("save", "after", 3),
    ("inside an atomic write", "after", 8),
    ("result.json", "before", 1),
    ("finish", "after", 1),
]
# Processes are forked: importing is what they cost. Nothing that trains or evolves is imported.
SCRIPT = """
import json, os, signal, sys, warnings
from pathlib import Path

import jax
import numpy as np

from edl_jax.core import files, runs

warnings.simplefilter("ignore")
STEPS = 4

def work(folder):
    step = jax.jit(lambda state: {"x": 1.1 * state["x"] + 0.3, "count": state["count"] + 1})
    state = jax.device_put({"x": np.arange(3.0, dtype=np.float32), "count": np.int32(0)})  # nothing to compile
    run = runs.Run.open("test", STEPS_CONFIG, out=folder, resume=(folder / "config.json").exists())
    done, state = run.restore(state) or (0, state)
    run.rewind("step", done)
    while done < STEPS:
        state, done = step(state), done + 1
        run.log_all([{"step": done, "x": float(x)} for x in np.asarray(state["x"])[:2]])
        run.save(done, state)
    run.finish({"x": state["x"]})

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def patch(owner, name, when, number, then=die, only=lambda *args: True):
    original, calls = getattr(owner, name), [0]
    def patched(*args, **keywords):
        calls[0] += only(*args)
        if only(*args) and calls[0] == number and when == "before":
            then()
        result = original(*args, **keywords)
        if only(*args) and calls[0] == number and when == "after":
            then()
        return result
    setattr(owner, name, patched)

def arm(folder, method, when, number):
    def cut():
        path = folder / "metrics.jsonl"
        os.truncate(path, path.stat().st_size - 9)
        die()
    if method == "open":
        patch(runs, "write_json", when, number)
    elif method == "half a line":
        patch(runs.Run, "log_all", when, number, cut)
    elif method == "inside a checkpoint":  # its numbers are written, it has not its name
        patch(Path, "replace", when, number, only=lambda source, *_: "checkpoints" in str(source))
    elif method == "inside an atomic write":
        patch(files.os, "fsync", when, number)
    elif method == "result.json":
        patch(runs, "write_json", when, number, only=lambda path, *_: path.name == "result.json")
    else:
        patch(runs.Run, method, when, number)

def fork(function):
    child = os.fork()
    if not child:
        try:
            function()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1]

import dataclasses

@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = STEPS

STEPS_CONFIG = Config()
root, moments = Path(sys.argv[1]), json.loads(sys.argv[2])
endings = {"whole": fork(lambda: work(root / "whole"))}
for method, when, number in moments:
    folder = root / f"{method} {when} {number}"
    killed = fork(lambda: (arm(folder, method, when, number), work(folder)))
    finished = (folder / "result.json").exists()
    endings[folder.name] = (killed, finished, fork(lambda: work(folder)))
print(json.dumps({"endings": endings, "heavy": sorted({"flax", "evosax", "optax", "orbax"} & set(sys.modules))}))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folder of the runs, and how the processes ended."""
    root = tmp_path_factory.mktemp("killed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(root), json.dumps(MOMENTS)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout), done.stderr


def content(folder):
    """Return all that a run leaves but for times: result, metrics, whether it is finished, checkpoints."""
    like = {"x": jnp.zeros(3), "count": jnp.int32(0)}
    step, state = read_checkpoint(folder, like)
    checkpoints = sorted(path.name for path in (folder / "checkpoints").iterdir())
    return {
        "result": (folder / "result.json").read_text(),
        "metrics": (folder / "metrics.jsonl").read_text(),
        "config": (folder / "config.json").read_text(),
        "finished": json.loads((folder / "environment.json").read_text())["finished"],
        "checkpoint": (step, jax.tree.map(lambda x: np.asarray(x).tolist(), state)),
        "checkpoints": checkpoints,
    }


@pytest.fixture(scope="module")
def whole(killed):
    """What the run leaves that is not killed."""
    return content(killed[0] / "whole")


def test_a_run_that_is_not_killed(killed, whole):
    _, said, _ = killed
    assert said["endings"]["whole"] == 0
    assert said["heavy"] == []
    assert [json.loads(line)["step"] for line in whole["metrics"].splitlines()] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert whole["checkpoints"] == ["3.safetensors", "4.safetensors"]
    assert whole["checkpoint"][1]["count"] == 4
    assert whole["finished"] is True


@pytest.mark.parametrize("moment", MOMENTS, ids=[" ".join(map(str, moment)) for moment in MOMENTS])
def test_a_killed_run_ends_as_an_uninterrupted_one(killed, whole, moment):
    root, said, errors = killed
    name = " ".join(map(str, moment))
    died, finished, resumed = said["endings"][name]
    assert died == 9, errors
    assert finished == (moment[:2] == ("finish", "after"))
    assert resumed == 0, errors
    assert content(root / name) == whole
    left = {path.name for path in (root / name).iterdir()}
    assert left == {path.name for path in (root / "whole").iterdir()}
