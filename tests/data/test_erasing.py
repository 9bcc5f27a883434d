"""Cutout and random erasing change one rectangle of the promised size, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError


def boxes(changed):
    """Return top, left, height and width of the changed pixels `[N, H, W]`, checked to be full rectangles."""
    found = []
    for mask in changed:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = (rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        assert mask.sum() == box[2] * box[3]
        found.append(box)
    return np.array(found)


@pytest.mark.parametrize("size", [4, 5])
def test_cutout_hides_a_clipped_square_around_a_uniform_centre(key, size):
    """Every one of the 6 x 7 centres has its own square; chi-squared with 41 degrees of freedom: 74.7 at 0.1 %."""
    images = np.ones((4200, 6, 7, 2), np.uint8)
    hidden = np.asarray(data.cutout(key, images, size=size, fill=(0.0, 9.4)))
    mask = hidden[..., 0] == 0
    np.testing.assert_array_equal(hidden, np.where(mask[..., None], np.array([0, 9]), 1))
    expected = {}
    for row in range(6):
        for column in range(7):
            square = np.zeros((6, 7), bool)
            top, left = row - size // 2, column - size // 2
            square[max(top, 0) : top + size, max(left, 0) : left + size] = True
            expected.setdefault(square.tobytes(), []).append(100)
    counts = dict.fromkeys(expected, 0)
    for square in mask:
        counts[square.tobytes()] += 1
    assert sum((counts[key] - sum(n)) ** 2 / sum(n) for key, n in expected.items()) < 74.7


@pytest.mark.parametrize("method", [data.cutout, data.random_erasing])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.bfloat16, jnp.float32])
def test_dtype_and_shape_are_kept(key, method, dtype):
    images = jax.ShapeDtypeStruct((3, 9, 8, 3), dtype)
    result = jax.eval_shape(method, key, images)
    assert (result.dtype, result.shape) == (dtype, images.shape)


@pytest.mark.parametrize("method", [data.cutout, data.random_erasing])
def test_draws_repeat_for_a_key_and_differ_for_another_in_one_program(method, compilations):
    images = np.full((2000, 32, 32, 1), -1.0, np.float32)
    with compilations() as counts:
        first, again, other = (np.asarray(method(jax.random.key(seed), images)) for seed in (1, 1, 2))
    assert counts[f"jit({method.__name__})"] <= 1
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_square_without_pixels_is_the_identity(key):
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(data.cutout(key, images, size=0), images)


@pytest.mark.slow
def test_erasing_with_probability_zero_is_the_identity(key):
    images = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(data.random_erasing(key, images, probability=0.0), images)


def test_erased_rectangles_keep_to_area_aspect_and_probability(key):
    images = np.full((2000, 32, 32, 1), -1.0, np.float32)
    erased = np.asarray(data.random_erasing(key, images))[..., 0]
    changed = erased != -1.0
    chosen = changed.any((1, 2))
    assert abs(chosen.mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)
    top, left, height, width = boxes(changed[chosen]).T
    # Sides are rounded to pixels: half a pixel on either side of the promised area and aspect.
    assert ((height - 0.5) * (width - 0.5) <= 0.4 * 1024).all()
    assert ((height + 0.5) * (width + 0.5) >= 0.02 * 1024).all()
    assert ((height + 0.5) / (width - 0.5) >= 0.3).all()
    assert ((height - 0.5) / (width + 0.5) <= 1 / 0.3).all()
    # Whether an image is chosen says nothing of the area; rectangles that do not fit lower its mean from 0.21.
    assert 0.18 < (height * width).mean() / 1024 < 0.22
    # Both borders are reached, and small rectangles lie anywhere.
    assert (top.min(), left.min(), (top + height).max(), (left + width).max()) == (0, 0, 32, 32)
    # Pixels are uniform over 0..255.
    pixels = erased[changed]
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert abs(pixels.mean() - 127.5) < 0.5
    np.testing.assert_array_equal(pixels, np.round(pixels))


@pytest.mark.slow
def test_erased_area_and_aspect_have_the_rejection_rule_of_the_paper(key):
    """Means of area and aspect against NumPy's draw-until-it-fits, within four standard errors."""
    images = np.full((4000, 64, 64, 1), -1.0, np.float32)
    erased = np.asarray(data.random_erasing(key, images, probability=1.0))[..., 0]
    _, _, height, width = boxes(erased != -1.0).T
    generator = np.random.default_rng(0)
    area, ratio = generator.uniform(0.02, 0.4, 100_000) * 4096, generator.uniform(0.3, 1 / 0.3, 100_000)
    rows, columns = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    kept = (rows < 64) & (columns < 64)
    for found, expected in [(height * width, rows * columns), (np.log(height / width), np.log(rows / columns))]:
        assert abs(found.mean() - expected[kept].mean()) < 4 * expected[kept].std() / np.sqrt(4000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda key, images: data.cutout(key, images, size=-1), "cutout is -1"),
        (lambda key, images: data.random_erasing(key, images, probability=1.5), "random_erasing is 1.5"),
        (lambda key, images: data.random_erasing(key, images, area=(0.4, 0.2)), "area of random erasing"),
        (lambda key, images: data.random_erasing(key, images, aspect=0.0), "aspect of random erasing"),
    ],
)
def test_bad_settings_are_refused(key, call, message):
    with pytest.raises(UserError, match=message):
        call(key, np.zeros((2, 8, 8, 1), np.uint8))
