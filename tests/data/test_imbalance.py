"""Imbalanced sets have the literature's class sizes and are drawn without replacement."""

import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError

CIFAR10 = np.full(10, 5000)


@pytest.mark.parametrize(
    ("ratio", "kind", "expected"),
    [
        # CIFAR-10-LT as published (Cao et al., 2019, and their code)
        (100, "long_tailed", [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (100, "step", [5000] * 5 + [50] * 5),
        (10, "step", [5000] * 5 + [500] * 5),
        (1, "long_tailed", [5000] * 10),
        (1, "step", [5000] * 10),
    ],
)
def test_counts_are_the_published_ones(ratio, kind, expected):
    np.testing.assert_array_equal(data.imbalanced_counts(CIFAR10, ratio, kind), expected)


@pytest.mark.parametrize("ratio", [2, 10, 49.9])
@pytest.mark.parametrize("kind", ["long_tailed", "step"])
def test_unequal_classes_serve_the_ratio(ratio, kind):
    available = np.array([700, 900, 1000, 650, 800])
    counts = data.imbalanced_counts(available, ratio, kind)
    assert (counts <= available).all()
    assert (np.diff(counts) <= 0).all()
    np.testing.assert_allclose(counts[0] / counts[-1], ratio, rtol=1.5 / counts[-1])


def test_indices_are_sorted_distinct_and_of_the_right_classes():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 64))
    chosen = data.imbalanced_indices(labels, 8, num_classes=4, seed=0)
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(np.bincount(labels[chosen]), [64, 32, 16, 8])
    np.testing.assert_array_equal(chosen, data.imbalanced_indices(labels, 8, num_classes=4, seed=0))
    assert (chosen != data.imbalanced_indices(labels, 8, num_classes=4, seed=1)).any()


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (np.arange(20) % 2, {"ratio": 0.5}, "imbalance ratio is 0.5, expected n_max / n_min of at least 1"),
        (np.arange(20) % 2, {"ratio": float("nan")}, "imbalance ratio is nan"),
        (np.arange(20) % 2, {"ratio": 11}, "leaves class 1 without examples .*smaller ratio"),
        (np.zeros(20, int), {"ratio": 2}, "without examples"),
        (np.arange(20) % 2, {"ratio": 2, "kind": "stepp"}, "unknown class imbalance 'stepp': did you mean step"),
        (np.arange(20) % 3, {"ratio": 2}, r"labels hold \[2\], expected classes 0..1"),
    ],
)
def test_bad_input_is_refused(labels, settings, message):
    with pytest.raises(UserError, match=message):
        data.imbalanced_indices(labels, num_classes=2, seed=0, **settings)
