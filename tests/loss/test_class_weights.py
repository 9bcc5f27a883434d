"""Class weights, for every registered loss."""

import numpy as np
import pytest
from loss_cases import all_close, close, one_hot, soft_labels

from edl_jax import loss

WEIGHTS = np.array([0.5, 2.0, 0.0, 1.0, 3.0], np.float32)


def test_integer_labels_count_as_often_as_their_class_says(every, ways, batch):
    logits, labels = batch
    plain, weighted = every.values(logits, labels), ways.values(logits, labels, class_weights=WEIGHTS)
    expected = {name: WEIGHTS[np.asarray(labels)] * x for name, x in plain.items()}
    all_close(weighted, {name: expected[name] for name in weighted}, 1e-5)
    all_close(every.values(logits, one_hot(labels).astype(np.float32), class_weights=WEIGHTS), expected, 1e-5)
    ones = ways.values(logits, labels, class_weights=np.ones(5, np.float32))
    all_close(ones, {name: plain[name] for name in ones}, 1e-6)


def test_probabilities_count_as_their_weighted_distribution(every, batch):
    logits, _ = batch
    y = np.asarray(soft_labels(1, logits.shape)) * WEIGHTS
    weight = y.sum(axis=-1, keepdims=True)
    expected = {name: weight[:, 0] * x for name, x in every.values(logits, y / weight).items()}
    all_close(every.values(logits, soft_labels(1, logits.shape), class_weights=WEIGHTS), expected, 1e-5)


def test_weights_of_zero_leave_no_value_and_no_gradient(every, ways, batch):
    logits, labels = batch
    without_weight = one_hot(np.full(6, 2)).astype(np.float32)
    for name, values in every.values(logits, without_weight, class_weights=WEIGHTS).items():
        assert np.all(values == 0.0), name
    for name, gradient in ways.gradients(logits, labels, class_weights=WEIGHTS).items():
        assert np.all(np.isfinite(gradient)), name
        assert np.all(gradient[np.asarray(labels) == 2] == 0.0), name


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
