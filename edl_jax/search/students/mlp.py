"""Multilayer perceptrons: EvoMAL's, of two layers of 1,000, and a small one."""

import itertools

import jax

from edl_jax.search.split import Images
from edl_jax.search.students import layers
from edl_jax.search.students.base import Inputs, Params, Stats, Student
from edl_jax.search.students.layers import Tap


def mlp(images: Images, name: str = "mlp", hidden: tuple[int, ...] = (1000, 1000)) -> Student:
    """Return the student: dense ReLU layers on pixels, Xavier."""
    height, width, channels = images.shape
    sizes = (height * width * channels, *hidden, images.num_classes)
    names = (*(f"dense{i + 1}" for i in range(len(hidden))), "head")

    def init(key: jax.Array) -> tuple[Params, Stats]:
        keys = jax.random.split(key, len(names))
        shapes = itertools.pairwise(sizes)
        return {n: layers.xavier(k, *shape) for n, k, shape in zip(names, keys, shapes, strict=True)}, {}

    def prepare(batch: jax.Array, key: jax.Array | None) -> Inputs:
        return images.normalise(batch).reshape(batch.shape[0], -1).T

    def apply(params: Params, stats: Stats, x: Inputs, train: bool, tap: Tap) -> tuple[jax.Array, Stats]:
        for name in names:
            x = tap(name, params[name], x, layers.dense(params[name], x))
            if name != "head":
                x = jax.nn.relu(x)
        return x.T, stats

    return Student(name, images.num_classes, init, prepare, apply, tangent_kernel=True)
