import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import data, training
from edl_jax.errors import UserError


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


def test_prepared_images_are_standardised_and_only_training_images_are_augmented(digits, key):
    flipping = dataclasses.replace(digits, augment=data.Augment(padding=2, flip=True))
    prepare = training.make_prepare(flipping, jnp.float32, augment=True)
    clean = prepare(None, digits.train_images)
    assert float(jnp.mean(clean)) == pytest.approx(0.0, abs=1e-3)
    assert float(jnp.std(clean)) == pytest.approx(1.0, abs=1e-3)
    assert not np.allclose(prepare(key, digits.train_images), clean)
    plain = training.make_prepare(flipping, jnp.bfloat16, augment=False)
    assert plain(key, digits.train_images).dtype == jnp.bfloat16
    np.testing.assert_allclose(plain(key, digits.train_images).astype(jnp.float32), clean, rtol=0.01, atol=0.01)
