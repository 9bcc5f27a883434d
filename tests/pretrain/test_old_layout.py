"""Run directories of earlier versions: an unfinished one goes on, a loss loads (of before the rooms)."""

import json
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from edl_jax import loss, pretrain
from edl_jax.cli import pretrain as command
from edl_jax.cli.flags import load
from edl_jax.plot import pretraining
from edl_jax.pretrain import PretrainConfig
from edl_jax.synthetic import drop_in

OLD = Path(__file__).parents[1] / "core" / "data" / "old_run"
# Rounding differs between versions and compilers, and a chaotic orbit doubles it with each step.
CLOSE = {"rtol": 1e-3, "atol": 1e-5}


def read(path):
    return json.loads(path.read_text())


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """The unfinished run, killed after two of six generations and resumed by the code of today."""
    folder = shutil.copytree(OLD / "unfinished", tmp_path_factory.mktemp("old") / "run[1]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "draw", lambda *_: None)  # tests/docs/test_notebook.py does
        patch.setattr(drop_in, "NUM_CLASSES", (2, 10, 100))  # 1,000 cost the most
        # The command as it was given then; defaults of today are others.
        flags = load(command.Flags, PretrainConfig, f"--config debug --out {folder} --resume".split(), "pretrain")
        result = pretrain.run(flags.settings, out=flags.out, resume=flags.resume)
    return folder, result


@pytest.mark.slow
def test_an_unfinished_run_goes_on_to_the_same_numbers(resumed):
    folder, result = resumed
    found, expected = rows(folder), rows(OLD / "finished")
    assert rows(OLD / "unfinished") == found[:2]  # not evolved again
    assert [row["generation"] for row in found] == [1, 2, 3, 4, 5, 6]
    for row, old in zip(found, expected, strict=True):
        assert row.keys() == old.keys()
        for name in row.keys() - {"generations_per_second"}:
            np.testing.assert_allclose(row[name], old[name], err_msg=name, **CLOSE)
    old = read(OLD / "finished" / "result.json")
    assert result.keys() == old.keys() | {"pull"}
    for name in ("fitness", "ranking_accuracy", "kendall_tau", "wrong_way_share", "fitness_optimum", "fitness_ratio"):
        assert result[name] == pytest.approx(old[name], rel=1e-3), name
    for name, value in old["r_squared"].items():
        assert result["r_squared"][name] == pytest.approx(value, abs=0.02), name
    assert read(folder / "environment.json")["finished"] is True
    # Orbax's checkpoint was read, and counts among the two that are kept.
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"4.safetensors", "6.safetensors"}


def test_its_loss_is_the_same_network(resumed):
    found, expected = load_file(resumed[0] / "loss.safetensors"), load_file(OLD / "finished" / "loss.safetensors")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, err_msg=name, rtol=1e-3, atol=1e-4)


def test_a_stored_loss_loads_and_is_as_it_was(resumed):
    function = loss.load(OLD / "finished" / "loss.safetensors")
    p = np.linspace(0.01, 0.99, 30)
    log_p = jnp.asarray(np.log(np.column_stack([p, *[(1.0 - p) / 9.0] * 9])), jnp.float32)
    labels = jnp.zeros(len(p), jnp.int32)
    values = np.asarray(function(log_p, labels))
    assert np.all(np.isfinite(values))
    assert values[0] > values[-1] + 1.0  # a wrong prediction costs more than a right one
    # Scale and shift are fitted to a sample.
    again = np.asarray(loss.load(resumed[0] / "loss.safetensors")(log_p, labels))
    np.testing.assert_allclose(values, again, rtol=0.03, atol=0.03)
    assert loss.load_artifact(OLD / "finished" / "loss.safetensors").metadata["config"]["generations"] == 6
