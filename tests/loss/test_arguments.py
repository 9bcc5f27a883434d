"""The arguments of every loss beside masks and weights: ignored labels, smoothing; labels that are no class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import all_close, one_hot, soft_labels

from edl_jax import loss

EAGER = ["cross_entropy", "squentropy", "edl"]  # from `targets`, with raw logits, one program
PRESENT = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"


@pytest.mark.parametrize(
    ("which", "dtype"),
    [("ways", np.int32), *(pytest.param("every", x, marks=pytest.mark.slow) for x in (np.int32, np.uint8))],
)
def test_ignored_labels_leave_no_value_and_no_gradient(which, request, batch, dtype):
    """In one program: an ignored example holds NaN logits, and the others are what they are without it.

    By a loss of each way: the entry that all share does it.
    """
    every = request.getfixturevalue(which)
    ignored, away = 255 if dtype == np.uint8 else -100, np.array([False, False, True, False, False, True])
    kept = ~away
    logits, labels = (np.array(x) for x in batch)
    expected, slopes = every.values(logits, labels), every.gradients(logits, labels)
    logits[away] = np.nan
    labels = labels.astype(dtype)
    labels[away] = ignored

    @jax.jit
    def program(logits, labels):
        values, pullback = jax.vjp(lambda z: every.plain(z, labels, ignore_label=ignored), logits)
        return values, pullback(jax.tree.map(jnp.ones_like, values))[0]

    values, gradient = program(logits, labels)
    for name, x in values.items():
        assert np.all(x[away] == 0.0), name
        np.testing.assert_allclose(x[kept], expected[name][kept], rtol=1e-5, atol=1e-5, err_msg=name)
    assert np.all(gradient[away] == 0.0)
    np.testing.assert_allclose(gradient[kept], sum(slopes.values())[kept], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EAGER)
def test_an_ignored_label_is_no_error_and_another_one_is(batch, name):
    logits, labels = batch[0], np.asarray(batch[1]).copy()
    labels[1] = -1
    values = loss.get(name)(logits, labels, ignore_label=-1)
    assert values[1] == 0.0
    assert np.all(np.delete(values, 1) != 0.0)
    with pytest.raises(ValueError, match=r"the label at \(1,\) is -1, .* with where= or ignore_label="):
        loss.get(name)(logits, labels, ignore_label=-100)
    with pytest.raises(TypeError, match=r"ignore_label is 0\.5, expected None or a Python integer such as -1"):
        loss.get(name)(logits, labels, ignore_label=0.5)
    with pytest.raises(ValueError, match="ignore_label is -1, expected None beside label probabilities: leave"):
        loss.get(name)(logits, soft_labels(0, (6, 5)), ignore_label=-1)


def test_smoothing_mixes_labels_with_the_classes_that_exist(every, ways, batch):
    """The entry's, for any loss: the labels are then probabilities, and the value that of those."""
    logits, labels = np.asarray(batch[0]), np.asarray(batch[1])
    present = PRESENT | (one_hot(labels) > 0.0)
    uniform = present / present.sum(axis=-1, keepdims=True)
    program = jax.jit(lambda *batch, **arguments: ways.plain(*batch, **arguments))
    soft = np.asarray(soft_labels(2, logits.shape)) * present
    soft = (soft / soft.sum(axis=-1, keepdims=True)).astype(np.float32)
    for given, y in ((labels, one_hot(labels)), (soft, soft)):
        mixed = (0.8 * y + 0.2 * uniform).astype(np.float32)
        expected = every.values(np.where(present, logits, -np.inf), mixed)
        found = program(logits, given, where=present, smoothing=0.2)
        all_close(found, {name: expected[name] for name in found}, 1e-5)
    assert np.isnan(loss.focal(jnp.zeros((1, 3)), jnp.zeros(1, jnp.int32), smoothing=0.1)).sum() == 0
    assert np.isnan(jax.jit(lambda y: loss.focal(jnp.zeros((1, 3)), y, smoothing=0.1))(jnp.array([3])))


@pytest.mark.parametrize("name", EAGER)
def test_smoothing_weighs_its_share_and_is_checked(batch, name):
    logits, labels = batch
    weights, function = np.array([0.5, 2.0, 0.0, 1.0, 3.0], np.float32), loss.get(name)
    mixed = (0.9 * one_hot(labels) + 0.02).astype(np.float32)
    expected = function(logits, mixed, class_weights=weights)
    np.testing.assert_allclose(function(logits, labels, smoothing=0.1, class_weights=weights), expected, rtol=1e-5)
    for wrong in (1.0, -0.1, float("nan"), np.zeros(2)):
        with pytest.raises(ValueError, match=r"smoothing is .*, expected a number in \[0, 1\)"):
            function(logits, labels, smoothing=wrong)


def test_a_label_on_a_masked_class_is_no_class(every, ways, batch):
    """An error where it is known; else NaN without gradient, as for a label that is out of range."""
    logits, labels = np.asarray(batch[0]), (np.asarray(batch[1]) + [0, 0, 0, 1, 1, 1]) % 5
    wrong = ~PRESENT[np.arange(6), labels]
    assert 0 < wrong.sum() < 6
    absent = np.where(PRESENT, logits, np.float32(-np.inf))
    by_logit = every.values(absent, labels), every.gradients(absent, labels)
    by_mask = ways.values(logits, labels, where=PRESENT), ways.gradients(logits, labels, where=PRESENT)
    for values, gradients in (by_logit, by_mask):
        for name, gradient in gradients.items():
            np.testing.assert_array_equal(np.isnan(values[name]), wrong, err_msg=name)
            assert np.all(gradient[wrong] == 0.0), name
            assert np.all(np.isfinite(gradient)), name
    beyond = every.gradients(logits, np.where(wrong, 7, labels))
    assert all(np.all(gradient[wrong] == 0.0) for gradient in beyond.values())
    first = int(np.flatnonzero(wrong)[0])
    for name in EAGER:
        message = rf"the label at \({first},\) is {labels[first]}, a class that where= masks there, expected one that"
        with pytest.raises(ValueError, match=message):
            loss.get(name)(logits, labels, where=PRESENT)
        assert np.all(np.isfinite(loss.get(name)(logits, labels, where=PRESENT & ~wrong[:, None])))


def test_a_single_class_is_refused(every):
    for function in every.losses.values():
        with pytest.raises(ValueError, match=r"logits have 1 class.* along axis -1, expected at least 2: give a"):
            function(np.zeros((3, 1), np.float32), np.zeros(3, np.int32))
