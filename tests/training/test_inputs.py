import dataclasses

import jax
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
    prepare = [training.make_prepare(digits, dtype) for dtype in (jnp.float32, jnp.bfloat16)]
    clean, low = jax.jit(lambda images: [one(images) for one in prepare])(digits.train_images)
    assert np.mean(clean) == pytest.approx(0.0, abs=1e-3)
    assert np.std(clean) == pytest.approx(1.0, abs=1e-3)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(low), clean, rtol=0.01, atol=0.01)


def test_augmentation_is_that_of_the_data_set(digits, key):
    images, labels = digits.train_images[:64], digits.train_labels[:64]
    assert training.make_augment(digits, data.published_config([])) is None
    flipping = dataclasses.replace(digits, augment=data.Augment(padding=2, flip=True))
    ways = (
        training.make_augment(digits, data.AugmentConfig()),  # digits are neither padded nor mirrored
        training.make_augment(flipping, data.AugmentConfig()),
        training.make_augment(digits, data.AugmentConfig(mixup=1.0)),
    )
    made = jax.jit(lambda key, images, labels: [augment(key, images, labels) for augment in ways])(key, images, labels)
    (still, _), (moved, same), (_, mixed) = made
    np.testing.assert_array_equal(still, images)
    assert not np.array_equal(moved, images)
    np.testing.assert_array_equal(same, labels)
    assert mixed.shape == (64, 10)
    np.testing.assert_allclose(mixed.sum(axis=-1), 1.0, atol=1e-6)
