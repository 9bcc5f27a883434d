"""What `edl_jax.loss.Loss` promises: the mathematics for every registered loss, the shared entry for each way to one.

All losses are one program for each kind of argument (see `Family`); a message names the loss that is wrong.
"""

import jax
import jax.numpy as jnp
import loss_reference
import numpy as np
import pytest
from loss_cases import PRIORS, all_close, close, integers, normal, one_hot, soft_labels

from edl_jax import loss

# In soft labels: distances between p and y.
NOT_AFFINE = {"amse", "barron", "bi_tempered", "brier", "formula", "jal_ce", "jal_fl", "mae"}
PRESENT = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"


def expected_of(references, logits, y):
    logits, y = np.asarray(logits, np.float64), np.asarray(y, np.float64)
    return {name: reference(logits, y) for name, reference in references.items()}


def pick(values, change):
    return {name: change(x) for name, x in values.items()}


def test_every_name_has_a_reference():
    priors = {path.stem for path in PRIORS.glob("*.safetensors")}
    assert set(loss.names()) == {*loss_reference.CLASSIC, *priors}


@pytest.mark.parametrize(
    "num_classes", [2, 5, *(pytest.param(c, marks=pytest.mark.slow) for c in (10, 30, 1000, 2000))]
)
def test_values_are_those_of_the_reference(every, references, num_classes):
    logits, labels = normal(num_classes, (8, num_classes), 3.0), integers(1, 8, num_classes)
    all_close(every.values(logits, labels), expected_of(references, logits, one_hot(labels, num_classes)))


def test_values_with_many_classes_are_those_of_the_reference(ways, references):
    logits, labels = normal(1000, (8, 1000), 3.0), integers(1, 8, 1000)
    found = ways.values(logits, labels)
    expected = expected_of({name: references[name] for name in found}, logits, one_hot(labels, 1000))
    all_close(found, expected)


def test_values_of_soft_labels_are_those_of_the_reference(every, references, batch):
    logits, labels = batch
    for y in (soft_labels(1, logits.shape), one_hot(labels).astype(np.float32)):
        all_close(every.values(logits, y), expected_of(references, logits, y))


def test_double_precision_is_double_precision(every, artifacts, references, batch):
    """But for splines in place of networks, which are not as exact."""
    with jax.enable_x64(True):
        logits, labels = np.asarray(batch[0], np.float64), np.asarray(batch[1])
        values = every.values(logits, labels)
        assert {x.dtype for x in values.values()} == {np.dtype(np.float64)}
        expected = expected_of(references, logits, one_hot(labels))
        interpolated = {name for name, artifact in artifacts.items() if artifact.network.kind != "table"}
        for name, found in values.items():
            close(found, expected[name], 1e-6 if name in interpolated else 1e-12, err_msg=name)


def test_batched_is_looped(ways, batch):
    logits, labels = (np.asarray(x) for x in batch)
    values = ways.values(logits, labels)
    looped = [ways.function(z, y) for z, y in zip(logits, labels, strict=True)]
    all_close(values, {name: np.array([one[name] for one in looped]) for name in values}, 1e-6)
    reshaped = ways.function(logits.reshape(2, 3, 5), labels.reshape(2, 3))
    all_close(reshaped, pick(values, lambda x: x.reshape(2, 3)), 1e-6)


def test_one_hot_is_integer(every, batch):
    logits, labels = batch
    all_close(every.values(logits, one_hot(labels).astype(np.float32)), every.values(logits, labels), 1e-6)


def test_integer_labels_of_any_dtype(ways, batch):
    logits, labels = batch
    expected = ways.values(logits, labels)
    all_close(ways.values(logits, np.asarray(labels, np.uint8)), expected, 1e-6)
    all_close(ways.values(logits, np.asarray(labels, np.int64)), expected, 1e-6)


def test_soft_labels_enter_affinely(every, batch):
    logits, _ = batch
    a, b = (np.asarray(soft_labels(i, logits.shape)) for i in (1, 2))
    mixed, of_a, of_b = (every.values(logits, y) for y in (0.3 * a + 0.7 * b, a, b))
    for name in mixed.keys() - NOT_AFFINE:
        expected = 0.3 * of_a[name] + 0.7 * of_b[name]
        np.testing.assert_allclose(mixed[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)


def test_axis_is_moveaxis(ways):
    logits = np.asarray(normal(0, (2, 5, 3), 3.0))
    last = np.moveaxis(logits, 0, -1)
    y = np.asarray(soft_labels(2, last.shape))
    all_close(ways.function(logits, np.moveaxis(y, -1, 0), axis=0), ways.function(last, y), 1e-6)
    last = np.moveaxis(logits, -2, -1)
    labels = integers(1, (2, 3), 5)
    where = (np.asarray(normal(3, last.shape)) > 0.0) | (one_hot(labels) > 0.0)
    masked = ways.function(logits, labels, axis=-2, where=np.moveaxis(where, -1, -2))
    all_close(masked, ways.function(last, labels, where=where), 1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_masked_classes_are_deleted_classes(every, ways, references, batch, soft):
    logits, labels = (np.asarray(x) for x in batch)
    y = np.asarray(soft_labels(1, logits.shape)) * PRESENT if soft else one_hot(labels)
    y = (y / y.sum(axis=-1, keepdims=True)).astype(np.float32)
    deleted = expected_of(references, logits[PRESENT].reshape(6, 3), y[PRESENT].reshape(6, 3))
    target = y if soft else labels
    all_close(every.values(np.where(PRESENT, logits, -np.inf), target), deleted)
    family = ways if soft else every  # the mask is the entry's, whatever the labels
    all_close(family.values(logits, target, where=PRESENT), {name: deleted[name] for name in family.losses})


def test_what_a_masked_class_holds_does_not_matter(every, batch):
    logits, labels = (np.asarray(x) for x in batch)
    where = np.ones(logits.shape, bool)
    where[:, 0] = labels == 0
    expected = every.values(logits, labels, where=where)
    for hole in (np.nan, np.inf, -np.inf):
        all_close(every.values(np.where(where, logits, np.float32(hole)), labels, where=where), expected, 0.0)


def test_masked_examples_are_zero(every, ways, batch):
    logits, labels = (np.asarray(x) for x in batch)
    where = np.array([True, False, True, True, False, False])
    no_class_left = np.broadcast_to(where[:, None], (6, 5))
    expected = pick(every.values(logits, labels), lambda x: np.where(where, x, 0.0))
    garbage = np.where(where[:, None], logits, np.float32(np.nan)), np.where(where, labels, -1)
    for family, mask in ((every, no_class_left), (ways, where)):
        values = family.values(logits, labels, where=mask)
        all_close(values, {name: expected[name] for name in values}, 1e-6)
        assert all(np.all(x[~where] == 0.0) for x in values.values())
        all_close(family.values(*garbage, where=mask), values, 0.0)


def test_half_precision_is_kept_and_computed_in_single(every, ways, batch):
    logits = np.concatenate([batch[0], np.array([[0.0, 1e4, -1e4, 5.0, 50.0]], np.float32)])
    labels = np.append(np.asarray(batch[1]), 0)
    for family, dtype in ((every, jnp.bfloat16), (ways, jnp.float16)):
        rounded = logits.astype(dtype)
        values, single = family.values(rounded, labels), family.values(rounded.astype(np.float32), labels)
        for name, ours in values.items():
            assert ours.dtype == dtype, name
            assert np.all(np.isfinite(single[name])), name
            with np.errstate(over="ignore"):  # infinite beyond the range of float16
                expected = single[name].astype(dtype).astype(np.float32)
            eps = float(jnp.finfo(dtype).eps)
            np.testing.assert_allclose(ours.astype(np.float32), expected, rtol=eps, atol=1e-4, err_msg=name)


def test_nan_and_labels_that_are_no_class_stay_visible(every, batch):
    logits, labels = np.tile(np.asarray(batch[0]), (2, 1))[:9], np.tile(np.asarray(batch[1]), 2)[:9]
    logits[np.arange(5), np.arange(5)] = np.nan
    labels[[5, 6, 7]] = (-1, 5, 200)
    for name, values in every.values(logits, labels).items():
        np.testing.assert_array_equal(np.isnan(values), np.arange(9) < 8, err_msg=name)


@pytest.mark.parametrize(
    ("logits", "labels", "where", "error", "message"),
    [
        ((6, 5), (5,), None, ValueError, r"labels have shape \(5,\), expected \(6,\)"),
        ((6, 5), (6, 4), None, ValueError, r"labels have shape \(6, 4\)"),
        ((6, 5), (), None, ValueError, r"labels have shape \(\)"),
        ((6, 5), (6,), (5,), ValueError, r"where has shape \(5,\)"),
        ((6, 5), (6,), (6, 4), ValueError, r"where has shape \(6, 4\), expected \(6, 5\) .* or \(6,\)"),
    ],
)
def test_shapes_that_do_not_fit(every, logits, labels, where, error, message):
    mask = None if where is None else np.ones(where, bool)
    for function in every.losses.values():
        with pytest.raises(error, match=message):
            function(np.zeros(logits, np.float32), np.zeros(labels, np.int32), where=mask)


def test_dtypes_that_do_not_fit(every):
    for function in every.losses.values():
        with pytest.raises(TypeError, match="logits have dtype int32"):
            function(np.zeros((6, 5), np.int32), np.zeros(6, np.int32))
        with pytest.raises(ValueError, match="labels without a class dimension have dtype float32"):
            function(np.zeros((6, 5), np.float32), np.zeros(6, np.float32))


def test_empty_batch(ways):
    values = ways.function(jnp.zeros((0, 5)), jnp.zeros(0, jnp.int32))
    assert {x.shape for x in values.values()} == {(0,)}
