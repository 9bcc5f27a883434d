"""Losses for classes of unequal frequency: counts of classes, two classes that are not alike, their weights."""

import re

import jax
import jax.numpy as jnp
import loss_reference
import numpy as np
import pytest
from loss_cases import Family, normal, one_hot, soft_labels

from edl_jax import loss
from edl_jax.core.errors import UserError

COUNTS = (500, 300, 100, 30, 7)
SETTINGS = {
    "default": {},
    "no shift": {"clip": 0.0},
    "cross-entropy": {"gamma_pos": 0, "gamma_neg": 0, "clip": 0},
    "half powers": {"gamma_pos": 0.5, "gamma_neg": 0.5, "clip": 0.3},
}
LABELS = np.arange(8) % 2


def close(actual, expected, tolerance=2e-5, **kwargs):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, **kwargs)


@pytest.fixture(scope="module")
def asymmetric():
    """Return the loss with each of its settings, compiled together."""
    return Family({name: loss.get("asymmetric", **chosen) for name, chosen in SETTINGS.items()})


def test_asymmetric_is_its_reference(asymmetric):
    """No class is masked, one is, an example is: what is masked leaves the other class certain."""
    logits = np.asarray(normal(0, (8, 2), 3.0))
    soft = np.asarray(soft_labels(1, (8, 2)))
    for labels, y in ((LABELS, one_hot(LABELS, 2)), (soft, soft)):
        values = asymmetric.values(logits, labels)
        for name, chosen in SETTINGS.items():
            expected = loss_reference.asymmetric(logits.astype(np.float64), y.astype(np.float64), **chosen)
            close(values[name], expected, err_msg=name)
    alone = one_hot(LABELS, 2) > 0.0
    for program in (asymmetric.values, asymmetric.gradients):
        for masked in (program(logits, LABELS, where=alone), program(np.where(alone, logits, -np.inf), LABELS)):
            assert all(np.all(x == 0.0) for x in masked.values()), masked
        for masked in program(logits, LABELS, where=LABELS[:, None] > [0, 0]).values():
            assert np.all(masked[::2] == 0.0)
            assert np.any(masked[1::2] != 0.0)


def test_asymmetric_gradients_are_differences_and_finite_at_any_gap(asymmetric):
    gaps = np.array([-1e4, -50.0, -20.0, -1.0, 0.7, 20.0, 50.0, 1e4])
    for labels in (np.zeros(8, np.int32), np.ones(8, np.int32)):
        logits = np.stack([np.zeros(8), gaps], axis=-1).astype(np.float32)
        values, gradients = asymmetric.values(logits, labels), asymmetric.gradients(logits, labels)
        for name, chosen in SETTINGS.items():
            assert np.all(np.isfinite(values[name])), name
            gradient = gradients[name]
            close(gradient[:, 0], -gradient[:, 1], 1e-6)
            y = one_hot(labels, 2)
            ahead, behind = (
                loss_reference.asymmetric(np.stack([np.zeros(8), np.clip(gaps, -30, 30) + h], -1), y, **chosen)
                for h in (1e-4, -1e-4)
            )
            np.testing.assert_allclose(gradient[:, 1], (ahead - behind) / 2e-4, rtol=1e-3, atol=1e-6, err_msg=name)


def test_easy_absences_teach_nothing_and_certain_presences_do_not_pull_back(asymmetric):
    """p below the shift: no value; p near 1: at most -ln(clip), where cross-entropy has no bound."""
    p = np.array([0.01, 0.049, 0.051, 0.5, 1 - 1e-6])
    logits = np.stack([np.zeros(5), np.log(p) - np.log1p(-p)], axis=-1).astype(np.float32)
    values = asymmetric.values(logits, np.zeros(5, np.int32))
    gradients = asymmetric.gradients(logits, np.zeros(5, np.int32))["default"]
    assert np.all(values["default"][:2] == 0.0)
    assert np.all(gradients[:2] == 0.0)
    assert np.all(values["default"][2:] > 0.0)
    close(values["default"][-1], -(0.95**4) * np.log(0.05), 1e-3)
    close(values["cross-entropy"], -np.log1p(-p), 1e-3)


@pytest.mark.parametrize("num_classes", [3, 4])
def test_asymmetric_is_of_two_classes(num_classes):
    message = f"asymmetric is a loss of two classes, absent and present, got logits with {num_classes}: give each class"
    with pytest.raises(ValueError, match=message + r" .*, as loss\.multilabel does"):
        loss.asymmetric(np.zeros((4, num_classes), np.float32), np.zeros(4, np.int32))


def test_a_class_weight_of_the_present_class_is_pos_weight():
    """Binary cross-entropy with pos_weight, as PyTorch writes it, of hard and soft labels."""
    z, y = np.asarray(normal(3, (8,), 4.0)), np.concatenate([LABELS[:4], [0.2, 0.9, 0.5, 0.0]])
    values = loss.cross_entropy(
        np.stack([np.zeros_like(z), z], axis=-1), np.stack([1 - y, y], axis=-1), class_weights=(1.0, 3.5)
    )
    close(values, 3.5 * y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z))


def test_counts_belong_to_their_classes(batch):
    """A permutation of the classes takes its counts along; what is masked has no part in the sum; scale is nothing."""
    logits, labels = (np.asarray(x) for x in batch)
    order = np.array([3, 0, 4, 1, 2])
    counts = np.array(COUNTS)
    present = (logits > 0.0) | (one_hot(labels) > 0.0)

    @jax.jit
    def program(logits, labels, counts, where):
        return loss.balanced_softmax(logits, labels, class_counts=counts, where=where)

    values = program(logits, labels, counts, present)
    close(program(logits[:, order], np.argsort(order)[labels], counts[order], present[:, order]), values)
    close(program(logits, labels, 0.001 * counts, present), values)
    expected = [
        loss_reference.balanced_softmax(z[kept][None].astype(np.float64), y[kept][None], counts[kept])[0]
        for z, y, kept in zip(logits, one_hot(labels), present, strict=True)
    ]
    close(values, expected)


def test_adjusted_logits_stay_alive_at_any_gap():
    gaps = np.array([20.0, 50.0, 1e4], np.float32)
    logits = np.stack([np.zeros(3), gaps, np.full(3, -np.inf), gaps / 2, np.zeros(3)], axis=-1).astype(np.float32)

    @jax.jit
    @jax.grad
    def gradient(z):
        return jnp.sum(loss.logit_adjustment(z, np.zeros(3, np.int32), class_counts=COUNTS))

    close(gradient(logits), np.tile([-1.0, 1.0, 0.0, 0.0, 0.0], (3, 1)), 1e-3)


def test_what_balanced_softmax_learns_is_for_equal_classes():
    """Where the best logits explain frequencies n alone, the adjustment takes all of it: the logits are equal."""
    counts = np.array(COUNTS, np.float32)

    @jax.jit
    @jax.grad
    def slope(z):
        return jnp.dot(counts, loss.balanced_softmax(jnp.tile(z, (5, 1)), np.arange(5), class_counts=COUNTS))

    close(slope(jnp.zeros(5)) / counts.sum(), np.zeros(5), 1e-6)


@pytest.mark.parametrize("name", ["balanced_softmax", "logit_adjustment"])
def test_counts_that_do_not_fit(batch, name):
    function = loss.get(name, class_counts=(1, 2, 3))
    message = f"{name}: class_counts has 3 numbers, expected 5: one for each class of the logits"
    with pytest.raises(ValueError, match=message):
        function(*batch)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda counts: loss.get(name, class_counts=counts)(*batch))(jnp.ones(3))
    for wrong in (0, -1.0, np.nan, np.inf):
        expected = f"{name}: class_counts has {wrong:g} for class 1, expected a finite number greater than 0"
        with pytest.raises(UserError, match=re.escape(expected)):
            loss.get(name, class_counts=(1, wrong, 3))


def test_counts_are_stored_and_described(tmp_path):
    """A loss for one number of classes alone is asked for that number."""
    path = tmp_path / "rare.safetensors"
    loss.save(loss.artifact_of("balanced_softmax", class_counts=(90, 10)), path)
    assert loss.load_artifact(path).parameters == {"class_counts": (90, 10)}
    for shown in (loss.describe(path), loss.describe("asymmetric")):
        assert set(shown.properties.calibrated) == {2}
        assert not shown.properties.proper
