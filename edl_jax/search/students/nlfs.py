"""The two small networks that NLFS (Morgan and Hougen 2024, arXiv 2403.08793) trains with its losses."""

import jax
import jax.numpy as jnp

from edl_jax.search.split import Images
from edl_jax.search.students import layers
from edl_jax.search.students.base import Inputs, Params, Stats, Student
from edl_jax.search.students.layers import Tap

DROPOUT = {"convnet": 0.1, "resnet9v2": 0.5}
"""Name -> share of the last features that dropout, where it is on, takes away."""


def _prepare(images: Images, features: int, rate: float, batch: jax.Array, key: jax.Array | None) -> Inputs:
    """Return planes, and what dropout multiplies the `features` by: the same for all candidates."""
    count, kept = batch.shape[0], 1.0 - rate
    shape = (features, count)
    mask = jnp.ones(shape) if key is None else jax.random.bernoulli(key, kept, shape) / kept
    return layers.planes(images.normalise(batch)), mask


def convnet(images: Images) -> Student:
    """Return ConvNet: 3x3 convolutions of 12, 24 and 48 filters, the last two of stride 2; normalisation, swish."""
    filters, strides, rate = (12, 24, 48), (1, 2, 2), DROPOUT["convnet"]
    inputs = (images.shape[2], *filters[:-1])

    def init(key: jax.Array) -> tuple[Params, Stats]:
        keys = jax.random.split(key, len(filters) + 1)
        params: Params = {"head": layers.xavier(keys[-1], filters[-1], images.num_classes)}
        for i, (before, after) in enumerate(zip(inputs, filters, strict=True)):
            params[f"conv{i + 1}"] = layers.xavier(keys[i], 3, 3, before, after)
            params[f"norm{i + 1}"] = layers.ones_and_zeros(after)
        return params, {f"norm{i + 1}": layers.ones_and_zeros(after) for i, after in enumerate(filters)}

    def prepare(batch: jax.Array, key: jax.Array | None) -> Inputs:
        return _prepare(images, filters[-1], rate, batch, key)

    def apply(params: Params, stats: Stats, inputs: Inputs, train: bool, tap: Tap) -> tuple[jax.Array, Stats]:
        x, mask = inputs
        new = {}
        for i, stride in enumerate(strides):
            name = f"norm{i + 1}"
            x = layers.conv(params[f"conv{i + 1}"], x, stride, 1)
            x, new[name] = layers.batch_norm(params[name], stats[name], x, train)
            x = jax.nn.swish(x)
        return layers.dense(params["head"], layers.global_mean(x) * mask).T, new

    return Student("convnet", images.num_classes, init, prepare, apply)


def resnet9v2(images: Images) -> Student:
    """Return ResNet9v2: a convolution of 8 filters and two pre-activation blocks of 16 and 32.

    A block is three times normalisation, swish and a 3x3 convolution, the first of stride 2, beside a 1x1 convolution
    of stride 2.
    """
    filters, rate = (16, 32), DROPOUT["resnet9v2"]
    first = 8
    inputs = (first, *filters[:-1])

    def init(key: jax.Array) -> tuple[Params, Stats]:
        keys = iter(jax.random.split(key, 2 + 4 * len(filters)))
        params: Params = {
            "conv": layers.xavier(next(keys), 3, 3, images.shape[2], first),
            "head": layers.xavier(next(keys), filters[-1], images.num_classes),
        }
        stats: Stats = {}
        for i, (before, after) in enumerate(zip(inputs, filters, strict=True)):
            params[f"skip{i}"] = layers.xavier(next(keys), 1, 1, before, after)
            for j, channels in enumerate((before, after, after)):
                params[f"conv{i}{j}"] = layers.xavier(next(keys), 3, 3, channels, after)
                params[f"norm{i}{j}"] = stats[f"norm{i}{j}"] = layers.ones_and_zeros(channels)
        return params, stats

    def prepare(batch: jax.Array, key: jax.Array | None) -> Inputs:
        return _prepare(images, filters[-1], rate, batch, key)

    def apply(params: Params, stats: Stats, inputs: Inputs, train: bool, tap: Tap) -> tuple[jax.Array, Stats]:
        x, mask = inputs
        new = {}
        x = layers.conv(params["conv"], x, 1, 1)
        for i in range(len(filters)):
            skip = layers.conv(params[f"skip{i}"], x, 2)
            for j in range(3):
                name = f"norm{i}{j}"
                x, new[name] = layers.batch_norm(params[name], stats[name], x, train)
                x = layers.conv(params[f"conv{i}{j}"], jax.nn.swish(x), 2 if j == 0 else 1, 1)
            x = x + skip
        return layers.dense(params["head"], layers.global_mean(x) * mask).T, new

    return Student("resnet9v2", images.num_classes, init, prepare, apply)
