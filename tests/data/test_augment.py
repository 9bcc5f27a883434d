"""Crops are windows of their own image, drawn uniformly; normalisation is the textbook formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import data

NORMALIZE = jax.jit(data.normalize, static_argnums=3)  # one program rather than one for each operation


def random_images(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(1, 256, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32, jnp.bfloat16])
def test_no_padding_and_no_flip_is_the_identity(key, dtype):
    images = random_images((5, 8, 6, 3), dtype)
    cropped = data.random_crop_flip(key, images, padding=0, flip=False)
    assert cropped.dtype == dtype
    np.testing.assert_array_equal(cropped, images)


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True)])
def test_every_output_is_a_window_of_its_own_image(padding, flip):
    images = random_images((64, 6, 7, 3))
    cropped = np.asarray(data.random_crop_flip(jax.random.key(1), images, padding=padding, flip=flip))
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    found = np.zeros(len(images), int)
    for row in range(2 * padding + 1):
        for column in range(2 * padding + 1):
            window = padded[:, row : row + 6, column : column + 7]
            for candidate in [window, window[:, :, ::-1]] if flip else [window]:
                found += (candidate == cropped).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(found, 1)


def test_same_key_same_crops_and_another_key_others():
    images = random_images((64, 6, 7, 3))  # a program of the test before
    first, again, other = (np.asarray(data.random_crop_flip(jax.random.key(k), images, padding=2)) for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_windows_and_flips_are_drawn_uniformly_and_independently():
    """Chi-squared over the 9 windows times 2 flips, 17 degrees of freedom: 40.8 at 0.1 %."""
    image = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    images = np.repeat(image, 18_000, axis=0)
    cropped = data.random_crop_flip(jax.random.key(3), images, padding=1)
    _, counts = np.unique(np.asarray(cropped).reshape(len(images), -1), axis=0, return_counts=True)
    assert len(counts) == 18
    assert ((counts - 1000.0) ** 2 / 1000.0).sum() < 40.8


def test_border_is_black_after_normalisation(key):
    """Cropping comes before normalisation: the border is raw 0, not the mean."""
    images = np.full((64, 6, 7, 3), 255, np.uint8)
    mean, std = np.full(3, 0.5), np.full(3, 0.25)
    cropped = data.random_crop_flip(key, images, padding=2)
    assert set(np.unique(NORMALIZE(cropped, mean, std))) == {-2.0, 2.0}


@pytest.mark.parametrize("images", [np.zeros((8, 8, 3), np.uint8), np.zeros((1, 1, 8, 8, 3), np.uint8)])
def test_wrong_rank_is_refused(key, images):
    with pytest.raises(ValueError, match=r"\[B, H, W, C\]"):
        data.random_crop_flip(key, images)


def test_negative_padding_is_refused(key):
    with pytest.raises(ValueError, match="at least 0"):
        data.random_crop_flip(key, np.zeros((1, 8, 8, 3), np.uint8), padding=-1)


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (8, 8, 3), (2, 4, 8, 8, 3)])
def test_normalize_agrees_with_float64(shape):
    images = random_images(shape)
    mean, std = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.3, 0.4])
    expected = (images / 255.0 - mean) / std
    np.testing.assert_allclose(NORMALIZE(images, mean, std), expected, rtol=1e-5, atol=1e-5)
    low = NORMALIZE(images, mean, std, jnp.bfloat16)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(low), expected, rtol=1e-2, atol=1e-2)
