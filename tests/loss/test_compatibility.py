"""Files of every format version that a release has written still load, with the same values.

Each file was written by the release that introduced its version and is never written again; `test_artifact.py` has the
values of version 1.
"""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.artifacts import file as _artifact

DATA = Path(__file__).parent / "data"
LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 4.0, -3.0], [-30.0, 1.0, 1.0]])
SOFT = np.array([[0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])


def formula(logits, y):
    """Return the loss in format_v3.safetensors, in float64."""
    p = np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
    focal = 1.064 * (1.01 * -(0.946 * y)) * (1.036 * (1.13 * (1.095 - 0.93 * p)) ** 2) * (0.873 * np.log(p))
    wave = 1.004 * 0.125 * (0.767 * np.tanh(0.978 * (0.875 * p) * (0.927 * y)))
    return -np.sum(0.987 * focal + 0.938 * wave, axis=-1)


def taylor(logits, y):
    """Return the loss in format_v4.safetensors: taylor_cross_entropy of order 3, for label probabilities y."""
    q = 1.0 - np.exp(logits) / np.sum(np.exp(logits), axis=-1, keepdims=True)
    return np.sum(y * (q + q**2 / 2 + q**3 / 3), axis=-1)


EXPECTED = {
    2: ([0.98151334, 4.91240813, 36.74176518], [0.98743749, 2.96004467, 12.99325964]),
    3: (formula(LOGITS, np.eye(3)[[0, 2, 0]]), formula(LOGITS, SOFT)),
    4: (taylor(LOGITS, np.eye(3)[[0, 2, 0]]), taylor(LOGITS, SOFT)),
}


def stored_versions():
    for path in sorted(DATA.glob("format_v*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            yield int(file.metadata()["format_version"]), path


@pytest.mark.parametrize("version", EXPECTED)
def test_values_are_those_of_the_release_that_wrote_it(version):
    function = loss.load(DATA / f"format_v{version}.safetensors")
    hard, soft = EXPECTED[version]
    logits = jnp.asarray(LOGITS, jnp.float32)
    np.testing.assert_allclose(function(logits, jnp.array([0, 2, 0])), hard, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(function(logits, SOFT.astype(np.float32)), soft, rtol=2e-5, atol=1e-5)
    note = f"written by the release that introduced format version {version}"
    assert loss.load_artifact(DATA / f"format_v{version}.safetensors").metadata == {"note": note}


def test_there_is_a_file_of_every_version_that_can_be_read():
    files = dict(stored_versions())
    assert all(path.name == f"format_v{version}.safetensors" for version, path in files.items())
    assert sorted(files) == sorted(int(v) for v in _artifact._KINDS)


def test_a_file_has_the_lowest_version_that_can_say_what_it_holds(tmp_path):
    for version, path in stored_versions():
        again = tmp_path / path.name
        loss.save(loss.load_artifact(path), again)
        with safe_open(again, framework="numpy") as file:
            # Networks of version 1 are written as version 2, which holds all of them.
            assert int(file.metadata()["format_version"]) == max(version, 2)
            parts = json.loads(file.metadata()["loss"])
        assert ("expression" in parts) == (version == 3)


def test_a_later_version_is_refused_by_name(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "later.safetensors"
    save_file({}, path, metadata={"format": "edl_jax.loss", "format_version": "5", "loss": "{}"})
    with pytest.raises(UserError, match="has format version 5, expected 1, 2, 3 or 4: use the release of edl-jax that"):
        loss.load(path)
