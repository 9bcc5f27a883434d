"""LeNet-5 as loss searches train it (EvoMAL, ML3): tanh, average pooling, Xavier."""

import jax
import jax.numpy as jnp

from edl_jax.search.split import Images
from edl_jax.search.students import layers
from edl_jax.search.students.base import Inputs, Params, Stats, Student
from edl_jax.search.students.layers import Tap

_SIDE = 32  # the field of the original network, in which its 28x28 digits were centred


def lenet5(images: Images) -> Student:
    """Return the student: two 5x5 convolutions of 6 and 16 filters, dense layers of 120 and 84.

    Images with a side below 32 pixels are zero-padded to 32; the last row or column of a larger odd one meets no
    window.
    """
    channels, classes = images.shape[2], images.num_classes
    sides = [max(side - side % 2, _SIDE) for side in images.shape[:2]]
    missing = [max(want - have, 0) for want, have in zip(sides, images.shape[:2], strict=True)]
    pads = [(count // 2, count - count // 2) for count in missing]
    # What pooling leaves over at an odd side is cut before the convolution.
    once = [(side - 4) // 2 for side in sides]
    even = [side - side % 2 for side in once]
    twice = [(side - 4) // 2 for side in even]

    def init(key: jax.Array) -> tuple[Params, Stats]:
        keys = jax.random.split(key, 5)
        return {
            "conv1": layers.xavier(keys[0], 5, 5, channels, 6),
            "conv2": layers.xavier(keys[1], 5, 5, 6, 16),
            "dense1": layers.xavier(keys[2], 16 * twice[0] * twice[1], 120),
            "dense2": layers.xavier(keys[3], 120, 84),
            "head": layers.xavier(keys[4], 84, classes),
        }, {}

    def prepare(batch: jax.Array, key: jax.Array | None) -> Inputs:
        x = layers.planes(images.normalise(batch))
        return layers.windows(jnp.pad(x[:, : sides[0], : sides[1]], ((0, 0), *pads, (0, 0))), 5)

    def apply(params: Params, stats: Stats, found: Inputs, train: bool, tap: Tap) -> tuple[jax.Array, Stats]:
        count = found.shape[-1]

        def pooled(name: str, found: jax.Array) -> jax.Array:
            y = tap(name, params[name], found, layers.conv_windows(params[name], found))
            return layers.mean_of_windows(jnp.tanh(y))

        def dense(name: str, x: jax.Array) -> jax.Array:
            return tap(name, params[name], x, layers.dense(params[name], x))

        x = pooled("conv1", found).reshape(6, *once, count)[:, : even[0], : even[1]]
        x = pooled("conv2", layers.windows(x, 5)).reshape(-1, count)
        x = jnp.tanh(dense("dense1", x))
        x = jnp.tanh(dense("dense2", x))
        return dense("head", x).T, stats

    return Student("lenet5", classes, init, prepare, apply, tangent_kernel=True)
