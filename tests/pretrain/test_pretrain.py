import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from safetensors import safe_open

from edl_jax import loss, strategies
from edl_jax.backend import roofline
from edl_jax.cli import main as cli
from edl_jax.core import config as presets
from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run
from edl_jax.pretrain import PretrainConfig, evolve as pretrain, result as conclusion, solve_optimum
from edl_jax.pretrain.generations import Evolution, Inputs, Search
from edl_jax.pretrain.objective import Batch
from edl_jax.synthetic import drop_in as calibration

RUN_PY = Path(__file__).parents[2] / "run.py"
DEBUG = presets.load_preset("pretrain", "debug", PretrainConfig()).settled()
BATCH = presets.override(DEBUG, {"runs": 2})
FIGURES = {"convergence.png", "gradient_profile.png", "loss_shape.png", "mixture.png"}
FILES = {"config.json", "environment.json", "metrics.jsonl", "checkpoints", "figures", "result.json"}
FILES |= {"loss.safetensors", "optimum.safetensors"}
METRICS = {"generation", "fitness_best", "fitness_mean", "fitness_of_mean", "fitness_ratio", "population_spread"}
METRICS |= {"ranking_accuracy", "kendall_tau", "wrong_way_share", "gradient_norm_ratio"}
TITLES = {"held-out ranking accuracy": "ranking_accuracy", "fitness over optimum's": "fitness_ratio"}
RESULT = {"fitness", "fitness_optimum", "fitness_ratio", "gradient_norm_ratio", "kendall_tau", "num_parameters"}
RESULT |= {"pull", "r_squared", "ranking_accuracy", "tail_slope", "wrong_way_share"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment of the commands: they and this process share one compilation cache."""
    found = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    # Another process may be writing what is read: then it is compiled again, with a warning.
    found["PYTHONWARNINGS"] = "ignore:Error reading persistent compilation cache"
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        yield found
        return
    folder = str(tmp_path_factory.mktemp("cache"))
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()
    yield {**found, "JAX_COMPILATION_CACHE_DIR": folder}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


DRAW = conclusion.pretraining.draw


@pytest.fixture(scope="module", autouse=True)
def drawn():
    """Draw no figures (tests/docs/test_notebook.py does): return the rows that each would have shown."""
    found = []

    def draw(folder, rows, artifact, mixture, optimum, *_):
        assert (mixture, optimum is None) == (DEBUG.mixture, False)
        folder.mkdir(exist_ok=True)
        for name in FIGURES:
            (folder / name).touch()
        found.append(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conclusion.pretraining, "draw", draw)
        yield found


@pytest.fixture(scope="module", autouse=True)
def few_classes():
    """Calibrate for up to 100 classes: the predictions of 1,000 are most of what a run's end costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "NUM_CLASSES", (2, 10, 100))
        yield


@pytest.fixture(scope="module")
def command(environment, tmp_path_factory):
    """Start `python run.py pretrain ...` with stdin closed and no terminal."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def start(*args):
        line = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, str(RUN_PY), "pretrain", *map(str, args)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(line, cwd=folder, env=environment, **pipes)

    return start


@pytest.fixture(scope="module")
def killed_run(command, tmp_path_factory):
    """Directory of a run of preset `debug` that was killed after two generations, in a shell."""
    directory = tmp_path_factory.mktemp("killed") / "run"
    process = command("--config", "debug", "--out", directory)
    wait_for(directory / "checkpoints" / "2.safetensors", process)
    process.send_signal(signal.SIGKILL)
    assert process.communicate() == ("", "")
    assert process.returncode == -signal.SIGKILL
    assert not (directory / "result.json").exists()
    return directory


def run_here(directory, *flags):
    """Run preset `debug` in this process, which keeps its programs; return the directory and what was printed."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        assert cli.main(["pretrain", "--config", "debug", *flags, "--out", str(directory)]) == 0
    assert errors.getvalue() == ""
    return directory, printed.getvalue()


@pytest.fixture(scope="module")
def resumed_run(killed_run, tmp_path_factory):
    """A copy of the killed run that was resumed to its end: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("resumed") / "run"
    shutil.copytree(killed_run, directory)
    return run_here(directory, "--resume")


@pytest.fixture(scope="module")
def debug_run(killed_run, tmp_path_factory):
    """An uninterrupted run of preset `debug`; the killed one comes first, for the compilation cache."""
    return run_here(tmp_path_factory.mktemp("pretrain") / "run")


@pytest.fixture(scope="module")
def batch_run(environment, drawn, tmp_path_factory):
    """An uninterrupted run of preset `debug` with --runs 2: its directory, what was printed, what was drawn."""
    return *run_here(tmp_path_factory.mktemp("batch") / "run", "--runs", "2"), drawn[-1]


@pytest.fixture(scope="module")
def seed_1(environment, tmp_path_factory):
    """A run of preset `debug` with another seed: its directory."""
    directory = tmp_path_factory.mktemp("seed") / "run"
    pretrain.run(presets.override(DEBUG, {"seed": 1}), out=directory)
    return directory


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


# The run directory


def test_kill_9_and_resume_equal_an_uninterrupted_run(resumed_run, debug_run):
    assert_same_run(resumed_run[0], debug_run[0])


def test_a_run_that_is_stopped_within_a_chunk_goes_on_at_the_next_generation(debug_run, tmp_path, monkeypatch, capsys):
    rows = pretrain._rows

    def stopped(*args):  # after the first call of the program, which is one generation of the two of a chunk
        signal.raise_signal(signal.SIGUSR1)
        return rows(*args)

    shown = min(str(tmp_path / "run"), os.path.relpath(tmp_path / "run"), key=len)
    line = ["pretrain", "--config", "debug", "--out", str(tmp_path / "run"), "--requeue-signal", "USR1"]
    with monkeypatch.context() as patch:
        patch.setattr(pretrain, "_rows", stopped)
        assert cli.main(line) == 128 + signal.SIGUSR1
    said = f"stopped by SIGUSR1 after generation 1 of 6: give the same command with --out {shown} and --resume"
    assert capsys.readouterr().err == f"{said} to go on\n"
    assert [row["generation"] for row in rows_of(tmp_path / "run")] == [1]
    assert_same_run(run_here(tmp_path / "run", "--resume")[0], debug_run[0])


def test_command_writes_the_run_directory(killed_run, resumed_run):
    directory, out = resumed_run
    result = read(directory / "result.json")
    shown = [" ".join(line.split()) for line in out.splitlines()]
    assert shown[:2] == [
        f"held-out ranking accuracy {result['ranking_accuracy']:.4f}",
        f"fitness over optimum's {result['fitness_ratio']:.4f}",
    ]
    assert f"R^2 with optimum {result['r_squared']['optimum']:.4f}" in shown
    assert shown[-1] == f"loss artifact: {directory / 'loss.safetensors'}"
    assert {path.name for path in directory.iterdir() if path.suffix != ".tmp"} == FILES  # a kill may leave one
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"4.safetensors", "6.safetensors"}
    assert {path.name for path in (directory / "figures").iterdir()} == FIGURES
    assert read(directory / "config.json") == {"command": "pretrain", "config": presets.to_dict(DEBUG)}
    assert read(killed_run / "environment.json")["command"][:3] == ["run.py", "pretrain", "--config"]
    environment = read(directory / "environment.json")
    assert environment["finished"] is True
    assert 0 < result["seconds_this_session"] < environment["wall_seconds"]
    assert result["seconds_compiling"] > 0
    assert set(result) == RESULT | {"artifact", "generations", "seconds_compiling", "seconds_this_session", "seed"}


def test_metrics_have_a_line_per_generation_and_a_rate_per_chunk(debug_run):
    rows = rows_of(debug_run[0])
    assert [row["generation"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(set(row) == METRICS for row in untimed(rows))
    assert [row["generation"] for row in rows if "generations_per_second" in row] == [2, 4, 6]
    best = [row["fitness_best"] for row in rows]
    assert best == sorted(best, reverse=True)
    # The ratio is to one number, the optimum's fitness on the held-out pairs.
    np.testing.assert_allclose(
        [row["fitness_best"] / row["fitness_ratio"] for row in rows], best[0] / rows[0]["fitness_ratio"]
    )
    assert rows[-1]["fitness_ratio"] > 1.0


def test_artifact_records_how_it_was_made(debug_run):
    metadata = loss.load_artifact(debug_run[0] / "loss.safetensors").metadata
    result = read(debug_run[0] / "result.json")
    assert metadata["config"] == presets.to_dict(DEBUG)
    assert metadata["metrics"] == {name: result[name] for name in metadata["metrics"]}
    assert set(metadata["metrics"]) == RESULT
    assert metadata["seed"] == result["seed"] == 0
    assert metadata["versions"]["jax"] == jax.__version__


def test_the_optimum_lies_beside_the_evolved_loss(debug_run):
    artifact = loss.load_artifact(debug_run[0] / "optimum.safetensors")
    result = read(debug_run[0] / "result.json")
    assert artifact.network.kind == "table"
    assert result["fitness_ratio"] == pytest.approx(result["fitness"] / result["fitness_optimum"])
    assert 1.0 < result["fitness_ratio"] < 2.0
    # On these pairs and over the mixture: a standard error is about 0.003.
    assert result["fitness_optimum"] == pytest.approx(artifact.metadata["metrics"]["fitness"], abs=0.015)
    p = np.linspace(1e-3, 1.0 - 1e-3, 50)
    log_p = np.log(np.column_stack([p, *[(1.0 - p) / 9.0] * 9]))
    values = loss.load(debug_run[0] / "optimum.safetensors")(jnp.asarray(log_p), jnp.zeros(50, jnp.int32))
    assert np.all(np.diff(values) < 0.0)  # worse predictions cost more


# Several runs as one program


def test_rows_of_several_runs_name_their_run(batch_run):
    rows = rows_of(batch_run[0])
    assert [(row["generation"], row["run"]) for row in rows] == [(g, run) for g in range(1, 7) for run in (0, 1)]
    assert all(set(row) == METRICS | {"run"} for row in untimed(rows))
    assert {path.name for path in batch_run[0].iterdir()} == FILES | {"losses"}
    assert {path.name for path in (batch_run[0] / "losses").iterdir()} == {"0.safetensors", "1.safetensors"}


def test_run_i_is_the_single_run_of_seed_i(batch_run, debug_run, seed_1):
    """To the digit as users compile; compiled quickly, programs of one run and of two round differently."""
    exact = "xla_cpu_use_fusion_emitters=false" not in os.environ.get("XLA_FLAGS", "")
    directory = batch_run[0]
    results = read(directory / "result.json")["runs"]
    for i, alone in enumerate((debug_run[0], seed_1)):
        expected = measured(read(alone / "result.json"))
        del expected["generations"]
        if not exact:
            assert measured(results[i])["fitness"] == pytest.approx(expected["fitness"], rel=5e-3)
            first, alone_first = (
                next(row for row in rows_of(path) if row.get("run", i) == i) for path in (directory, alone)
            )
            assert first["fitness_mean"] == pytest.approx(alone_first["fitness_mean"], rel=1e-4)
            continue
        assert measured(results[i]) == expected
        rows = [
            {name: value for name, value in row.items() if name != "run"}
            for row in rows_of(directory)
            if row["run"] == i
        ]
        assert untimed(rows) == untimed(rows_of(alone))
        found, wanted = content_of(directory / "losses" / f"{i}.safetensors"), content_of(alone / "loss.safetensors")
        assert found[0] == wanted[0]
        assert results[i]["artifact"] == str(directory / "losses" / f"{i}.safetensors")
    assert results[0]["fitness"] != results[1]["fitness"]


def test_result_of_several_runs_is_the_best_with_mean_and_deviation(batch_run):
    directory, printed, drawn = batch_run
    result = read(directory / "result.json")
    runs = result["runs"]
    last = {row["run"]: row["fitness_best"] for row in rows_of(directory)}
    best = min(last, key=last.get)  # on held-out pairs, not on the pairs of the result
    assert {name: result[name] for name in RESULT} == {name: runs[best][name] for name in RESULT}
    assert untimed(drawn) == [row for row in untimed(rows_of(directory)) if row["run"] == best]
    assert result["artifact"] == str(directory / "loss.safetensors")
    assert content_of(directory / "loss.safetensors") == content_of(directory / "losses" / f"{best}.safetensors")
    for name in ("fitness", "fitness_ratio", "ranking_accuracy", "tail_slope"):
        values = [run[name] for run in runs]
        assert result["mean"][name] == pytest.approx(np.mean(values))
        assert result["std"][name] == pytest.approx(np.std(values, ddof=1))
    shown = [" ".join(line.split()) for line in printed.splitlines()]
    for line, title, name in zip(shown, TITLES, TITLES.values(), strict=False):
        spread = f"2 runs: {result['mean'][name]:.4f} ± {result['std'][name]:.4f}"
        assert line == f"{title} {result[name]:.4f} {spread}"


def test_several_runs_resume_where_they_were_stopped(batch_run, tmp_path, monkeypatch):
    directory, log = tmp_path / "run", Run.log_all

    def stop(self, rows):
        log(self, rows)
        if rows[-1]["generation"] == 4:  # logged, not yet saved
            raise InterruptedError

    monkeypatch.setattr(Run, "log_all", stop)
    with pytest.raises(InterruptedError):
        pretrain.run(BATCH, out=directory)
    monkeypatch.undo()
    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["2.safetensors"]
    pretrain.run(BATCH, out=directory, resume=True)
    assert_same_run(directory, batch_run[0])


def test_a_run_that_finds_nothing_is_left_out_of_the_batch(batch_run, tmp_path, monkeypatch):
    artifact = loss.load_artifact(batch_run[0] / "loss.safetensors")
    one = lambda *args: ({"fitness": float(args[3][0]), "r_squared": {}}, artifact)  # noqa: E731
    monkeypatch.setattr(conclusion, "_one", one)
    config = presets.override(DEBUG, {"runs": 3, "seed": 5})
    directory = Run.open("pretrain", config, out=tmp_path / "run")
    directory.log_all([{**row, "run": run} for row in untimed(rows_of(batch_run[0]))[:4:2] for run in range(3)])
    solutions, held_out = np.array([[0.5], [0.1], [0.25]]), np.array([0.5, np.inf, 0.3])
    result = conclusion.conclude(directory, config, None, solve_optimum(config), solutions, held_out)
    assert [(run["seed"], run["fitness"]) for run in result["runs"]] == [(5, 0.5), (6, None), (7, 0.25)]
    assert (result["seed"], result["fitness"]) == (7, 0.25)
    assert result["mean"] == {"fitness": 0.375}
    assert result["std"] == {"fitness": pytest.approx(np.std([0.5, 0.25], ddof=1))}
    assert {path.name for path in (tmp_path / "run" / "losses").iterdir()} == {"0.safetensors", "2.safetensors"}


# Networks and strategies

KINDS = {
    "monotone": {"strategy": "snes", "num_classes": 3, "wrong_way": 0.1, "roughness": 1e-3},
    "pairwise": {"strategy": "open_es", "num_classes": 3, "severity": "brier", "exploding": 0.1},
    "joint": {"strategy": "sep_cma_es", "num_classes": 3, "margin": 1.0, "beta": 10.0, "reuse": 2},
}


@pytest.fixture
def promotion():
    """Let evosax's own strategies add vectors to matrices, in the threads that compile as well."""
    jax.config.update("jax_numpy_rank_promotion", "allow")
    yield
    jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.mark.slow
@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("kind", KINDS)
def test_every_network_from_the_config_to_the_artifact(environment, tmp_path, monkeypatch, kind, compilations):
    monkeypatch.setattr(conclusion.pretraining, "draw", DRAW)
    monkeypatch.setattr(calibration, "NUM_CLASSES", (3, 7))  # each of the four is a program
    # Odd generations: the last chunk is not full.
    config = presets.override(DEBUG, {"network": {"kind": kind}, "generations": 5, **KINDS[kind]})
    with compilations() as counts:
        result = pretrain.run(config, out=tmp_path / "run")
    assert counts["jit(evolve)"] == 1
    assert [row["generation"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4, 5]
    for name in RESULT - {"r_squared"}:
        assert np.isfinite(result[name]), name
    assert {path.name for path in (tmp_path / "run" / "figures").iterdir()} == FIGURES
    # A severity that is no function of p_t has no optimum that is one.
    assert (tmp_path / "run" / "optimum.safetensors").exists() == (kind != "pairwise")
    assert "optimum" in result["r_squared"]
    assert result["fitness_ratio"] > 0.9
    function = loss.load(result["artifact"])
    labels = jnp.array([0, 2])
    values = function(jnp.array([[3.0, 0.0, -1.0], [3.0, 0.0, -1.0]]), labels)
    assert np.all(np.isfinite(values))
    if kind == "joint":
        with pytest.raises(ValueError, match="learned for 3 classes, got logits with 4"):
            function(jnp.zeros((2, 4)), labels)
    else:
        assert values[0] < values[1]  # a right prediction costs less than a wrong one
        assert np.all(np.isfinite(function(jnp.zeros((2, 7)), labels)))
    if kind == "monotone":
        assert result["wrong_way_share"] == 0.0


def test_profile_prints_four_lines(debug_run, tmp_path, monkeypatch, capsys):
    for name, value in (("_MATRIX", 64), ("_VECTOR", 1 << 18), ("_REPEATS", 2)):
        monkeypatch.setattr(roofline, name, value)
    monkeypatch.setattr(pretrain, "conclude", lambda *_: read(debug_run[0] / "result.json"))
    monkeypatch.setattr(pretrain, "draw", lambda *_: None)
    assert cli.main(["pretrain", "--config", "debug", "--profile", "--out", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()[:4]
    assert lines[0].startswith("profile: ")
    for text in lines:
        found = [float(x) for x in re.findall(r"\d+(?:\.\d+)?", text)]
        assert found
        assert all(0.0 < x < np.inf for x in found), text


# What the numbers mean, from the file alone and in NumPy


class Reference:
    """The loss in an artifact, read and computed without the package."""

    def __init__(self, path):
        with safe_open(path, framework="numpy") as file:
            self.tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
            header = json.loads(file.metadata()["loss"])
        self.calibration, self.config = header["calibration"], header["metadata"]["config"]
        assert (header["network"]["kind"], header["network"]["activation"]) == ("true_class", "tanh")

    def h(self, log_p):
        x = np.stack([np.exp(log_p), log_p / 10.0], axis=-1)
        for layer in range(len(self.tensors) // 2):
            if layer:
                x = np.tanh(x)
            x = x @ self.tensors[f"params/Dense_{layer}/kernel"] + self.tensors[f"params/Dense_{layer}/bias"]
        return x[..., 0]

    def __call__(self, logits, labels):
        c = self.calibration
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        at = np.arange(len(labels)), labels
        raw = self.h(np.maximum(log_p[at], c["tail_log_p"]))
        raw += c["tail_slope"] * np.minimum(log_p[at] - c["tail_log_p"], 0.0)
        return c["scale"][0] * raw + c["shift"][0]


def draw(rng, mixture, labels, num_classes):
    """Draw a prediction per label as edl_jax/synthetic/mixture.py says, log-probabilities."""
    k, f, n = mixture["confidence"], mixture["flatness"], num_classes
    table = {
        "uniform": (1.0, 1.0, 1.0),
        "confident_right": (k, 1 / (n - 1), 1 / (n - 1)),
        "confident_wrong": (1.0, k, 1 / (n - 2)),
        "boundary": (k, k, 1 / (n - 2)),
        "near_uniform": (f, f, f),
        "log_uniform": (1.0, mixture["spread"], mixture["spread"]),
    }
    weights = np.array([mixture[name] for name in table])
    rows = np.arange(len(labels))
    component = rng.choice(len(table), size=len(labels), p=weights / weights.sum())
    rival = (labels + rng.integers(1, n, len(labels))) % n
    true, against, other = np.array(list(table.values()))[component].T
    concentration = np.repeat(other[:, None], n, axis=1)
    concentration[rows, labels], concentration[rows, rival] = true, against
    # ln Gamma(a) = ln Gamma(a + 1) + ln(U) / a keeps tiny ones.
    log_gamma = np.log(rng.gamma(concentration + 1.0)) + np.log(rng.uniform(size=concentration.shape)) / concentration
    log_p = log_gamma - np.logaddexp.reduce(log_gamma, axis=-1, keepdims=True)
    level = mixture["log_p_min"] * rng.uniform(size=len(labels))
    log_gamma[rows, labels] = -np.inf
    set_level = log_gamma - np.logaddexp.reduce(log_gamma, axis=-1, keepdims=True) + np.log(-np.expm1(level))[:, None]
    set_level[rows, labels] = level
    return np.where((component == list(table).index("log_uniform"))[:, None], set_level, log_p)


@pytest.fixture(scope="module")
def fresh(debug_run):
    """The artifact's loss in NumPy, and 20,000 pairs that the run has not seen."""
    reference = Reference(debug_run[0] / "loss.safetensors")
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, 20_000)
    return reference, labels, *(draw(rng, reference.config["mixture"], labels, 10) for _ in range(2))


def test_ranking_accuracy_and_fitness_hold_on_fresh_pairs(debug_run, fresh):
    reference, labels, a, b = fresh
    result = read(debug_run[0] / "result.json")
    at = np.arange(len(labels)), labels
    loss_a, loss_b = reference(a, labels), reference(b, labels)
    order = np.sign(a[at] - b[at])  # severity `error` is 1 - p_t
    accuracy = np.mean(np.sign(loss_b - loss_a) == order)
    spread = np.std(np.concatenate([loss_a, loss_b]))
    fitness = np.mean(np.logaddexp(0.0, -order * (loss_b - loss_a) / spread))
    # Both are means over some 20,000 pairs: their standard errors are about 0.002 and 0.004.
    assert accuracy == pytest.approx(result["ranking_accuracy"], abs=0.008)
    assert fitness == pytest.approx(result["fitness"], abs=0.015)


def test_loaded_loss_is_the_reference(debug_run, fresh):
    reference, labels, a, _ = fresh
    function = loss.load(debug_run[0] / "loss.safetensors")
    found = function(jnp.asarray(a[:2000], jnp.float32), jnp.asarray(labels[:2000], jnp.int32))
    np.testing.assert_allclose(found, reference(a[:2000], labels[:2000]), rtol=2e-4, atol=2e-4)


def test_drop_in_scale_is_cross_entropys_within_two_percent(debug_run, fresh):
    reference, labels, a, b = fresh
    logits, labels = np.concatenate([a, b]), np.concatenate([labels, labels])
    logits = np.maximum(logits, -60.0)  # logits: any shift and any finite stand-in for no mass will do
    step, gradient = 1e-4, np.empty_like(logits)
    for column in range(10):
        ahead, behind = logits.copy(), logits.copy()
        ahead[:, column] += step
        behind[:, column] -= step
        gradient[:, column] = (reference(ahead, labels) - reference(behind, labels)) / (2 * step)
    cross_entropy = np.exp(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)) - np.eye(10)[labels]
    ratio = np.linalg.norm(gradient, axis=1).mean() / np.linalg.norm(cross_entropy, axis=1).mean()
    assert ratio == pytest.approx(1.0, abs=0.02)
    assert read(debug_run[0] / "result.json")["gradient_norm_ratio"] == pytest.approx(1.0, abs=0.02)
    assert reference(logits, labels).min() == pytest.approx(0.0, abs=0.05)


# Interruption


def wait_for(path, process):
    deadline = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)


def test_api_resumes_over_a_damaged_checkpoint_and_a_cut_line(environment, debug_run, tmp_path, caplog):
    directory = tmp_path / "run"
    shutil.copytree(debug_run[0], directory)
    (directory / "result.json").unlink()
    (directory / "loss.safetensors").unlink()
    os.truncate(directory / "checkpoints" / "6.safetensors", 100)
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"generation": 7, "fitness_be')
    result = pretrain.run(DEBUG, out=directory, resume=True)
    assert result == read(directory / "result.json")
    assert result["artifact"] == str(directory / "loss.safetensors")
    assert "checkpoint 6 in" in caplog.text
    assert_same_run(directory, debug_run[0])


START = Search({"x": np.zeros((1, 2))}, np.zeros(1, np.int32), np.zeros((1, 2)), np.full(1, np.inf))


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


def test_without_a_checkpoint_a_resumed_run_starts_over(tmp_path, monkeypatch):
    # Killed between the first metrics and the first checkpoint.
    run = Run.open("pretrain", DEBUG, out=tmp_path / "run")
    run.log_all([{"generation": 1}, {"generation": 2}])
    run.close()

    def evolve(*_):
        raise InterruptedError

    stub(monkeypatch, evolve)
    with pytest.raises(InterruptedError):
        pretrain.run(DEBUG, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_unreadable_checkpoints_stop_the_run_in_one_line(tmp_path, monkeypatch, capsys):
    stub(monkeypatch, lambda search, *_: (search, {}))
    run = Run.open("pretrain", DEBUG, out=tmp_path / "run")
    run.log_all([{"generation": 1}, {"generation": 2}])
    run.save(2, START)
    run.close()
    os.truncate(run.path / "checkpoints" / "2.safetensors", 100)
    assert cli.main(["pretrain", "--config", "debug", "--out", str(run.path), "--resume"]) == 2
    err = capsys.readouterr().err
    assert "can be read (2: " in err
    assert err.count("\n") == 1
    assert len(run.metrics()) == 2


@pytest.mark.parametrize("fitness", [np.inf, np.nan])
def test_a_search_without_a_finite_loss_says_what_to_change(tmp_path, monkeypatch, fitness):
    metrics = {name: np.full((1, 2), fitness) for name in ("fitness_best", "ranking_accuracy")}
    stub(monkeypatch, lambda search, *_: (search._replace(best_fitness=np.full(1, fitness)), metrics))
    with pytest.raises(UserError, match=r"chaotic_es found no loss with a finite fitness: lower --std \(now"):
        pretrain.run(DEBUG, out=tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


# The slow tier


@pytest.mark.slow
def test_a_killed_run_resumed_in_a_shell_is_silent_and_the_same(killed_run, command, debug_run, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(killed_run, directory)
    process = command("--config", "debug", "--out", directory, "--resume")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == f"loss artifact: {directory / 'loss.safetensors'}"
    assert {path.name for path in (directory / "figures").iterdir()} == FIGURES
    assert all(path.stat().st_size > 10_000 for path in (directory / "figures").iterdir())
    # Not the artifact, which the command calibrates for more numbers of classes.
    assert measured(read(directory / "result.json")) == measured(read(debug_run[0] / "result.json"))
    assert untimed(rows_of(directory)) == untimed(rows_of(debug_run[0]))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", strategies.names())
def test_every_strategy_from_the_command_to_the_artifact(command, tmp_path, strategy):
    # Odd generations: the last chunk is not full.
    process = command("--config", "debug", "--strategy", strategy, "--generations", 5, "--out", tmp_path / "run")
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert [row["generation"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert loss.load(tmp_path / "run" / "loss.safetensors")(jnp.zeros((2, 10)), jnp.array([0, 1])).shape == (2,)


@pytest.mark.slow
def test_chunk_size_does_not_change_the_numbers(environment, debug_run, tmp_path):
    result = pretrain.run(presets.override(DEBUG, {"chunk": 4}), out=tmp_path / "run")
    expected = read(debug_run[0] / "result.json")
    for key in ("fitness", "ranking_accuracy", "kendall_tau", "r_squared", "tail_slope"):
        assert result[key] == expected[key]
    assert untimed(rows_of(tmp_path / "run")) == untimed(rows_of(debug_run[0]))


@pytest.mark.slow
def test_full_disk_is_one_line_and_the_resumed_run_is_the_same(environment, debug_run, tmp_path, monkeypatch, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    original = Run.save

    def fill_first(self, step, state):
        if step == 4:
            with (disk / "filler").open("wb", buffering=0) as file:
                while (disk / "filler").stat().st_size < 2**21 and os.statvfs(disk).f_bavail:
                    file.write(b"\0" * 4096)
        original(self, step, state)

    try:
        monkeypatch.setattr(Run, "save", fill_first)
        line = ["pretrain", "--config", "debug", "--out", str(disk / "run")]
        assert cli.main(line) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "No space left on device; make room" in err
        (disk / "filler").unlink()
        monkeypatch.undo()
        assert cli.main([*line, "--resume"]) == 0
        assert_same_run(disk / "run", debug_run[0])
    finally:
        subprocess.run(["umount", str(disk)], check=True)
