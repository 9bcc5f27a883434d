import numpy as np
import pytest

from edl_jax.core.errors import UserError
from edl_jax.training.calibration import confidences, ece_equal_mass


def plain_equal_mass(confidence, correct, bins):
    order = np.argsort(confidence)
    total = 0.0
    for k in range(bins):
        rows = order[k * len(order) // bins : (k + 1) * len(order) // bins]
        total += len(rows) / len(order) * abs(confidence[rows].mean() - correct[rows].mean())
    return total


def test_equal_mass_agrees_with_a_plain_loop_where_bins_divide_the_examples():
    rng = np.random.default_rng(0)
    confidence = rng.random(1500)
    correct = rng.random(1500) < confidence**2
    assert ece_equal_mass(confidence, correct) == pytest.approx(plain_equal_mass(confidence, correct, 15), abs=1e-12)
    assert ece_equal_mass(confidence, correct, 4) == pytest.approx(plain_equal_mass(confidence, correct, 4), abs=1e-12)


@pytest.mark.parametrize("count", [1, 7, 100])
def test_order_of_the_examples_does_not_matter_even_with_ties(count):
    rng = np.random.default_rng(1)
    confidence = rng.choice([0.25, 0.5, 1.0], count)
    correct = rng.random(count) < 0.5
    found = ece_equal_mass(confidence, correct)
    for _ in range(5):
        order = rng.permutation(count)
        assert ece_equal_mass(confidence[order], correct[order]) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize(("right", "expected"), [(8, 0.0), (4, 0.5), (0, 1.0)])
def test_confidence_of_exactly_one_counts_with_its_accuracy(right, expected):
    assert ece_equal_mass(np.ones(8), np.arange(8) < right) == pytest.approx(expected)


def test_confidences_are_those_of_the_softmax():
    confidence, correct = confidences(np.log([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]), np.array([0, 1]))
    np.testing.assert_allclose(confidence, [0.7, 0.6])
    np.testing.assert_array_equal(correct, [True, False])
    assert confidences(np.array([[1e4, -1e4]]), np.array([0]))[0] == 1.0


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "message"),
    [
        (np.zeros(0), np.zeros(0), 15, "with N at least 1"),
        (np.ones(3), np.ones(2), 15, r"shape \(3,\) and correct \(2,\)"),
        (np.ones(3), np.ones(3), 0, "num_bins is 0"),
    ],
)
def test_equal_mass_refuses_what_it_cannot_use(confidence, correct, bins, message):
    with pytest.raises(UserError, match=message):
        ece_equal_mass(confidence, correct, bins)
