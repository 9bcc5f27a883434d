"""What the tests of stage 1 share: the preset `debug`, how it is run, and what is looked at of a run."""

import contextlib
import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from edl_jax.cli import main as cli
from edl_jax.core import config as presets
from edl_jax.pretrain import PretrainConfig, evolve as pretrain, result as conclusion
from edl_jax.pretrain.generations import Evolution, Inputs, Search
from edl_jax.pretrain.objective import Batch
from edl_jax.synthetic import drop_in as calibration

DEBUG = presets.load_preset("pretrain", "debug", PretrainConfig()).settled()
FIGURES = {"convergence.png", "gradient_profile.png", "loss_shape.png", "mixture.png"}
FILES = {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "figures", "result.json"}
FILES |= {"loss.safetensors", "optimum.safetensors"}
METRICS = {"generation", "fitness_best", "fitness_mean", "fitness_of_mean", "fitness_ratio", "population_spread"}
METRICS |= {"ranking_accuracy", "kendall_tau", "wrong_way_share", "gradient_norm_ratio"}
RESULT = {"fitness", "fitness_optimum", "fitness_ratio", "gradient_norm_ratio", "kendall_tau", "num_parameters"}
RESULT |= {"pull", "r_squared", "ranking_accuracy", "tail_slope", "wrong_way_share"}
START = Search({"x": np.zeros((1, 2))}, np.zeros(1, np.int32), np.zeros((1, 2)), np.full(1, np.inf))


@contextlib.contextmanager
def quick_ends():
    """Draw no figures (tests/docs/test_notebook.py does), and calibrate for up to 100 classes: 1,000 cost the most.

    Yields what was drawn: the rows that each figure would have shown.
    """
    found = []

    def draw(folder, rows, artifact, mixture, optimum, *_):
        assert (mixture, optimum is None) == (DEBUG.mixture, False)
        folder.mkdir(exist_ok=True)
        for name in FIGURES:
            (folder / name).touch()
        found.append(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclusion.pretraining, "draw", draw)
        patch.setattr(calibration, "NUM_CLASSES", (2, 10, 100))
        yield found


def run_here(directory, *flags):
    """Run preset `debug` in this process, which keeps its programs; return the directory and what was printed."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        assert cli.main(["pretrain", "--config", "debug", *flags, "--out", str(directory)]) == 0
    assert errors.getvalue() == ""
    return directory, printed.getvalue()


def read(path):
    return json.loads(path.read_text())


def rows_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def content_of(artifact):
    """Return tensors as bytes and metadata: the file's own order of keys is not the same each time."""
    with safe_open(artifact, framework="numpy") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}, file.metadata()  # noqa: SIM118


def measured(result):
    """Return a result without timings and paths."""
    kept = {name: value for name, value in result.items() if not name.startswith("seconds") and name != "artifact"}
    return {**kept, "runs": [measured(run) for run in kept["runs"]]} if "runs" in kept else kept


def untimed(rows):
    return [{name: value for name, value in row.items() if name != "generations_per_second"} for row in rows]


def assert_same_run(found, expected):
    """Compare everything but timings and paths, bit for bit."""
    assert measured(read(found / "result.json")) == measured(read(expected / "result.json"))
    assert untimed(rows_of(found)) == untimed(rows_of(expected))
    artifacts = {path.relative_to(expected) for path in expected.rglob("*.safetensors")}
    assert {path.relative_to(found) for path in found.rglob("*.safetensors")} == artifacts
    for name in artifacts:
        assert content_of(found / name) == content_of(expected / name)
    assert {path.name for path in (found / "figures").iterdir()} == FIGURES
    assert read(found / "environment.json")["finished"] is True


def stub(monkeypatch, evolve):
    """Make pretrain run `evolve` instead of a compiled program."""
    severity = jnp.arange(4.0)[None, None]
    inputs = Inputs(jnp.zeros(1), Batch(jnp.zeros((1, 4)), jnp.zeros((1, 4, 2)), severity, None))
    program = Evolution(
        init=lambda keys: (START, inputs),
        evolve=evolve,
        compile=lambda _: evolve,
        compile_others=lambda _: None,
        assess=lambda *_: ({}, severity[0]),
        unravel=lambda x: x,
        num_dims=2,
    )
    monkeypatch.setattr(pretrain, "make_evolution", lambda *_, **__: program)
    monkeypatch.setattr(pretrain, "compile_chunk", lambda program, *_: program.evolve)
