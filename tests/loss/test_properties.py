"""Properties computed from a loss, against what is known of it by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.properties import describe as _describe, risk as _risk

# Known in closed form: where the loss is least with C = 10, and what literature says of it.
LEAST = {"ace": 1 / 1.1, "baikal": 10**-0.5, "label_smoothing": 0.91, "sparse_lsr": 0.91}
SYMMETRIC = {"anl_ce", "anl_fl", "mae", "nce", "nce_rce", "reverse_cross_entropy", "zero_one"}
PROPER = {"balanced_softmax", "brier", "cross_entropy", "logit_adjustment"}  # two are cross-entropy by default
# Crammer and Singer's hinge: Tewari and Bartlett, 2007. nce: its risk is a mean of the label probabilities weighted by
# -ln p_c, least when the least likely class alone has a p near 0, whichever of the others is on top.
# asymmetric: its classes are not alike, by intention. dual_focal: no class is below the true one at an exact tie.
NOT_CALIBRATED = {
    "asymmetric": (2,),
    "crammer_singer": (3, 10),
    "dual_focal": (2, 3, 10),
    "nce": (3, 10),
    "weston_watkins": (3, 10),
}
# Gradient at p_t -> 0 over cross-entropy's, at any gap.
ALIVE = {"cross_entropy": 1.0, "focal": 1.0, "poly1": 1.0, "label_smoothing": 0.951}
FAST = ("baikal", "crammer_singer")
NAMES = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in loss.names()]


@functools.cache
def computed(name):
    return loss.describe(name).properties


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_of_each_loss(name):
    found = computed(name)
    if name in LEAST:
        assert found.minimum[0] == pytest.approx(LEAST[name], abs=5e-4)
        assert found.minimum[1] == pytest.approx(LEAST[name], abs=5e-4)
        assert not found.monotone
    assert found.symmetric == (name in SYMMETRIC)
    assert found.proper == (name in PROPER)
    assert {size for size, held in found.calibrated.items() if not held} == {*NOT_CALIBRATED.get(name, ())}
    if name in ALIVE:
        assert not found.bounded
        np.testing.assert_allclose(found.gradient_wrong, ALIVE[name], atol=1e-3)


def test_cross_entropy_is_its_own_measure():
    found = computed("cross_entropy")
    np.testing.assert_allclose(found.gradient_wrong, 1.0, rtol=1e-11)
    np.testing.assert_allclose(found.gradient_right, 1.0, rtol=1e-6)  # 1 - p_t is 1e-8 there: what rounding leaves
    assert found.minimum[0] > 0.9999
    assert found.monotone


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("cross_entropy", lambda y: -np.sum(y * np.log(y), axis=1)),
        ("brier", lambda y: 1 - np.sum(y**2, axis=1)),
        ("mae", lambda y: 1 - np.max(y, axis=1)),
        ("gce", lambda y: (1 - np.sum(y ** (1 / 0.3), axis=1) ** 0.3) / 0.7),
    ],
)
@pytest.mark.parametrize("num_classes", [10, pytest.param(3, marks=pytest.mark.slow)])
def test_least_risks_are_those_of_calculus(name, least, num_classes):
    with jax.enable_x64(True):
        y = _risk._label_distributions(num_classes)
        found, is_symmetric = _risk.least_risks(loss.get(name), num_classes)
    assert is_symmetric == (name in SYMMETRIC)
    np.testing.assert_allclose(y.sum(axis=1), 1.0)
    np.testing.assert_allclose(found.least, least(y), atol=1e-8)
    if name == "cross_entropy":  # with a wrong class level with the top, the two share their probability
        tied = np.concatenate([np.repeat(y[:, :2].mean(axis=1, keepdims=True), 2, axis=1), y[:, 2:]], axis=1)
        np.testing.assert_allclose(found.wrong, -np.sum(y * np.log(tied), axis=1), atol=1e-8)
        np.testing.assert_allclose(found.honest, found.least, atol=1e-8)


@pytest.mark.parametrize("num_classes", [4, 5, 7, 100])
def test_label_distributions_have_one_top_class(num_classes):
    y = _risk._label_distributions(num_classes)
    assert len(y) >= 3
    np.testing.assert_allclose(y.sum(axis=1), 1.0)
    assert np.all(y[:, 0] > y[:, 1:].max(axis=1) + 0.005)


def test_a_loss_that_prefers_the_wrong_class_is_found_out():
    def reversed_error(logits, labels, **_):
        return -loss.mae(logits, labels)

    found = loss.properties(reversed_error, (2,))
    assert found.calibrated == {2: False}
    assert not found.proper
    assert not found.monotone
    assert found.minimum[1] < 0.5


def test_description_of_names_functions_and_parameters(monkeypatch):
    with monkeypatch.context() as patch:  # what it says of a name does not depend on what was computed
        patch.setattr(_describe, "properties", lambda function, sizes: computed("cross_entropy"))
        shown = loss.describe("gce", q=0.5)
    assert shown.parameters == {"q": 0.5, "k": None}
    assert "Zhang and Sabuncu" in str(shown)
    assert "formula     (1 - max(p_t, k)^q) / q" in str(shown)
    assert len(shown.row()) == len(loss.Description.COLUMNS)

    def mine(logits, labels, **_):
        """Half of cross-entropy."""
        return 0.5 * loss.cross_entropy(logits, labels)

    shown = loss.describe(mine)
    assert (shown.name, shown.formula) == ("mine", "Half of cross-entropy.")
    np.testing.assert_allclose(shown.properties.gradient_wrong, 0.5)
    with pytest.raises(UserError, match="a function or artifact cannot be given gamma"):
        loss.describe(mine, gamma=1.0)
    with pytest.raises(UserError, match="unknown loss 'focla'"):
        loss.describe("focla")


def test_an_artifact_for_one_number_of_classes_is_asked_for_that_number(tmp_path, monkeypatch):
    from loss_cases import random_artifact

    asked = []
    monkeypatch.setattr(_describe, "properties", lambda function, sizes: asked.append(sizes))
    loss.save(random_artifact(0, num_classes=5), tmp_path / "five.safetensors")
    assert "per_class, 5x4, silu" in loss.describe(tmp_path / "five.safetensors").formula
    assert [tuple(sizes) for sizes in asked] == [(5,)]


@pytest.mark.slow
def test_an_artifact_for_one_number_of_classes(tmp_path):
    from loss_cases import random_artifact

    loss.save(random_artifact(0, num_classes=5), tmp_path / "five.safetensors")
    shown = loss.describe(tmp_path / "five.safetensors")
    assert set(shown.properties.calibrated) == {5}
    assert "per_class, 5x4, silu" in shown.formula


def test_the_profile_of_cross_entropy():
    margins = np.array([-3.0, 0.0, 2.0])
    values, norms = loss.margin_profile(loss.cross_entropy, margins, 4)
    p = np.exp(margins) / (np.exp(margins) + 3)
    np.testing.assert_allclose(values, -np.log(p), rtol=1e-12)
    np.testing.assert_allclose(norms, (1 - p) * np.sqrt(4 / 3), rtol=1e-12)
    assert values.dtype == norms.dtype == np.float64
    assert jnp.zeros(1).dtype == jnp.float32  # 64-bit types are off again
