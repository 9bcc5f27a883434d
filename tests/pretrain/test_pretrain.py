"""The run directory of stage 1: metrics, the artifact, the optimum beside it, and a search that finds nothing."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pretrain_cases import DEBUG, METRICS, RESULT, read, rows_of, stub, untimed

from edl_jax import loss
from edl_jax.backend import roofline
from edl_jax.cli import main as cli
from edl_jax.core import config as presets
from edl_jax.core.errors import UserError
from edl_jax.pretrain import evolve as pretrain

pytestmark = pytest.mark.usefixtures("drawn")


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


@pytest.mark.parametrize("fitness", [np.inf, np.nan])
def test_a_search_without_a_finite_loss_says_what_to_change(tmp_path, monkeypatch, fitness):
    metrics = {name: np.full((1, 2), fitness) for name in ("fitness_best", "ranking_accuracy")}
    stub(monkeypatch, lambda search, *_: (search._replace(best_fitness=np.full(1, fitness)), metrics))
    with pytest.raises(UserError, match=r"chaotic_es found no loss with a finite fitness: lower --std \(now"):
        pretrain.run(DEBUG, out=tmp_path / "run")
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_chunk_size_does_not_change_the_numbers(debug_run, tmp_path):
    result = pretrain.run(presets.override(DEBUG, {"chunk": 4}), out=tmp_path / "run")
    expected = read(debug_run[0] / "result.json")
    for key in ("fitness", "ranking_accuracy", "kendall_tau", "r_squared", "tail_slope"):
        assert result[key] == expected[key]
    assert untimed(rows_of(tmp_path / "run")) == untimed(rows_of(debug_run[0]))
