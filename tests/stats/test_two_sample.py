"""The classifier two-sample test: it sees a difference in shape alone, and none where there is none."""

import numpy as np
import pytest

from edl_jax.core.errors import UserError
from edl_jax.stats.two_sample import classifier_test


def test_a_difference_that_no_single_feature_shows_is_found():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 1500))
    found = classifier_test(np.stack([x, y], 1), np.stack([x, 0.3 * y + np.sign(x) * 0.95 * x], 1))
    assert found.p_value < 1e-6
    assert found.low < found.accuracy < found.high
    assert found.low > 0.6
    assert found.examples == 1500


def test_samples_of_one_law_are_not_told_apart():
    """Seeds are fixed: of ten p-values that are uniform, the chance of a mean below 0.25 is 1 in 400."""
    rng = np.random.default_rng(1)
    samples = rng.standard_normal((10, 2, 200, 4))
    found = [classifier_test(a, b[:150], seed=seed) for seed, (a, b) in enumerate(samples)]
    assert np.mean([each.p_value for each in found]) > 0.25
    assert all(each.low <= 0.5 for each in found if each.p_value > 0.05)
    assert found[3] == classifier_test(*(samples[3][0], samples[3][1][:150]), seed=3)


def test_samples_that_cannot_be_compared_are_refused():
    with pytest.raises(UserError, match="a sample has 19 examples, expected at least 20"):
        classifier_test(np.zeros((19, 2)), np.zeros((90, 2)))
    with pytest.raises(UserError, match="expected \\[N, F\\]"):
        classifier_test(np.zeros((30, 2)), np.zeros((30, 3)))
