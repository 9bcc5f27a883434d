"""`python run.py export RUN --out DIR`: a folder that JAX alone can load, and that gives the run's logits."""

import ast
import json
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from downstream_cases import changed, run
from flax.traverse_util import flatten_dict

from edl_jax import data, downstream, models
from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError
from edl_jax.downstream import Classifier, exported, load_exported
from edl_jax.downstream.classifier import Signature

FILES = {"README.md", "labels.json", "load.py", "model.json", "model.stablehlo", "weights.safetensors"}


def loaded(folder):
    """What `load.py` of the folder gives, executed from there."""
    module = types.ModuleType("load")
    module.__file__ = str(folder / "load.py")
    exec(compile((folder / "load.py").read_text(), module.__file__, "exec"), module.__dict__)
    return module.load()


def test_the_folder_gives_the_logits_of_the_run(finished, tmp_path, capsys):
    out = tmp_path / "deep" / "classifier"
    assert cli.main(["export", str(finished[0]), "--out", str(out)]) == 0
    assert "epoch 4, " in capsys.readouterr().out
    assert {file.name for file in out.iterdir()} == FILES
    assert [path.name for path in out.parent.iterdir()] == ["classifier"]
    logits, weights, labels = loaded(out)
    assert labels == [str(i) for i in range(10)]
    images = data.load("digits").test_images[:5]
    expected = np.asarray(downstream.load_classifier(finished[0]).compile(5)(images))
    for count in (5, 1):
        np.testing.assert_allclose(logits(weights, images[:count]), expected[:count], rtol=1e-5, atol=1e-5)
    with pytest.raises(NotImplementedError, match="has no gradient"):
        jax.grad(lambda weights: logits(weights, images).sum())(weights)


def test_load_imports_jax_alone():
    tree = ast.parse((exported.Path(load_exported.__file__)).read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    foreign = {name for name in names if name.split(".")[0] not in (*sys.stdlib_module_names, "jax", "numpy")}
    assert foreign == set()


def test_what_is_there_is_replaced_by_a_whole_export_or_not_at_all(finished, tmp_path, monkeypatch):
    out = tmp_path / "classifier"
    with pytest.raises(UserError, match="batch_size is 0"):
        downstream.export(finished[0], out, batch_size=0)
    with monkeypatch.context() as patch:
        patch.setattr(exported, "_ROUNDING", {"float32": -1.0})
        with pytest.raises(UserError, match="the exported network is not the run's: its logits differ by"):
            downstream.export(finished[0], out)
    assert list(tmp_path.iterdir()) == []
    out.write_text("a file")
    with pytest.raises(UserError, match="classifier is a file, expected a folder"):
        downstream.export(finished[0], out, overwrite=True)
    out.unlink()
    out.mkdir()
    (out / "model.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"no part of an exported classifier \(notes.txt\)"):
        downstream.export(finished[0], out, overwrite=True)
    (out / "notes.txt").unlink()
    with pytest.raises(UserError, match="exists: give --overwrite to replace it"):
        downstream.export(finished[0], out)
    with monkeypatch.context() as patch:
        patch.setattr(exported, "_difference", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(UserError, match=r"cannot write .*classifier: No space left on device"):
            downstream.export(finished[0], out, overwrite=True)
    rename = exported.Path.rename

    def fail(path, target):
        if path.name.endswith(".incomplete"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(exported, "_write", lambda *_: None)
        patch.setattr(exported, "_difference", lambda *_: 0.0)
        patch.setattr(exported.Path, "rename", fail)
        with pytest.raises(UserError, match=r"cannot write .*classifier: Input/output error"):
            downstream.export(finished[0], out, overwrite=True)
    assert [file.name for file in out.iterdir()] == ["model.json"]
    assert downstream.export(finished[0], out, batch_size=3, overwrite=True)["difference"] < 1e-5
    assert {file.name for file in out.iterdir()} == FILES
    assert json.loads((out / "model.json").read_text())["batch_size"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["classifier"]


@pytest.mark.slow
@pytest.mark.parametrize("arch", models.names())
def test_every_network_takes_any_number_of_images(arch):
    signature = Signature(("cat", "dog"), (32, 32, 3), (0.5,) * 3, (0.5,) * 3, "bfloat16")
    model = models.create(arch, 2, jnp.bfloat16)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False))
    network = Classifier(changed(arch=arch), 1, signature, model, variables)
    lowered = exported.lower(network, flatten_dict(variables, sep="/"), None)
    (logits,) = lowered.out_avals
    assert (str(logits.shape), logits.dtype) == ("(batch, 2)", jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_average_in_a_process_that_has_jax_alone(precision, tmp_path):
    config = changed(arch="resnet8", precision=precision, epochs=2, train_size=64, ema=0.9, lr=0.01)
    run(config, out=tmp_path / "run")
    downstream.export(tmp_path / "run", tmp_path / "out")
    images = data.load("digits").test_images[:40]
    expected = np.asarray(downstream.load_classifier(tmp_path / "run").compile(40)(images))
    np.save(tmp_path / "images.npy", images)
    script = """
import sys
class Nothing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("edl_jax", "flax", "safetensors", "flatbuffers", "optax", "orbax"):
            raise ImportError(name)
sys.meta_path.insert(0, Nothing())
import numpy as np
from load import load
logits, weights, _ = load()
np.save("../logits.npy", logits(weights, np.load("../images.npy")))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path / "out", env=environment, check=True, timeout=600)
    found = np.load(tmp_path / "logits.npy")
    tolerance = 1e-5 if precision == "float32" else 0.02
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
