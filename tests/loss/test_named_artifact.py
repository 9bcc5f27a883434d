"""A loss of the zoo stored with its hyper-parameters."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from edl_jax import loss
from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError
from edl_jax.loss.properties import describe as _describe
from edl_jax.loss.properties.compute import Properties

LOGITS = jnp.array([[1.0, 2.0, 0.0], [0.3, -1.0, 2.0]])
LABELS = jnp.array([1, 0])
THETA = tuple(0.1 * i for i in range(8))


@pytest.mark.parametrize(
    ("name", "parameters"), [("focal", {"gamma": 1}), ("mae", {}), ("logit_norm", {"tau": 0.5}), ("squentropy", {})]
)
def test_it_is_the_loss_of_its_name(name, parameters, tmp_path):
    path = tmp_path / "a.safetensors"
    loss.save(loss.artifact_of(name, **parameters), path)
    np.testing.assert_array_equal(loss.get(str(path))(LOGITS, LABELS), loss.get(name, **parameters)(LOGITS, LABELS))
    stored = loss.load_artifact(path)
    assert (stored.name, dict(stored.parameters)) == (name, parameters)
    assert loss.summary(path)[1] == loss.summary(name)[1]
    assert loss.title(path) == loss.title(name, parameters)


def test_several_numbers_come_back_as_they_were(tmp_path):
    artifact = loss.NamedArtifact("taylor_glo", {"theta": THETA})
    loss.save(artifact, tmp_path / "a.safetensors")
    assert loss.load_artifact(tmp_path / "a.safetensors").parameters == {"theta": THETA}


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("focla", {}, "unknown loss 'focla': did you mean focal"),
        ("focal", {"gama": 1}, "unknown hyper-parameter 'gama' of loss focal: did you mean gamma"),
        ("focal", {"gamma": -1}, "focal: gamma is -1, expected a finite number"),
        ("focal", {"gamma": float("nan")}, "gamma is nan, expected a finite number"),
        ("focal", {"gamma": "2"}, "gamma is '2', expected a finite number"),
    ],
)
def test_what_cannot_be_used_is_neither_stored_nor_loaded(name, parameters, message, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=message):
        loss.save(loss.NamedArtifact(name, parameters), path)
    assert not path.exists()
    header = json.dumps({"name": name, "parameters": parameters, "metadata": {}})
    save_file({}, path, metadata={"format": "edl_jax.loss", "format_version": "4", "loss": header})
    with pytest.raises(UserError, match=message):
        loss.load(path)


def test_a_shipped_prior_and_a_path_are_stored_as_they_are(tmp_path):
    assert isinstance(loss.artifact_of("edl"), loss.Artifact)
    with pytest.raises(UserError, match="loss edl is an artifact and takes no hyper-parameters, got gamma"):
        loss.artifact_of("edl", gamma=1)


def test_the_command_stores_it(tmp_path, capsys, monkeypatch):
    known = Properties((1.0, 1.0), True, False, (1.0,) * 3, (1.0,) * 2, False, {2: True, 3: True, 10: True}, True)
    monkeypatch.setattr(_describe, "properties", lambda *_: known)  # not what is tried here, and slow to compute
    path = tmp_path / "new" / "focal.safetensors"
    assert cli.main(["losses", "focal", "--parameters", "gamma=1", "--save", str(path)]) == 0
    assert cli.main(["losses", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "parameters  gamma = 1\n" in shown[shown.index(str(path)) :]
    np.testing.assert_array_equal(loss.load(path)(LOGITS, LABELS), loss.focal(LOGITS, LABELS, gamma=1))
