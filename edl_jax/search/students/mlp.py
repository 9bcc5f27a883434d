"""Multilayer perceptrons on images or tables: EvoMAL's, of two layers of 1,000, and a small one."""

import itertools
from collections.abc import Callable

import jax

from edl_jax.search.split import Images
from edl_jax.search.students import layers
from edl_jax.search.students.base import Inputs, Params, Stats, Student
from edl_jax.search.students.layers import Tap
from edl_jax.search.tasks import CLASSIFICATION, REGRESSION, Task

LARGE = (1000, 1000)
"""Units of the hidden layers of EvoMAL's."""
SMALL = (64, 64)
"""Units of those of the small one."""


def mlp(images: Images, name: str = "mlp", hidden: tuple[int, ...] = LARGE) -> Student:
    """Return the student: dense ReLU layers on pixels, Xavier."""
    height, width, channels = images.shape

    def prepare(batch: jax.Array, key: jax.Array | None) -> Inputs:
        return images.normalise(batch).reshape(batch.shape[0], -1).T

    return _layers(name, (height * width * channels, *hidden, images.num_classes), prepare, CLASSIFICATION)


def regressor(features: int, name: str = "mlp", hidden: tuple[int, ...] = LARGE) -> Student:
    """Return the student: the same layers on rows of `features` standardised numbers, one output."""
    return _layers(name, (features, *hidden, 1), lambda batch, key: batch.T, REGRESSION)


def _layers(
    name: str, sizes: tuple[int, ...], prepare: Callable[[jax.Array, jax.Array | None], Inputs], task: Task
) -> Student:
    hidden = sizes[1:-1]
    names = (*(f"dense{i + 1}" for i in range(len(hidden))), "head")

    def init(key: jax.Array) -> tuple[Params, Stats]:
        keys = jax.random.split(key, len(names))
        shapes = itertools.pairwise(sizes)
        return {n: layers.xavier(k, *shape) for n, k, shape in zip(names, keys, shapes, strict=True)}, {}

    def apply(params: Params, stats: Stats, x: Inputs, train: bool, tap: Tap) -> tuple[jax.Array, Stats]:
        for name in names:
            x = tap(name, params[name], x, layers.dense(params[name], x))
            if name != "head":
                x = jax.nn.relu(x)
        return x.T, stats

    return Student(name, sizes[-1], init, prepare, apply, tangent_kernel=True, task=task)
