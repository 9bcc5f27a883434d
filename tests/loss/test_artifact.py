"""Artifacts on disk: what comes back, and one line for everything that cannot."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import loss_reference
import numpy as np
import pytest
from loss_cases import PRIORS, random_artifact
from network_cases import NETWORKS, random_network
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss import registry

FORMAT_V1 = Path(__file__).parent / "data" / "format_v1.safetensors"


@pytest.fixture(scope="module")
def artifact():
    metadata = {"config": {"seed": 3, "hidden": [5, 4]}, "metrics": {"ranking_accuracy": 0.99}, "note": "é"}
    return random_artifact(1, metadata=metadata)


@pytest.fixture
def path(artifact, tmp_path):
    loss.save(artifact, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def rewrite(path, *, header=None, tensors=None, **fields):
    """Write the artifact again with its JSON header, its tensors or its metadata fields changed."""
    stored = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    if header is not None:
        parts = json.loads(metadata["loss"])
        header(parts)
        metadata["loss"] = json.dumps(parts)
    if tensors is not None:
        tensors(stored)
    metadata.update(fields)
    save_file(stored, path, metadata={k: v for k, v in metadata.items() if v is not None})


def refused(path, *words):
    """Assert that reading gives one line that names the file, and these words."""
    with pytest.raises(UserError) as caught:
        loss.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "edl-jax pretrain" in message
    for word in words:
        assert word in message


def test_round_trip_is_exact(artifact, path):
    again = loss.load_artifact(path)
    assert again.network == artifact.network
    assert again.calibration == artifact.calibration
    assert again.num_classes is None
    assert again.metadata == artifact.metadata
    for name in artifact.params:
        for leaf in ("kernel", "bias"):
            np.testing.assert_array_equal(again.params[name][leaf], artifact.params[name][leaf])
    logits, labels = jnp.eye(4) * 3.0, jnp.arange(4)
    np.testing.assert_array_equal(loss.load(path)(logits, labels), loss.learned_loss(artifact)(logits, labels))
    np.testing.assert_array_equal(loss.get(str(path))(logits, labels), loss.load(path)(logits, labels))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_kind_comes_back(name, tmp_path):
    stored, path = random_network(3, name), tmp_path / "a.safetensors"
    loss.save(stored, path)
    again = loss.load_artifact(path)
    assert (again.network, again.calibration, again.num_classes) == (
        stored.network,
        stored.calibration,
        stored.num_classes,
    )
    assert jax.tree.structure(again.params) == jax.tree.structure(stored.params)
    jax.tree.map(np.testing.assert_array_equal, again.params, stored.params)


def test_a_path_of_any_bytes_names_a_program(artifact, tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\n$.safetensors")
    loss.save(artifact, path)
    jax.eval_shape(jax.jit(loss.load(path)), jnp.zeros((2, 3)), jnp.zeros(2, int))


def test_files_of_format_version_1_still_load():
    """The first default prior, beside the float64 forward pass of `loss_reference.learned` on it."""
    function = loss.load(FORMAT_V1)
    artifact = loss.load_artifact(FORMAT_V1)
    assert artifact.network == loss.NetworkConfig("per_class", (16, 16), "silu", "identity")
    assert artifact.calibration.tail_log_p == -9.0
    assert artifact.metadata["config"]["mixture"]["log_uniform"] == 0.7
    logits = jnp.array([[2.0, -1.0, 0.5], [0.0, 4.0, -3.0], [-30.0, 1.0, 1.0]])
    soft = jnp.array([[0.8, 0.1, 0.1], [0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(
        function(logits, jnp.array([0, 2, 0])), [0.28973663, 7.09682781, 24.94991079], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(function(logits, soft), [0.9131513, 4.53425176, 8.90431806], rtol=1e-5, atol=1e-5)
    twenty = jnp.linspace(-3.0, 3.0, 40).reshape(2, 20)
    np.testing.assert_allclose(function(twenty, jnp.array([19, 0])), [2.88539612, 5.76553196], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", loss_reference.ACTIVATIONS)
def test_architectures(tmp_path, activation):
    path = tmp_path / "a.safetensors"
    hidden = {"relu": (3,), "tanh": (4, 3, 2)}.get(activation, (6, 5))
    loss.save(random_artifact(2, hidden=hidden, activation=activation), path)
    logits, labels = np.linspace(-6.0, 6.0, 20).reshape(4, 5), np.array([0, 2, 3, 4])
    expected = loss_reference.learned(path)(logits, np.eye(5)[labels])
    np.testing.assert_allclose(
        loss.load(path)(jnp.asarray(logits, jnp.float32), labels), expected, rtol=1e-4, atol=1e-5
    )


def test_overwriting_is_atomic(artifact, path, monkeypatch):
    before = path.read_bytes()

    write = Path.write_bytes

    def full(self, data):
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        loss.save(random_artifact(5), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    loss.save(random_artifact(5), path)
    assert path.read_bytes() != before
    assert list(path.parent.iterdir()) == [path]  # no temporary file is left


def test_missing(tmp_path):
    refused(tmp_path / "none.safetensors", "no loss artifact")
    refused(tmp_path, "no loss artifact")


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_truncated(path, length):
    path.write_bytes(path.read_bytes()[:length])
    refused(path, "truncated")


def test_not_safetensors(path):
    path.write_bytes(os.urandom(64) + b"not a safetensors file" * 20)
    refused(path, "no safetensors file")


class Bomb:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_nothing_is_unpickled(path, tmp_path):
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    refused(path, "no safetensors file")
    assert not (tmp_path / "exploded").exists()
    for source in Path(loss.__file__).parent.glob("*.py"):
        text = source.read_text(encoding="utf-8")
        assert "pickle" not in text.replace("unpickled", ""), source


@pytest.mark.parametrize("fields", [{"format": None}, {"format": "another"}])
def test_safetensors_of_something_else(path, fields):
    rewrite(path, **fields)
    refused(path, "no loss artifact of edl_jax")


@pytest.mark.parametrize("version", ["5", "0", "12", "x", None])
def test_another_version(path, version):
    rewrite(path, format_version=version)
    refused(path, f"format version {version}, expected 1, 2, 3 or 4", "use the release of edl-jax that wrote it")


def dense(change):
    def tensors(stored):
        stored["params/Dense_1/kernel"] = change(stored["params/Dense_1/kernel"].copy())

    return tensors


def with_nan(x):
    x[2, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dense(with_nan), ["Dense_1/kernel", "NaN"]),
        (dense(lambda x: x / 0.0 if x.any() else x), ["Dense_1/kernel", "infinity"]),
        (dense(lambda x: x.T.copy()), ["Dense_1/kernel", "(4, 5)", "expected (5, 4)"]),
        (lambda stored: stored.pop("params/Dense_0/bias"), ["Dense_0/bias", "None", "(5,)"]),
        (lambda stored: stored.update({"params/Dense_9/bias": np.zeros(1, np.float32)}), ["Dense_9/bias"]),
        (lambda stored: stored.update({"params/Dense_1": np.zeros(1, np.float32)}), ["damaged"]),
        (lambda stored: stored.update({"foo": np.zeros(1, np.float32)}), ["unexpected tensor foo"]),
        (lambda stored: stored.update({"other/Dense_1/bias": np.ones(4, np.float32)}), ["unexpected tensor other"]),
        (lambda stored: stored.clear(), ["Dense_0"]),
    ],
    ids=["nan", "inf", "shape", "missing", "extra", "clash", "no prefix", "other prefix", "empty"],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_tensors_that_cannot_be_used(path, change, words):
    rewrite(path, tensors=change)
    refused(path, *words)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: h.pop("network"),
        lambda h: h.pop("calibration"),
        lambda h: h["network"].pop("hidden"),
        lambda h: h["network"].update(hidden="16"),
        lambda h: h["network"].update(hidden=[5.0, 4.0]),
        lambda h: h["network"].update(hidden=7),
        lambda h: h["calibration"].update(scale=[1.0]),
        lambda h: h["calibration"].update(scale=[1.0, float("nan"), 1.0, 1.0]),
        lambda h: h["calibration"].update(scale=[1.0, -1.0, 1.0, 1.0]),
        lambda h: h["calibration"].update(scale=["a", "b", "c", "d"]),
        lambda h: h["calibration"].update(scale=[[1.0], [1.0], [1.0], [1.0]]),
        lambda h: h["calibration"].update(num_classes=[2.0, 100.0, 10.0, 1000.0]),
        lambda h: h["calibration"].update(num_classes=[], scale=[], shift=[]),
        lambda h: h["calibration"].update(tail_slope=float("inf")),
        lambda h: h["calibration"].update(tail_log_p=None),
        lambda h: h.update(num_classes="10"),
        lambda h: h.update(num_classes=1),
        lambda h: h.update(num_classes=2.5),
        lambda h: h.update(metadata=["a"]),
        lambda h: h.pop("metadata"),
    ],
)
def test_metadata_that_cannot_be_used(path, change):
    rewrite(path, header=change)
    refused(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "\u0000", "[" * 100_000, None])
def test_damaged_metadata(path, text):
    rewrite(path, loss=text)
    refused(path, "damaged metadata")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "per_clas"),
        ("activation", "sillu"),
        ("output", "exp"),
        ("hidden", []),
        ("hidden", [0]),
        ("hidden", [5000]),
    ],
)
def test_unknown_architecture(path, field, value):
    rewrite(path, header=lambda h: h["network"].update({field: value}))
    with pytest.raises(UserError, match=r"choose from|expected one or more numbers") as caught:
        loss.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_kind_that_its_tensors_are_not(tmp_path):
    for name in ("monotone identity", "pairwise identity", "table identity"):
        path = tmp_path / "a.safetensors"
        loss.save(random_network(3, name), path)
        rewrite(path, header=lambda h: h["network"].update(kind="per_class"))
        refused(path, "expected")


def test_a_joint_network_says_its_number_of_classes(tmp_path):
    stored, path = random_network(3, "joint identity"), tmp_path / "a.safetensors"
    loss.save(stored, path)
    before = path.read_bytes()
    for num_classes in (None, 7, "5", 1):
        path.write_bytes(before)
        rewrite(path, header=lambda h, c=num_classes: h.update(num_classes=c))
        refused(path)
    with pytest.raises(UserError, match="num_classes is None, expected the number of classes"):
        loss.save(loss.Artifact(stored.network, stored.params, stored.calibration), path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda stored: stored.update({"params/log_p_min": np.zeros((), np.float32)}), ["ln p = 0.0", "below 0"]),
        (lambda stored: stored.update({"params/value": np.zeros(5, np.float32)}), ["value", "(5,)", "(17,)"]),
        (lambda stored: stored.pop("params/slope"), ["slope"]),
    ],
    ids=["start", "knots", "missing"],
)
def test_a_table_that_cannot_be_used(tmp_path, change, words):
    path = tmp_path / "a.safetensors"
    loss.save(random_network(3, "table identity"), path)
    rewrite(path, tensors=change)
    refused(path, *words)


@pytest.mark.parametrize("hidden", [[1], [17, 17]])
def test_a_table_has_one_number_of_knots(tmp_path, hidden):
    path = tmp_path / "a.safetensors"
    loss.save(random_network(3, "table identity"), path)
    rewrite(path, header=lambda h: h["network"].update(hidden=hidden))
    with pytest.raises(UserError, match="a table has hidden widths") as caught:
        loss.load(path)
    assert str(path) in str(caught.value)


def test_saving_checks_as_loading_does(artifact, tmp_path):
    path = tmp_path / "b.safetensors"
    bad_params = jax.tree.map(lambda x: x * jnp.nan, artifact.params)
    with pytest.raises(UserError, match="NaN"):
        loss.save(loss.Artifact(artifact.network, bad_params, artifact.calibration), path)
    with pytest.raises(UserError, match="calibration"):
        loss.save(loss.Artifact(artifact.network, artifact.params, loss.Calibration(scale=(1.0, 2.0))), path)
    with pytest.raises(UserError, match="expected"):
        loss.save(loss.Artifact(loss.NetworkConfig(), artifact.params, artifact.calibration), path)
    assert not path.exists()


def test_for_another_number_of_classes(tmp_path):
    path = tmp_path / "c10.safetensors"
    loss.save(random_artifact(1, num_classes=10), path)
    function = loss.load(path)
    assert function(jnp.zeros((2, 10)), jnp.zeros(2, jnp.int32)).shape == (2,)
    with pytest.raises(ValueError, match="learned for 10 classes, got logits with 7"):
        function(jnp.zeros((2, 7)), jnp.zeros(2, jnp.int32))
    with pytest.raises(ValueError, match="learned for 10 classes"):
        jax.jit(jax.grad(lambda z: function(z, jnp.zeros(2, jnp.int32)).sum()))(jnp.zeros((2, 11)))


def test_default_calibration_changes_nothing(artifact):
    logits, labels = jnp.eye(4) * 3.0, jnp.arange(4)
    plain = loss.learned_loss(loss.Artifact(artifact.network, artifact.params, loss.Calibration()))
    tenfold = loss.Calibration(scale=(10.0,), shift=(-1.0,))
    scaled = loss.learned_loss(loss.Artifact(artifact.network, artifact.params, tenfold))
    np.testing.assert_allclose(scaled(logits, labels), 10.0 * plain(logits, labels) - 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("cros_entropy", {}, ["unknown loss 'cros_entropy'", "did you mean cross_entropy", "brier", ".safetensors"]),
        ("", {}, ["unknown loss ''", "brier"]),
        ("label_smoothing", {"alpa": 0.1}, ["'alpa'", "did you mean alpha"]),
        ("cross_entropy", {"alpha": 0.1}, ["'alpha'", "it has none"]),
        ("brier", {"axis": 0}, ["'axis'"]),
        ("none.safetensors", {}, ["no loss artifact at none.safetensors"]),
        ("runs/none/loss", {}, ["no loss artifact at runs/none/loss"]),
        ("none.safetensors", {"alpha": 1}, ["takes no hyper-parameters", "alpha"]),
    ],
)
def test_unknown_names(name, parameters, words):
    with pytest.raises(UserError) as caught:
        loss.get(name, **parameters)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_shipped_priors_are_small_and_say_where_they_come_from():
    priors = sorted(PRIORS.glob("*.safetensors"))
    assert priors, "the package ships at least one prior"
    for path in priors:
        assert path.stem in loss.names()
        assert path.stat().st_size < 20_000
        metadata = loss.load_artifact(path.stem).metadata
        assert metadata["config"]["mixture"]
        assert str(Path.home()) not in json.dumps(dict(metadata))


def test_a_digest_is_that_of_the_file_that_a_loss_is_read_from(path, monkeypatch):
    monkeypatch.setenv("HOME", str(path.parent))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert registry.digest(path) == registry.digest(str(path)) == registry.digest(f"~/{path.name}") == expected
    assert registry.digest("edl") == hashlib.sha256((PRIORS / "edl.safetensors").read_bytes()).hexdigest()
    assert registry.digest("cross_entropy") is None


def test_public_names():
    assert sorted(loss.__all__) == loss.__all__
    for name in loss.__all__:
        assert hasattr(loss, name)
