"""A linear classifier on random convolutional features: a student for a hundredth of the price of a network."""

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.search.split import Images
from edl_jax.search.students import layers
from edl_jax.search.students.base import Inputs, Params, Stats, Student
from edl_jax.search.students.layers import Tap

_FILTERS, _SIZE, _POOLED = 128, 5, 4
_CHUNK = 128  # images whose features are computed at once
_FITTED = 5000  # images that the standardisation is measured on, at most


def linear(images: Images, sample: np.ndarray, seed: int = 0) -> Student:
    """Return the student: 128 random 5x5 filters, tanh, means of 4x4 regions, standardised; one dense layer.

    Its `embed` computes the 2,048 features, divided by the root of their number, so that a learning rate near 1 suits.

    Args:
      images: what the data set is like.
      sample: `[N, H, W, channels]` uint8 training images, which the features are standardised on.
      seed: of the filters.
    """
    images.check_side(_SIZE + _POOLED - 1, "linear")
    height, width, channels = images.shape
    features = _FILTERS * _POOLED * _POOLED
    key_kernel, key_bias = jax.random.split(jax.random.key(seed))
    scale = (_SIZE * _SIZE * channels) ** -0.5
    kernel = scale * jax.random.normal(key_kernel, (_SIZE, _SIZE, channels, _FILTERS))
    bias = jax.random.uniform(key_bias, (_FILTERS,), minval=-1.0, maxval=1.0)
    # Regions of one size; what four of them leave over is cut around them.
    sides = [(side - _SIZE + 1) // _POOLED for side in (height, width)]
    tops = [(side - _SIZE + 1 - _POOLED * region) // 2 for side, region in zip((height, width), sides, strict=True)]

    rows, columns = (slice(top, top + _POOLED * side + _SIZE - 1) for top, side in zip(tops, sides, strict=True))
    matrix = kernel.reshape(-1, _FILTERS).T

    @jax.jit
    def responses(batch: jax.Array) -> jax.Array:
        found = layers.patches(layers.planes(images.normalise(batch))[:, rows, columns], _SIZE)
        found = found.reshape(-1, _POOLED, sides[0], _POOLED, sides[1], len(batch)).transpose(2, 4, 0, 1, 3, 5)
        found = found.reshape(sides[0] * sides[1], matrix.shape[1], -1)

        def add(i: jax.Array, total: jax.Array) -> jax.Array:
            return total + jnp.tanh(matrix @ found[i] + bias[:, None])

        # One pixel of each region after another: all at once would not fit in a CPU's cache.
        total = jax.lax.fori_loop(0, len(found), add, jnp.zeros((_FILTERS, found.shape[2])))
        return (total / len(found)).reshape(features, -1).T

    def raw(batch: np.ndarray) -> np.ndarray:
        found = np.empty((len(batch), features), np.float32)
        for start in range(0, len(batch), _CHUNK):
            chunk = np.asarray(batch[start : start + _CHUNK])
            padded = np.pad(chunk, [(0, _CHUNK - len(chunk)), (0, 0), (0, 0), (0, 0)])
            found[start : start + _CHUNK] = responses(padded)[: len(chunk)]
        return found

    fitted = raw(sample[:_FITTED])
    mean, factor = fitted.mean(0), np.float32(features**-0.5) / (fitted.std(0) + np.float32(1e-6))

    def embed(batch: np.ndarray) -> np.ndarray:
        found = raw(batch)
        found -= mean
        found *= factor
        return found

    def init(key: jax.Array) -> tuple[Params, Stats]:
        return {"head": layers.Affine(jnp.zeros((features, images.num_classes)), jnp.zeros(images.num_classes))}, {}

    def prepare(batch: jax.Array, key: jax.Array | None) -> Inputs:
        return batch.T

    def apply(params: Params, stats: Stats, x: Inputs, train: bool, tap: Tap) -> tuple[jax.Array, Stats]:
        return tap("head", params["head"], x, layers.dense(params["head"], x)).T, stats

    return Student("linear", images.num_classes, init, prepare, apply, embed, lr=0.5, tangent_kernel=True)
