"""What a figure calls a loss."""

from pathlib import Path

import jax
import pytest

from edl_jax import loss
from edl_jax.loss.networks import kinds


@pytest.fixture
def stored(tmp_path):
    """An artifact of a network, at the place of a run directory's loss."""
    network = loss.NetworkConfig(kind="per_class", hidden=(2,))
    params = kinds.init(jax.random.key(0), network, None)
    path = tmp_path / "first" / "loss.safetensors"
    path.parent.mkdir()
    loss.save(loss.Artifact(network, params, loss.Calibration()), path)
    return path


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("edl", None, "edl"),
        ("focal", {}, "focal"),
        ("focal", {"gamma": 1}, "focal (gamma=1)"),
        ("taylor_glo", {"theta": (1, 0.5)}, "taylor_glo (theta=1,0.5)"),
    ],
)
def test_a_name_with_its_hyper_parameters(name, parameters, expected):
    assert loss.title(name, parameters) == expected


def test_a_network_by_its_kind_and_run_directory(stored):
    assert loss.title(str(stored)) == loss.title(stored) == "per_class network of first"


def test_a_network_elsewhere_by_its_file(stored):
    path = stored.rename(stored.with_name("second.safetensors"))
    assert loss.title(path) == "per_class network of first/second"


def test_the_shipped_optimum_is_a_name_and_a_copy_of_it_an_optimum(tmp_path):
    path = tmp_path / "optimum.safetensors"
    loss.save(loss.load_artifact("edl_optimum"), path)
    assert loss.title("edl_optimum") == "edl_optimum"
    assert loss.title(path) == f"optimum of {tmp_path.name}"


def test_a_formula_by_its_text_cut_where_it_is_long(tmp_path):
    path = tmp_path / "f.safetensors"
    loss.save(loss.FormulaArtifact.from_formula("-y * ln(p)"), path)
    assert loss.title(path) == "-y*ln(p)"
    loss.save(loss.FormulaArtifact.from_formula(" + ".join(["y * p"] * 12)), path)
    assert loss.title(path) == ("y*p + " * 12)[:39] + "…"


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_a_file_that_is_gone_or_damaged_by_its_folder_and_stem(content, tmp_path):
    path = tmp_path / "run" / "loss.safetensors"
    if content is not None:
        path.parent.mkdir()
        path.write_bytes(content)
    assert loss.title(path) == "run/loss"
    assert loss.title(Path("gone") / "own.safetensors") == "gone/own"
