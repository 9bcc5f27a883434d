import json

import flax.linen as nn
import jax
import numpy as np
import pytest
import sklearn.metrics
from scipy.special import log_softmax, softmax

from edl_jax import training
from edl_jax.core.errors import UserError
from edl_jax.training.report import ReportSums, compile_report, make_report

N = 200  # and parts of 20: few shapes to compile


def make_examples(num_classes, scale=2.0, count=N, seed=0):
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=(count, num_classes))).astype(np.float32)
    labels = np.where(rng.random(count) < 0.5, logits.argmax(1), rng.integers(0, num_classes, count))
    return logits, labels.astype(np.int32)


ADD = jax.jit(ReportSums.add)


def summed(logits, labels, mask=None, batches=1):
    sums = ReportSums.zeros(logits.shape[1])
    mask = np.ones(len(labels), bool) if mask is None else mask
    for rows in np.split(np.arange(len(labels)), batches):
        sums = ADD(sums, logits[rows], labels[rows], mask[rows])
    return jax.device_get(sums)


@pytest.mark.parametrize("num_classes", [3, 10])
def test_report_agrees_with_numpy_and_scikit_learn(num_classes):
    logits, labels = make_examples(num_classes)
    found = make_report(logits, labels).metrics()
    wide = logits.astype(np.float64)
    probs, predicted = softmax(wide, 1), wide.argmax(1)
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert found["nll"] == pytest.approx(-log_softmax(wide, 1)[np.arange(N), labels].mean(), rel=1e-5)
    assert found["brier"] == pytest.approx(((probs - np.eye(num_classes)[labels]) ** 2).sum(1).mean(), rel=1e-5)
    confusion = sklearn.metrics.confusion_matrix(labels, predicted, labels=np.arange(num_classes))
    np.testing.assert_array_equal(found["confusion"], confusion)
    recall = sklearn.metrics.recall_score(labels, predicted, average=None)
    np.testing.assert_allclose(found["per_class_accuracy"], recall)
    if num_classes > 5:
        top5 = sklearn.metrics.top_k_accuracy_score(labels, probs, k=5)
        assert found["top5_accuracy"] == pytest.approx(top5)
    else:
        assert "top5_accuracy" not in found
    json.dumps(found, allow_nan=False)


def test_batches_add_up_to_the_whole():
    logits, labels = make_examples(10)
    whole, parts = summed(logits, labels), summed(logits, labels, batches=10)
    np.testing.assert_array_equal(parts.confusion, whole.confusion)
    assert parts.top5 == whole.top5
    assert parts.brier == pytest.approx(whole.brier, rel=1e-5)
    assert parts.evals.means() == pytest.approx(whole.evals.means(), rel=1e-5)


def test_padding_adds_nothing_even_if_it_is_nan():
    logits, labels = make_examples(10)
    mask = np.arange(N) < 180
    padded = np.where(mask[:, None], logits, np.nan)
    found, plain = summed(padded, labels, mask).means(), summed(logits[:180], labels[:180], batches=9).means()
    assert found.pop("confusion") == plain.pop("confusion")
    assert found.pop("per_class_accuracy") == plain.pop("per_class_accuracy")
    assert found == pytest.approx(plain, rel=1e-5)


def test_class_without_examples_has_no_accuracy():
    logits, labels = make_examples(3)
    labels = np.where(labels == 1, 0, labels)
    per_class = make_report(logits, labels).metrics()["per_class_accuracy"]
    assert per_class[1] is None
    assert all(0.0 < value < 1.0 for value in (per_class[0], per_class[2]))


def test_certain_predictions_are_at_the_ends_of_every_scale():
    labels = np.arange(20) % 10
    logits = 1e4 * np.eye(10, dtype=np.float32)[labels]
    right, wrong = make_report(logits, labels).metrics(), make_report(logits, (labels + 1) % 10).metrics()
    for name, ends in {"brier": (0, 2), "ece": (0, 1), "ece_equal_mass": (0, 1), "accuracy": (1, 0)}.items():
        assert (right[name], wrong[name]) == ends, name


def test_ties_go_to_the_smaller_class_and_nan_is_never_right():
    labels = np.arange(20, dtype=np.int32) % 10
    equal = make_report(np.zeros((20, 10)), labels).metrics()
    assert equal["accuracy"] == 0.1
    assert equal["top5_accuracy"] == 0.5
    assert summed(np.full((20, 10), np.nan, np.float32), labels).top5 == 0


def test_report_of_nothing_is_refused():
    with pytest.raises(UserError, match="there are no examples to evaluate"):
        make_report(np.zeros((0, 3)), np.zeros(0, int))


class Pixels(nn.Module):
    """Logits that are the pixels of the image."""

    @nn.compact
    def __call__(self, images, *, train):
        return self.param("scale", nn.initializers.ones, ()) * images.reshape(images.shape[0], -1)


def test_compiled_report_covers_every_example_once_in_order():
    images = np.random.default_rng(0).integers(0, 9, (50, 2, 3, 1), dtype=np.uint8)
    labels = np.arange(50, dtype=np.int32) % 6
    model = Pixels()
    variables = {"params": {"scale": np.float32(2.0)}, "batch_stats": {}}
    batches = training.make_eval_batches(images, labels, 16)
    evaluate = compile_report(model, lambda images: images.astype(np.float32), variables, batches[0])
    report = evaluate(variables, batches)
    np.testing.assert_array_equal(report.logits, 2.0 * images.reshape(50, 6))
    np.testing.assert_array_equal(report.labels, labels)
    expected = make_report(report.logits, labels).metrics()
    found = report.metrics()
    for name in ("confusion", "per_class_accuracy"):
        assert found.pop(name) == expected.pop(name)
    assert found == pytest.approx(expected, rel=1e-5)
    with pytest.raises(UserError, match="there are no examples to evaluate"):
        evaluate(variables, [])
