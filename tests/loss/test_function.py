"""A loss is a value: equal where its content is, hashable, picklable, and able to say what it is."""

import copy
import dataclasses
import functools
import inspect
import io
import pickle
import pydoc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import EQUAL_CLASSES, close, integers, normal, random_artifact

from edl_jax import loss

FORMULA = "-y * (1 - p)^2 * ln(p)"
MAKE = {name: functools.partial(loss.get, name) for name in loss.names()} | {
    "focal, gamma=1": lambda: loss.get("focal", gamma=1.0),
    "formula": lambda: loss.expression_loss(FORMULA),
    "flipped, weighted": lambda: loss.expression_loss("y * ln(p)", weights=[1.0, 1.0, 0.5], flip=True),
    "random": lambda: loss.learned_loss(random_artifact(3)),
}


@pytest.fixture
def run():
    """Return a program with the loss as a static argument."""
    return jax.jit(lambda function, *batch: function(*batch), static_argnums=0)


class Reader(pickle.Unpickler):
    """Notes the packages of which a pickle makes objects."""

    def __init__(self, file):
        super().__init__(file)
        self.packages = set()

    def find_class(self, module, name):
        self.packages.add(module.split(".")[0])
        return super().find_class(module, name)


def test_equal_content_is_an_equal_value():
    made = {name: make() for name, make in MAKE.items()}
    for name, make in MAKE.items():
        function = made[name]
        reader = Reader(io.BytesIO(pickle.dumps(function)))
        for again in (make(), reader.load(), copy.deepcopy(function)):
            assert again == function, name
            assert hash(again) == hash(function), name
            assert repr(again) == repr(function), name
        assert not reader.packages & {"jax", "jaxlib"}, name
    assert len(set(made.values())) == len(made)


def test_a_loss_from_a_file_is_equal_whatever_the_file_and_its_metadata(tmp_path, monkeypatch):
    artifact = random_artifact(1, metadata={"a": 1})
    for name, one in {"a": artifact, "b": dataclasses.replace(artifact, metadata={"b": 2})}.items():
        loss.save(one, tmp_path / f"{name}.safetensors")
    first = loss.load(tmp_path / "a.safetensors")
    assert first == loss.get(tmp_path / "b.safetensors") == loss.learned_loss(artifact)
    assert loss.load_artifact(tmp_path / "a.safetensors") == artifact
    monkeypatch.setenv("HOME", str(tmp_path))
    assert loss.get("~/a.safetensors") == first
    params = jax.tree.map(np.copy, artifact.params)
    params["Dense_0"]["bias"][0] += 1.0
    calibration = dataclasses.replace(artifact.calibration, shift=(0.3, -0.2, 0.1, 0.5))
    for change in ({"params": params}, {"calibration": calibration}, {"num_classes": 5}):
        assert loss.learned_loss(dataclasses.replace(artifact, **change)) != first
    loss.save(loss.NamedArtifact("focal", {"gamma": 1.0}), tmp_path / "focal.safetensors")
    assert loss.load(tmp_path / "focal.safetensors") == loss.get("focal", gamma=1)


def test_an_equal_loss_compiles_nothing(run, compilations):
    batch, one = (normal(0, (7, 6)), integers(0, 7, 6)), jnp.asarray(1.0)
    run(loss.get("focal", gamma=1.0), *batch)
    run(loss.expression_loss(FORMULA), *batch)
    loss.get("edl")(*batch)
    with compilations() as counts:
        for gamma in (1, np.float32(1.0), one):
            run(loss.get("focal", gamma=gamma), *batch)
        run(loss.expression_loss(FORMULA), *batch)
        loss.get("edl")(*batch)  # outside jit a learned loss is one program, that of its content
    assert not counts, counts


def test_hyper_parameters_that_are_arrays_are_compared_by_content(batch):
    theta = (0.1, 1.0, -1.0)
    given = [loss.get("taylor_glo", theta=make(theta)) for make in (np.asarray, np.array)]
    assert given[0] == given[1]
    assert hash(given[0]) == hash(given[1])
    assert given[0] != loss.get("taylor_glo", theta=np.asarray(theta[::-1]))
    assert loss.get("taylor_glo", theta=jnp.asarray(theta)) == loss.get("taylor_glo", theta=np.float32(theta))
    close(given[0](*batch), loss.taylor_glo(*batch, theta=theta))


def test_a_traced_hyper_parameter_works_and_has_no_hash(batch):
    messages = []

    def value(gamma):
        function = loss.get("focal", gamma=gamma)
        assert function == function
        assert function != loss.get("focal")
        with pytest.raises(TypeError) as error:
            hash(function)
        messages.append(str(error.value))
        return function(*batch).sum()

    slope = jax.grad(value)(1.5)
    close(slope, (value_at(1.501, batch) - value_at(1.499, batch)) / 0.002, 2e-3)
    assert messages[0].startswith("loss focal has a traced gamma and no hash: make the loss inside the traced function")


def value_at(gamma, batch):
    return loss.focal(*batch, gamma=gamma).sum()


def test_a_loss_says_what_it_is(tmp_path):
    loss.save(random_artifact(1), tmp_path / "mine.safetensors")
    cases = {
        loss.get("focal", gamma=1.0): ("focal", "gamma", "1.0", "-(1 - p_t)^gamma ln p_t", "arXiv 1708.02002"),
        loss.get("edl"): ("edl", "true_class", "evolved by"),
        loss.load(tmp_path / "mine.safetensors"): (str(tmp_path / "mine.safetensors"), "g1(p_t)"),
        loss.expression_loss("-y * ln(p)"): ("formula", "-y*ln(p)"),
    }
    for function, facts in cases.items():
        page = pydoc.plain(pydoc.render_doc(function))
        for fact in facts:
            assert fact in repr(function)
            assert fact in page
        assert list(inspect.signature(function).parameters)[:3] == ["logits", "labels", "axis"]


def test_a_public_function_says_what_it_takes():
    names = list(inspect.signature(loss.focal).parameters)
    assert names == ["logits", "labels", "gamma", *list(inspect.signature(loss.Loss.__call__).parameters)[3:]]
    doc = inspect.getdoc(loss.focal)
    assert doc.startswith("Focal loss in its softmax form")
    assert doc.index("See `Loss` for the other arguments") < doc.index("Args:") < doc.index("References:")
    with pytest.raises(TypeError, match=r"focal\(\) got an unexpected keyword argument 'gama'"):
        loss.focal(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), gama=1.0)
    assert pickle.loads(pickle.dumps(loss.focal)) is loss.focal  # noqa: S301 -- our own bytes


def test_whether_a_loss_is_a_function_of_p_t_alone(every):
    """Two predictions with one p_t, in C = 3 and 4 and with the rest shared otherwise, have one value or not."""
    rest = np.array([[0.35, 0.35, 0.0], [0.6, 0.05, 0.05]])
    with np.errstate(divide="ignore"):  # the classes of p = 0 do not exist
        logits = np.log(np.concatenate([np.full((2, 1), 0.3), rest, np.zeros((2, 1))], axis=1))
    for name, values in every.values(logits.astype(np.float32), np.zeros(2, np.int32)).items():
        if name not in EQUAL_CLASSES:
            assert loss.is_function_of_p_t(every.losses[name]) == (abs(values[0] - values[1]) < 1e-5), name
    assert loss.is_function_of_p_t(loss.focal)
    assert not loss.is_function_of_p_t(loss.brier)
    assert not loss.is_function_of_p_t(lambda logits, labels: 0.0)
