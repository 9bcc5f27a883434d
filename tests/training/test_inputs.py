import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import data, training
from edl_jax.core.errors import UserError


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_subset_keeps_the_share_of_each_class_and_is_decided_by_the_seed(digits):
    images, labels = training.train_subset(digits, 500, seed=0)
    assert images.shape == (500, 8, 8, 1)
    counts = np.bincount(labels, minlength=10)
    shares = np.bincount(digits.train_labels, minlength=10) * (500 / len(digits.train_labels))
    assert np.all(np.abs(counts - shares) <= 1)
    np.testing.assert_array_equal(images, training.train_subset(digits, 500, seed=0)[0])
    assert not np.array_equal(images, training.train_subset(digits, 500, seed=1)[0])


def test_subset_of_everything_is_the_data_set(digits):
    for size in (None, len(digits.train_labels)):
        np.testing.assert_array_equal(training.train_subset(digits, size, seed=0)[1], digits.train_labels)


def test_subset_beyond_the_data_set_is_refused(digits):
    with pytest.raises(UserError, match="train_size is 1438, expected at most 1437"):
        training.train_subset(digits, 1438, seed=0)


def test_prepared_images_are_standardised(digits):
    clean = training.make_prepare(digits, jnp.float32)(digits.train_images)
    assert float(jnp.mean(clean)) == pytest.approx(0.0, abs=1e-3)
    assert float(jnp.std(clean)) == pytest.approx(1.0, abs=1e-3)
    low = training.make_prepare(digits, jnp.bfloat16)(digits.train_images)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), clean, rtol=0.01, atol=0.01)


def test_augmentation_is_that_of_the_data_set(digits, key):
    images, labels = digits.train_images[:64], digits.train_labels[:64]
    assert training.make_augment(digits, data.published_config([])) is None
    still = training.make_augment(digits, data.AugmentConfig())  # digits are neither padded nor mirrored
    np.testing.assert_array_equal(still(key, images, labels)[0], images)
    flipping = dataclasses.replace(digits, augment=data.Augment(padding=2, flip=True))
    moved, same = training.make_augment(flipping, data.AugmentConfig())(key, images, labels)
    assert not np.array_equal(moved, images)
    np.testing.assert_array_equal(same, labels)
    _, mixed = training.make_augment(digits, data.AugmentConfig(mixup=1.0))(key, images, labels)
    assert mixed.shape == (64, 10)
    np.testing.assert_allclose(mixed.sum(axis=-1), 1.0, atol=1e-6)
