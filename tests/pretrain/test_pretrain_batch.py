"""Several runs of stage 1 as one program: each is the single run of its seed."""

import os

import numpy as np
import pytest
from pretrain_cases import (
    DEBUG,
    FILES,
    METRICS,
    RESULT,
    assert_same_run,
    content_of,
    measured,
    read,
    rows_of,
    run_here,
    untimed,
)

from edl_jax import loss
from edl_jax.core import config as presets
from edl_jax.core.runs import Run
from edl_jax.pretrain import evolve as pretrain, result as conclusion, solve_optimum

pytestmark = pytest.mark.usefixtures("drawn")
BATCH = presets.override(DEBUG, {"runs": 2})
TITLES = {"held-out ranking accuracy": "ranking_accuracy", "fitness over optimum's": "fitness_ratio"}


@pytest.fixture(scope="module")
def batch_run(drawn, tmp_path_factory):
    """An uninterrupted run of preset `debug` with --runs 2: its directory, what was printed, what was drawn."""
    return *run_here(tmp_path_factory.mktemp("batch") / "run", "--runs", "2"), drawn[-1]


@pytest.fixture(scope="module")
def seed_1(drawn, tmp_path_factory):
    """A run of preset `debug` with another seed: its directory."""
    directory = tmp_path_factory.mktemp("seed") / "run"
    pretrain.run(presets.override(DEBUG, {"seed": 1}), out=directory)
    return directory


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
