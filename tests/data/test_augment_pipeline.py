"""The training step's augmentation applies what the config says, in one program, and refuses bad settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError
from edl_jax.data.augment import METHODS

OFF = data.AugmentConfig(crop_flip=False)
IMAGES = np.random.default_rng(0).integers(1, 255, (4, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(4, dtype=np.int32)


def augment_fn(config, **settings):
    return data.make_augment(config, (16, 16, 3), 5, **settings)


def test_every_field_of_the_config_is_a_method():
    assert set(METHODS) == {field.name for field in dataclasses.fields(data.AugmentConfig)}


def test_everything_off_is_the_identity(key):
    images, labels = augment_fn(OFF)(key, IMAGES, LABELS)
    assert images is IMAGES
    assert labels is LABELS


def test_the_default_is_crop_and_flip(key):
    images, labels = augment_fn(data.AugmentConfig(), padding=2, flip=False)(key, IMAGES, LABELS)
    expected = data.random_crop_flip(jax.random.split(key, 5)[0], IMAGES, padding=2, flip=False)
    np.testing.assert_array_equal(images, expected)
    assert labels is LABELS


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_alone_has_the_shapes_of_training(key, name):
    config = data.published_config([name])
    if name == "crop_flip":
        assert config == data.AugmentConfig()
    assert config.mixes_labels == (name in ("mixup", "cutmix"))
    images, labels = jax.eval_shape(augment_fn(config), key, IMAGES, LABELS)
    assert images.shape == IMAGES.shape
    assert images.dtype == (jnp.float32 if name == "mixup" else jnp.uint8)
    if config.mixes_labels:
        assert (labels.shape, labels.dtype) == ((4, 5), jnp.float32)
    else:
        assert (labels.shape, labels.dtype) == ((4,), jnp.int32)


def test_cutout_fills_with_the_mean(key):
    config = dataclasses.replace(OFF, cutout=6)
    images = np.asarray(augment_fn(config, mean=np.array([0.0, 1.0, 0.2], np.float32))(key, IMAGES, LABELS)[0])
    hidden = (images != IMAGES).any(-1)
    assert hidden.any()
    np.testing.assert_array_equal(images[hidden], np.tile([0, 255, 51], (int(hidden.sum()), 1)))


def test_switching_one_method_on_leaves_the_draws_of_another_alone(key):
    settings = {"padding": 2, "flip": False, "mean": [0.0, 1.0, 0.2]}
    cropped, _ = augment_fn(data.AugmentConfig(), **settings)(key, IMAGES, LABELS)
    images, _ = augment_fn(data.AugmentConfig(cutout=6), **settings)(key, IMAGES, LABELS)
    same = (np.asarray(images) == np.asarray(cropped)).all(-1)
    assert 0.5 < float(same.mean()) < 1


def test_mixup_and_cutmix_are_chosen_by_batch_with_equal_probability():
    config = dataclasses.replace(OFF, mixup=1.0, cutmix=1.0)
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[1] = 100
    augment = data.make_augment(config, (8, 8, 1), 2)
    keys = jax.random.split(jax.random.key(0), 400)
    mixed, probabilities = jax.jit(jax.vmap(lambda key: augment(key, images, LABELS[:2])))(keys)
    assert mixed.dtype == jnp.float32
    mixed, probabilities = np.asarray(mixed)[:, 0], np.asarray(probabilities)[:, 0]
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(mixed.mean((1, 2, 3)) / 100, probabilities[:, 1], atol=1e-5)
    # Half of the permutations of two keep both images in place; in the others the pixels show the method.
    blended = ((mixed > 0) & (mixed < 100)).any((1, 2, 3))
    pasted = ~blended & (probabilities[:, 1] > 0)
    shown = blended.sum() + pasted.sum()
    assert shown > 150
    # Four standard deviations of a fair coin, and one for the rectangles of no area.
    assert abs(int(blended.sum()) - int(pasted.sum())) < 5 * np.sqrt(shown)


@pytest.mark.slow
def test_everything_on_is_one_program_and_repeats_for_a_key(compilations):
    augment = jax.jit(augment_fn(data.published_config(METHODS), mean=[0.5, 0.5, 0.5]))
    keys = jax.random.split(jax.random.key(0), 3)
    with compilations() as counts:
        first, second, again = (augment(keys[index], IMAGES, LABELS) for index in (0, 1, 0))
    assert counts["jit(augment)"] == 1
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != second[0]).any()
    assert np.isfinite(first[0]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutout": -1}, "cutout is -1, expected the side"),
        ({"random_erasing": 1.5}, r"random_erasing is 1.5, expected a probability in \[0, 1\]"),
        ({"rand_augment": (2,)}, r"rand_augment is \(2,\), expected a number of operations and a magnitude in 0..30"),
        ({"rand_augment": (-1, 9)}, "rand_augment is"),
        ({"rand_augment": (2, 31)}, "rand_augment is"),
        ({"mixup": -0.1}, "mixup is -0.1"),
        ({"cutmix": float("nan")}, "cutmix is nan"),
    ],
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        data.AugmentConfig(**settings)


def test_settings_that_do_not_fit_the_images_are_refused():
    with pytest.raises(UserError, match="cutout is 16, expected at most 8 for images of 8 x 8"):
        data.make_augment(data.AugmentConfig(cutout=16), (8, 8, 1), 10)
    with pytest.raises(UserError, match="rand_augment needs images with 1 or 3 channels, these have 4"):
        data.make_augment(data.AugmentConfig(rand_augment=(2, 9)), (8, 8, 4), 10)


def test_unknown_augmentation_lists_the_closest():
    with pytest.raises(UserError, match="unknown augmentation 'cutmax': did you mean cutmix"):
        data.published_config(["crop_flip", "cutmax"])
