"""What `edl_jax.loss.Loss` promises, for every registered loss: values, labels, masks, dtypes, errors."""

import jax
import jax.numpy as jnp
import loss_reference
import numpy as np
import pytest
from loss_cases import PRIORS, integers, normal, soft_labels

from edl_jax import loss

NOT_AFFINE = {"barron", "bi_tempered", "brier", "formula", "mae"}  # in soft labels: distances between p and y


def one_hot(labels, num_classes):
    return np.eye(num_classes)[np.asarray(labels)]


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_every_name_has_a_reference():
    priors = {path.stem for path in PRIORS.glob("*.safetensors")}
    assert set(loss.names()) == {*loss_reference.CLASSIC, *priors}


@pytest.mark.parametrize("num_classes", [2, 10, 30, 2000])
def test_values_are_those_of_the_reference(case, num_classes):
    logits, labels = normal(num_classes, (8, num_classes), 3.0), integers(1, 8, num_classes)
    expected = case.reference(np.asarray(logits, np.float64), one_hot(labels, num_classes))
    close(case.function(logits, labels), expected)


def test_values_of_soft_labels_are_those_of_the_reference(case, batch):
    logits, _ = batch
    y = soft_labels(1, logits.shape)
    close(case.function(logits, y), case.reference(np.asarray(logits, np.float64), np.asarray(y, np.float64)))


def test_double_precision_is_double_precision(case, batch):
    with jax.enable_x64(True):
        logits, labels = (np.asarray(x) for x in batch)
        logits = jnp.asarray(logits.astype(np.float64))
        values = case.function(logits, jnp.asarray(labels))
        assert values.dtype == jnp.float64
        close(values, case.reference(np.asarray(logits), one_hot(labels, 5)), 1e-12)


def test_batched_is_looped(case, batch):
    logits, labels = batch
    looped = jnp.stack([case.function(z, y) for z, y in zip(logits, labels, strict=True)])
    values = case.function(logits, labels)
    assert values.shape == (6,)
    close(values, looped, 1e-6)
    close(case.function(logits.reshape(2, 3, 5), labels.reshape(2, 3)), values.reshape(2, 3), 1e-6)


def test_one_hot_is_integer(case, batch):
    logits, labels = batch
    close(case.function(logits, jax.nn.one_hot(labels, 5)), case.function(logits, labels), 1e-6)


def test_integer_labels_of_any_dtype(case, batch):
    logits, labels = batch
    expected = case.function(logits, labels)
    close(case.function(logits, labels.astype(jnp.uint8)), expected, 1e-6)
    close(case.function(np.asarray(logits), np.asarray(labels, np.int64)), expected, 1e-6)


def test_soft_labels_enter_affinely(case, batch):
    if case.name in NOT_AFFINE:
        pytest.skip("a distance between p and y")
    logits, _ = batch
    a, b = (soft_labels(i, logits.shape) for i in (1, 2))
    mixed = case.function(logits, 0.3 * a + 0.7 * b)
    close(mixed, 0.3 * case.function(logits, a) + 0.7 * case.function(logits, b), 1e-5)


def test_axis_is_moveaxis(case):
    logits = normal(0, (2, 5, 3), 3.0)
    last = jnp.moveaxis(logits, 0, -1)
    y = soft_labels(2, last.shape)
    close(case.function(logits, jnp.moveaxis(y, -1, 0), axis=0), case.function(last, y), 1e-6)
    last = jnp.moveaxis(logits, -2, -1)
    labels = integers(1, (2, 3), 5)
    where = (normal(3, last.shape) > 0.0) | (one_hot(labels, 5) > 0.0)
    masked = case.function(logits, labels, axis=-2, where=jnp.moveaxis(where, -1, -2))
    close(masked, case.function(last, labels, where=where), 1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_masked_classes_are_deleted_classes(case, batch, soft):
    logits, labels = batch
    present = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"
    y = np.asarray(soft_labels(1, logits.shape)) * present
    y /= y.sum(axis=-1, keepdims=True)
    fewer = np.asarray(logits)[present].reshape(6, 3)
    if soft:
        target, target_of_fewer = y, y[present].reshape(6, 3)
    else:
        target = np.asarray(labels)
        target_of_fewer = np.array([np.sum(kept[:label]) for kept, label in zip(present, target, strict=True)])
    deleted = case.function(fewer, target_of_fewer)
    close(case.function(logits, target, where=present), deleted, 1e-5)
    close(case.function(jnp.where(present, logits, -jnp.inf), target), deleted, 1e-5)


def test_what_a_masked_class_holds_does_not_matter(case, batch):
    logits, labels = batch
    where = jnp.ones(logits.shape, bool).at[:, 0].set(labels == 0)
    expected = case.function(logits, labels, where=where)
    for hole in (jnp.nan, jnp.inf, -jnp.inf):
        np.testing.assert_array_equal(case.function(jnp.where(where, logits, hole), labels, where=where), expected)


def test_masked_examples_are_zero(case, batch):
    logits, labels = batch
    where = jnp.array([True, False, True, True, False, False])
    values = case.function(logits, labels, where=where)
    close(values, jnp.where(where, case.function(logits, labels), 0.0), 1e-6)
    assert jnp.all(values[~where] == 0.0)
    garbage = jnp.where(where[:, None], logits, jnp.nan)
    np.testing.assert_array_equal(case.function(garbage, jnp.where(where, labels, -1), where=where), values)
    no_class_left = jnp.broadcast_to(where[:, None], (6, 5))
    close(case.function(logits, labels, where=no_class_left), values, 1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_kept_and_computed_in_single(case, batch, dtype):
    logits, labels = batch
    logits = jnp.concatenate([logits, jnp.array([[0.0, 1e4, -1e4, 5.0, 50.0]])]).astype(dtype)
    labels = jnp.append(labels, 0)
    values = case.function(logits, labels)
    assert values.dtype == dtype
    single = case.function(logits.astype(jnp.float32), labels)
    assert jnp.all(jnp.isfinite(single))
    rounded = np.asarray(single.astype(dtype), np.float32)  # infinite beyond the range of float16
    np.testing.assert_allclose(np.asarray(values, np.float32), rounded, rtol=float(jnp.finfo(dtype).eps), atol=1e-4)


def test_nan_stays_visible(case, batch):
    logits, labels = batch
    for c in range(5):
        values = case.function(logits.at[2, c].set(jnp.nan), labels)
        np.testing.assert_array_equal(jnp.isnan(values), jnp.arange(6) == 2)


@pytest.mark.parametrize("wrong", [-1, 5, 200])
def test_a_label_that_is_no_class_is_nan(case, batch, wrong):
    logits, labels = batch
    values = case.function(logits, labels.at[3].set(wrong))
    np.testing.assert_array_equal(jnp.isnan(values), jnp.arange(6) == 3)


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
def test_shapes_that_do_not_fit(case, logits, labels, where, error, message):
    mask = None if where is None else jnp.ones(where, bool)
    with pytest.raises(error, match=message):
        case.plain(jnp.zeros(logits), jnp.zeros(labels, jnp.int32), where=mask)


def test_dtypes_that_do_not_fit(case):
    with pytest.raises(TypeError, match="logits have dtype int32"):
        case.plain(jnp.zeros((6, 5), jnp.int32), jnp.zeros(6, jnp.int32))
    with pytest.raises(ValueError, match="labels without a class dimension have dtype float32"):
        case.plain(jnp.zeros((6, 5)), jnp.zeros(6))


def test_empty_batch(case):
    assert case.function(jnp.zeros((0, 5)), jnp.zeros(0, jnp.int32)).shape == (0,)
