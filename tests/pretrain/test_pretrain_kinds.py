"""Every network and every strategy, from the config to the artifact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pretrain_cases import DEBUG, FIGURES, RESULT, rows_of

from edl_jax import loss, strategies
from edl_jax.core import config as presets
from edl_jax.pretrain import evolve as pretrain
from edl_jax.synthetic import drop_in as calibration

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
def test_every_network_from_the_config_to_the_artifact(tmp_path, monkeypatch, kind, compilations):
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


@pytest.mark.slow
@pytest.mark.parametrize("strategy", strategies.names())
def test_every_strategy_from_the_command_to_the_artifact(command, tmp_path, strategy):
    # Odd generations: the last chunk is not full.
    process = command("--config", "debug", "--strategy", strategy, "--generations", 5, "--out", tmp_path / "run")
    _, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert [row["generation"] for row in rows_of(tmp_path / "run")] == [1, 2, 3, 4, 5]
    assert loss.load(tmp_path / "run" / "loss.safetensors")(jnp.zeros((2, 10)), jnp.array([0, 1])).shape == (2,)
