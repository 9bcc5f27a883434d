import itertools

import jax
import numpy as np
import pytest

from edl_jax.training import EvalSums, TrainSums


def reference(logits, labels, bins=15):
    """NumPy, float64: accuracy, negative log-likelihood, expected calibration error."""
    logits = np.asarray(logits, np.float64)
    log_probs = logits - logits.max(1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(1, keepdims=True))
    confidence = np.exp(log_probs.max(1))
    correct = logits.argmax(1) == labels
    edges = np.linspace(0, 1, bins + 1)
    ece = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            ece += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return {
        "accuracy": correct.mean(),
        "nll": -log_probs[np.arange(len(labels)), labels].mean(),
        "ece": ece,
    }


ADD = jax.jit(EvalSums.add)


def evaluate(logits, labels, mask=None):
    mask = np.ones(len(labels), bool) if mask is None else mask
    sums = ADD(EvalSums.zeros(), logits, labels, mask)
    return jax.device_get(sums).means()


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_metrics_agree_with_a_float64_reference(scale, num_classes):
    rng = np.random.default_rng(0)
    logits = (scale * rng.normal(size=(5000, num_classes))).astype(np.float32)
    labels = rng.integers(0, num_classes, 5000).astype(np.int32)
    found = evaluate(logits, labels)
    for name, expected in reference(logits, labels).items():
        assert found[name] == pytest.approx(expected, rel=2e-5, abs=2e-5), name


def test_sure_and_right_is_perfect_sure_and_wrong_is_not():
    logits = np.eye(3, dtype=np.float32) * 1e4
    right = evaluate(logits, np.arange(3, dtype=np.int32))
    assert right == {"accuracy": 1.0, "nll": 0.0, "ece": 0.0}
    wrong = evaluate(logits, (np.arange(3, dtype=np.int32) + 1) % 3)
    assert wrong == {"accuracy": 0.0, "nll": 1e4, "ece": 1.0}


def test_padding_adds_nothing_even_if_it_is_nan():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(7, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 7).astype(np.int32)
    padded = np.concatenate([logits, np.full((3, 4), np.nan, np.float32)])
    found = evaluate(padded, np.pad(labels, (0, 3)), np.arange(10) < 7)
    assert found == pytest.approx(evaluate(logits, labels))


def test_batches_add_up_to_the_whole():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(90, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 90).astype(np.int32)
    sums = EvalSums.zeros()
    for part in np.split(np.arange(90), 9):
        sums = ADD(sums, logits[part], labels[part], np.ones(10, bool))
    assert jax.device_get(sums).means() == pytest.approx(evaluate(logits, labels), rel=1e-5)


def test_train_sums_are_means_over_examples():
    sums = TrainSums.zeros()
    add, logits = jax.jit(TrainSums.add), np.float32([[2.0, 1.0], [0.0, 1.0]])
    sums = add(sums, np.float32([1.0, 3.0]), logits, np.int32([0, 0]))
    sums = add(sums, np.float32([5.0, 7.0]), logits, np.int32([0, 1]))
    assert jax.device_get(sums).means() == {"loss": 4.0, "accuracy": 0.75}
