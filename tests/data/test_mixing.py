"""Mixup and CutMix: images and label probabilities carry the same shares of the same two examples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from edl_jax import data
from edl_jax.core.errors import UserError

BATCH = 6


def identified(dtype, shape=(8, 10)):
    """Images of one value each, 10, 20, ...: a pixel tells its example; every example has its own class."""
    values = 10 * np.arange(1, BATCH + 1).reshape(-1, 1, 1, 1)
    return np.broadcast_to(values, (BATCH, *shape, 2)).astype(dtype), np.arange(BATCH)


def partners(probabilities, lam):
    """Return the permutation that the label probabilities show, checked to be one."""
    rest = np.asarray(probabilities, np.float64) - lam * np.eye(BATCH)
    partner = rest.argmax(1)
    np.testing.assert_array_equal(np.sort(partner), np.arange(BATCH))
    np.testing.assert_allclose(rest, (1 - lam) * np.eye(BATCH)[partner], atol=1e-6)
    return partner


def lambda_of(probabilities):
    """Return the weight of the own label where some partner is another example, else None."""
    own = np.diag(np.asarray(probabilities, np.float64))
    return None if np.allclose(own, 1) else own.min()


@pytest.mark.parametrize("dtype", [np.uint8, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_mixup_is_the_weighted_mean_of_two_examples(dtype):
    images, labels = identified(dtype)
    mixed, probabilities = data.mixup(jax.random.key(3), images, labels, num_classes=BATCH)
    assert mixed.dtype == probabilities.dtype == jnp.float32
    lam = lambda_of(probabilities)
    raw = np.asarray(images, np.float64)
    np.testing.assert_allclose(mixed, lam * raw + (1 - lam) * raw[partners(probabilities, lam)], rtol=1e-5)


def test_floating_images_keep_their_dtype_in_mixup():
    images, labels = identified(jnp.bfloat16)
    mix = functools.partial(data.mixup, num_classes=BATCH)
    mixed, probabilities = jax.eval_shape(mix, jax.random.key(0), images, labels)
    assert (mixed.dtype, probabilities.dtype) == (jnp.bfloat16, jnp.float32)


@pytest.mark.parametrize("dtype", [np.uint8, pytest.param(np.float32, marks=pytest.mark.slow)])
def test_cutmix_pastes_one_rectangle_whose_area_is_the_label_share(dtype):
    images, labels = identified(dtype)
    clipped = 0
    for seed in range(20):
        mixed, probabilities = data.cutmix(jax.random.key(seed), images, labels, num_classes=BATCH)
        assert mixed.dtype == dtype
        lam = lambda_of(probabilities)
        if lam is None:
            continue
        partner = partners(probabilities, lam)
        mask = (np.asarray(mixed) != images)[partner != np.arange(BATCH)].all(-1)
        assert (mask == mask[0]).all()  # one rectangle for the batch
        rows, columns = np.flatnonzero(mask[0].any(1)), np.flatnonzero(mask[0].any(0))
        assert mask[0].sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        np.testing.assert_allclose(1 - lam, mask[0].mean(), atol=1e-6)
        np.testing.assert_array_equal(mixed, np.where(mask[0][:, :, None], images[partner], images))
        clipped += len(rows) % 2 or len(columns) % 2  # unclipped sides are even
    assert clipped


@pytest.mark.parametrize("alpha", [pytest.param(0.2, marks=pytest.mark.slow), 1.0])
def test_one_lambda_for_the_batch_from_the_beta_distribution(alpha):
    """Kolmogorov-Smirnov over 500 batches; a permutation of two keeps both in place half of the time."""
    images, labels = np.zeros((2, 1, 1, 1), np.float32), np.arange(2)
    draw = jax.jit(jax.vmap(lambda key: data.mixup(key, images, labels, num_classes=2, alpha=alpha)[1]))
    probabilities = np.asarray(draw(jax.random.split(jax.random.key(0), 1000)))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(probabilities[:, 0, 0], probabilities[:, 1, 1], atol=1e-6)
    mixed = probabilities[:, 0, 0][probabilities[:, 0, 0] < 1]
    assert len(mixed) > 300
    assert scipy.stats.kstest(mixed, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.slow
def test_cutmix_area_has_the_distribution_of_the_papers_code():
    """Mean covered share against a NumPy draw of lambda, centre and clipping, within four standard errors."""
    images, labels = np.zeros((2, 16, 12, 1), np.float32), np.arange(2)
    draw = jax.jit(jax.vmap(lambda key: data.cutmix(key, images, labels, num_classes=2)[1]))
    probabilities = np.asarray(draw(jax.random.split(jax.random.key(1), 2000)))
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    generator = np.random.default_rng(0)
    side = np.sqrt(1 - generator.uniform(size=50_000))
    covered = np.ones(50_000)
    for length in (16, 12):
        half, centre = (side * length).astype(int) // 2, generator.integers(0, length, 50_000)
        covered *= (np.minimum(centre + half, length) - np.maximum(centre - half, 0)) / length
    # Half of the permutations of two leave each label with itself.
    expected, spread = covered.mean() / 2, np.sqrt((covered**2).mean() / 2)
    assert abs(1 - probabilities[:, 0, 0].mean() - expected) < 4 * spread / np.sqrt(2000)


@pytest.mark.slow
def test_a_tiny_alpha_leaves_whole_images():
    """Beta(alpha, alpha) tends to a fair coin: each image becomes itself or its partner."""
    images, labels = identified(np.float32)
    for seed in range(4):
        mixed, probabilities = data.mixup(jax.random.key(seed), images, labels, num_classes=BATCH, alpha=1e-4)
        np.testing.assert_array_equal(np.sort(probabilities, axis=1), np.eye(BATCH)[[-1] * BATCH])
        np.testing.assert_array_equal(mixed, images[np.asarray(probabilities).argmax(1)])


@pytest.mark.parametrize("method", [data.mixup, data.cutmix])
@pytest.mark.parametrize("alpha", [0.0, -1.0, float("inf")])
def test_alpha_must_be_positive(key, method, alpha):
    with pytest.raises(UserError, match=f"{method.__name__} is {alpha}, expected a positive alpha"):
        method(key, *identified(np.uint8), num_classes=BATCH, alpha=alpha)
