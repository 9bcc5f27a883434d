"""The package itself: what its import costs, what it offers by name, what a wheel holds, what the extras are."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edl_jax
from edl_jax.core.errors import UserError

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_its_import_loads_no_room_and_no_jax():
    code = (
        "import sys, edl_jax; print(sorted(n for n in sys.modules if n.split('.')[0] in ('jax', 'edl_jax', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['edl_jax']"


def test_rooms_and_the_error_by_name():
    assert {"loss", "pretrain", "downstream", "data", "models", "strategies", "synthetic", "training", "study"} <= {
        *dir(edl_jax)
    }
    for name in dir(edl_jax):
        assert getattr(edl_jax, name) is not None
    assert edl_jax.UserError is UserError
    assert edl_jax.loss.get("cross_entropy").rule.name == edl_jax.loss.cross_entropy.__name__
    with pytest.raises(AttributeError, match="has no attribute 'losses'"):
        _ = edl_jax.losses


def test_a_room_whose_packages_are_missing_names_the_extra(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'evosax'", name="evosax")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"edl_jax\.strategies needs .* evosax, .* 'edl-jax\[train\]'"):
        edl_jax.__getattr__("strategies")


def test_a_plain_install_brings_what_losses_need():
    """Each package that the extra `train` brings is missing to `edl_jax.loss`, which works without."""
    names = {requirement.split(">")[0].split("[")[0] for requirement in PROJECT["dependencies"]}
    assert names == {"jax", "jaxlib", "flax", "numpy", "safetensors"}
    modules = ("cv2", "evosax", "grain", "matplotlib", "platformdirs", "requests", "sklearn", "sympy")
    modules += ("tensorflow_datasets", "tqdm", "tyro")
    code = f"""
import sys
sys.modules.update(dict.fromkeys({modules}))
import edl_jax, jax.numpy as jnp
from edl_jax import loss
from edl_jax.loss import expression
labels = jnp.array([0])
assert loss.get("edl")(jnp.array([[1.0, 2.0]]), labels) > 0.0
tree = expression.parse("-y * ln(p)")
try:
    expression.simplify(tree)
except edl_jax.UserError as error:
    print(error)
from edl_jax.cli.main import main
sys.exit(main(["losses"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "this needs sympy, which is not installed: pip install 'edl-jax[train]'\n"
    assert done.stderr.count("\n") == 1
    assert "losses needs the package platformdirs, which is not installed: pip install 'edl-jax[train]'" in done.stderr


def test_the_extras_and_the_entry_point():
    extras = PROJECT["optional-dependencies"]
    assert {"train", "all", "cuda", "tpu", "dev", "bench", "tensorboard", "docs"} == set(extras)
    assert extras["all"] == ["edl-jax[train,tensorboard]"]
    module, _, function = PROJECT["scripts"]["edl-jax"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_its_types_are_shipped():
    assert (ROOT / "edl_jax" / "py.typed").is_file()
