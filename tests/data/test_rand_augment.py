"""RandAugment's operations are PIL's, on the image they were drawn for."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from edl_jax import data

# The package's attribute of this name is the function.
rand_augment = importlib.import_module("edl_jax.data.augment.rand_augment")

FILL = 77
EVERY_OPERATION, BOTH_SIGNS = np.repeat(np.arange(14), 2), np.tile(np.float32([1, -1]), 14)
SHAPE = (18, 30)  # large enough for equalize to have a step of more than one pixel a level


def affine(image, coefficients):
    fill = FILL if image.mode == "L" else (FILL,) * 3
    return image.transform(image.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=fill)


def rotated(image, degrees):
    angle = np.deg2rad(degrees)
    cos, sin, x, y = np.cos(angle), np.sin(angle), image.width / 2, image.height / 2
    return affine(image, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y))


def sharpened(image, factor):
    return Image.blend(image.filter(ImageFilter.SMOOTH), image, factor)


# (image, strength s with its sign) -> image
REFERENCES = {
    "identity": lambda image, s: image,
    "rotate": lambda image, s: rotated(image, 30 * s),
    "shear_x": lambda image, s: affine(image, (1, 0.3 * s, 0, 0, 1, 0)),
    "shear_y": lambda image, s: affine(image, (1, 0, 0, 0.3 * s, 1, 0)),
    "translate_x": lambda image, s: affine(image, (1, 0, 150 / 331 * s * image.width, 0, 1, 0)),
    "translate_y": lambda image, s: affine(image, (1, 0, 0, 0, 1, 150 / 331 * s * image.height)),
    "auto_contrast": lambda image, s: ImageOps.autocontrast(image),
    "equalize": lambda image, s: ImageOps.equalize(image),
    "solarize": lambda image, s: ImageOps.solarize(image, 256 - round(256 * abs(s))),
    "posterize": lambda image, s: ImageOps.posterize(image, max(8 - round(4 * abs(s)), 1)),
    "contrast": lambda image, s: ImageEnhance.Contrast(image).enhance(max(1 + 0.9 * s, 0.1)),
    "brightness": lambda image, s: ImageEnhance.Brightness(image).enhance(max(1 + 0.9 * s, 0.1)),
    "color": lambda image, s: ImageEnhance.Color(image).enhance(max(1 + 0.9 * s, 0.1)),
    "sharpness": lambda image, s: sharpened(image, max(1 + 0.9 * s, 0.1)),
}


def pil(image, name, strength):
    result = REFERENCES[name](Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image), strength)
    return np.asarray(result).reshape(image.shape)


def random_images(count, channels=3):
    """Images of a few hundred pixels that leave room at both ends of the levels, and repeat some."""
    generator = np.random.default_rng(0)
    low = generator.integers(0, 60, (count, 1, 1, channels))
    return (low + generator.integers(0, 180, (count, *SHAPE, channels)) // 3 * 3).astype(np.uint8)


@pytest.fixture(scope="module")
def apply():
    return jax.jit(rand_augment.apply_operations, static_argnums=(3, 4))


def test_the_operations_are_those_of_the_paper():
    assert set(rand_augment.OPERATIONS) == set(REFERENCES)
    assert len(rand_augment.OPERATIONS) == 14


@pytest.mark.parametrize(
    ("magnitude", "channels"),
    [(9, 3), (0, 1), pytest.param(30, 3, marks=pytest.mark.slow), pytest.param(17, 1, marks=pytest.mark.slow)],
)
def test_every_operation_agrees_with_pil(apply, magnitude, channels):
    images = random_images(28, channels)
    result = np.asarray(apply(images, EVERY_OPERATION, BOTH_SIGNS, magnitude, FILL))
    assert result.dtype == np.uint8
    for image, operation, sign, found in zip(images, EVERY_OPERATION, BOTH_SIGNS, result, strict=True):
        name = rand_augment.OPERATIONS[operation]
        expected = pil(image, name, sign * magnitude / 10)
        if name in rand_augment.MOVES:
            # Rounding may choose the other of two pixels at equal distance.
            assert (found != expected).mean() <= 0.01, name
        else:
            np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1, err_msg=name)
        if magnitude == 0 and name not in ("auto_contrast", "equalize"):
            np.testing.assert_array_equal(found, image, err_msg=name)


def test_each_image_draws_its_own_operation_uniformly_and_sign(apply):
    """Chi-squared over what one layer made of 2,800 copies: every distinct result has its probability, none is new."""
    image = random_images(1)[0]
    distinct = {}
    for made in np.asarray(apply(np.repeat(image[None], 28, 0), EVERY_OPERATION, BOTH_SIGNS, 9, FILL)):
        distinct[made.tobytes()] = distinct.get(made.tobytes(), 0.0) + 1 / 28
    results = data.rand_augment(jax.random.key(1), np.repeat(image[None], 2800, 0), num_ops=1, magnitude=9, fill=FILL)
    counts = dict.fromkeys(distinct, 0)
    for result in np.asarray(results):
        counts[result.tobytes()] += 1
    chi_squared = sum((counts[key] - 2800 * share) ** 2 / (2800 * share) for key, share in distinct.items())
    assert len(distinct) > 20
    assert chi_squared < 55.5  # 27 degrees of freedom at 0.1 %; fewer have a lower limit


def test_two_layers_are_one_program_and_repeat_for_a_key(compilations):
    """Whole floating pixels are treated as integers are."""
    images = random_images(8).astype(np.float32)
    with compilations() as counts:
        first, again, other = (np.asarray(data.rand_augment(jax.random.key(seed), images)) for seed in (1, 1, 2))
    assert counts["jit(rand_augment)"] <= 1
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(first, np.round(first))


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32])
def test_dtype_and_shape_are_kept(key, dtype):
    images = jax.ShapeDtypeStruct((3, 9, 8, 3), dtype)
    result = jax.eval_shape(data.rand_augment, key, images)
    assert (result.dtype, result.shape) == (dtype, images.shape)


def test_no_operations_are_the_identity(key):
    images = random_images(4)
    np.testing.assert_array_equal(data.rand_augment(key, images, num_ops=0), images)


def test_two_channels_are_refused(key):
    with pytest.raises(ValueError, match="1 or 3 channels"):
        data.rand_augment(key, np.zeros((1, 8, 8, 2), np.uint8))
