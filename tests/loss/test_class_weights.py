"""Class weights, for every registered loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import soft_labels

from edl_jax import loss

WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0], np.float32)


def close(actual, expected, tolerance=1e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_integer_labels_count_as_often_as_their_class_says(case, batch):
    logits, labels = batch
    weighted = case.function(logits, labels, class_weights=WEIGHTS)
    close(weighted, WEIGHTS[np.asarray(labels)] * case.function(logits, labels))
    close(case.function(logits, jax.nn.one_hot(labels, 5), class_weights=WEIGHTS), weighted)


def test_probabilities_count_as_their_weighted_distribution(case, batch):
    logits, _ = batch
    y = np.asarray(soft_labels(1, logits.shape)) * WEIGHTS
    weight = y.sum(axis=-1, keepdims=True)
    expected = weight[:, 0] * case.function(logits, y / weight)
    close(case.function(logits, soft_labels(1, logits.shape), class_weights=WEIGHTS), expected)


def test_weights_of_one_change_nothing_and_weights_of_zero_leave_no_gradient(case, batch):
    logits, labels = batch
    close(case.function(logits, labels, class_weights=np.ones(5, np.float32)), case.function(logits, labels), 1e-6)
    gradient = case.gradient(logits, labels, class_weights=WEIGHTS)
    assert jnp.all(jnp.isfinite(gradient))
    assert jnp.all(gradient[np.asarray(labels) == 2] == 0.0)
    only = jax.nn.one_hot(jnp.full(6, 2), 5)  # label probabilities without any weight
    assert jnp.all(case.function(logits, only, class_weights=WEIGHTS) == 0.0)


def test_cross_entropy_of_soft_labels_is_the_weighted_sum_of_pytorch(batch):
    logits, _ = batch
    y = soft_labels(1, logits.shape)
    p = np.asarray(logits, np.float64)
    p = np.exp(p - p.max(axis=-1, keepdims=True))
    log_p = np.log(p / p.sum(axis=-1, keepdims=True))
    close(loss.cross_entropy(logits, y, class_weights=WEIGHTS), -np.sum(WEIGHTS * np.asarray(y) * log_p, axis=-1))


@pytest.mark.parametrize("function", [loss.cross_entropy, loss.get("edl"), loss.expression_loss("-y * ln(p)")])
def test_lists_are_arrays(batch, function):
    (logits, labels), where = batch, np.arange(6) > 2
    close(
        function(logits.tolist(), labels.tolist(), where=where.tolist(), class_weights=WEIGHTS.tolist()),
        function(logits, labels, where=where, class_weights=WEIGHTS),
        1e-6,
    )


@pytest.mark.parametrize("name", ["cross_entropy", "edl"])
def test_weights_that_cannot_be_used(batch, name):
    with pytest.raises(ValueError, match=r"class_weights have shape \(4,\), expected \(5,\)"):
        loss.get(name)(*batch, class_weights=np.ones(4))
    for wrong in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=rf"the class weight of class 3 is {wrong}, expected a finite number"):
            loss.get(name)(*batch, class_weights=np.array([1, 1, 1, wrong, 1]))
