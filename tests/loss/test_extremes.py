"""Every registered loss far out: wide gaps between logits, classes masked by -inf, any number of classes."""

import itertools

import numpy as np
import pytest
from loss_cases import SIZES


@pytest.mark.parametrize("num_classes", SIZES)
def test_wide_gaps_and_masked_classes_are_finite(every, num_classes):
    stay_finite(every, num_classes)


def test_many_classes_are_finite(ways):
    stay_finite(ways, 1000)


def stay_finite(family, num_classes):
    """Try each scale with each share of masked classes, the label drawn or the least likely class: 24 rows."""
    rng = np.random.default_rng(num_classes)
    rows, labels = [], []
    for scale, masked, last in itertools.product((0.0, 1.0, 1e2, 1e4), (0.0, 0.5, 1.0), (False, True)):
        logits = np.clip(scale * rng.standard_normal(num_classes), -1e4, 1e4)
        label = int(np.argmin(logits)) if last else int(rng.integers(num_classes))
        hidden = rng.random(num_classes) < masked
        hidden[label] = False
        rows.append(np.where(hidden, -np.inf, logits))
        labels.append(label)
    logits, labels = np.array(rows, np.float32), np.array(labels, np.int32)
    values, gradients = family.values(logits, labels), family.gradients(logits, labels)
    for name, gradient in gradients.items():
        assert np.all(np.isfinite(values[name])), name
        assert np.all(np.isfinite(gradient)), name
        assert np.all(gradient[logits == -np.inf] == 0.0), name
