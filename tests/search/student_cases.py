"""A small task for students, and tables of losses that tests train with."""

import jax.numpy as jnp
import numpy as np

from edl_jax.search.split import Images, Split
from edl_jax.search.tables import LOG_P

CLASSES = 4
P_OF = np.exp(LOG_P.astype(np.float64))
CROSS_ENTROPY = np.stack([np.zeros_like(P_OF), -np.ones_like(P_OF)]).astype(np.float32)
SQUARED_ERROR = np.stack([2 * P_OF**2, -2 * (1 - P_OF) * P_OF]).astype(np.float32)
TABLES = jnp.asarray(np.stack([CROSS_ENTROPY, SQUARED_ERROR, np.full_like(CROSS_ENTROPY, np.nan), 3 * CROSS_ENTROPY]))


def small_split(side=12, channels=1, train=320, validation=120, seed=0):
    """Return images whose class is the quarter that is bright, with noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, train + validation).astype(np.int32)
    images = rng.normal(100, 40, (train + validation, side, side, channels))
    half = side // 2
    for label in range(CLASSES):
        top, left = half * (label // 2), half * (label % 2)
        images[labels == label, top : top + half, left : left + half] += 60
    images = images.clip(0, 255).astype(np.uint8)
    scaled = images[:train] / 255.0
    mean, std = (tuple(float(x) for x in f(scaled, axis=(0, 1, 2))) for f in (np.mean, np.std))
    return Split(
        Images((side, side, channels), CLASSES, mean, std),
        images[:train],
        labels[:train],
        images[train:],
        labels[train:],
    )
