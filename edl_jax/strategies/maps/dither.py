"""The small disturbance that keeps float32 orbits alive.

Undisturbed float32 orbits die or merge: of the logistic map's (r = 4) 18.6 % are exactly 0 after 20,000 steps, the
tent map's (slope 2) are 0 after 27, and the Chebyshev map's stick at 1. A dither at each step prevents all three and
needs no search for orbits that died, so none is ever re-seeded.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

# Of JAX or NumPy.
Array = Any
# Half-width of an added dither: 16 units in the last place of a float32 near 1.
ADDED = 2.0**-20
# Half-width of a dither of the angle, in radians. The float32 next to 1 is cos(3.5e-4): less sticks at 1.
TURNED = 2.0**-10


def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return independent uniform numbers in (-1, 1), never 0, float32 of the given shape.

    Random bits are most of the cost of a step, so two numbers share a word of 32 bits.
    """
    size = math.prod(shape)
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    integers = jax.lax.bitcast_convert_type(words, jnp.int16).reshape(-1)[:size].reshape(shape)
    return integers.astype(jnp.float32) * 2.0**-15 + 2.0**-16


def add(x: Array, d: Array) -> Array:
    """Return x + ADDED d."""
    return x + ADDED * d


def add_in_unit(x: Array, d: Array) -> Array:
    """Return x + ADDED d, reflected into [0, 1], which keeps the uniform law exactly."""
    size = abs(add(x, d))
    return x.__array_namespace__().minimum(size, 2.0 - size)


def turn_in_unit(x: Array, d: Array) -> Array:
    """Return sin^2(a + TURNED d) for x = sin^2(a), to second order, which keeps the arcsine law on [0, 1].

    Adding to x would empty the law's peak at 0, where orbits leave a fixed point, and give the noise a mean of 6e-4.
    """
    xp, d = x.__array_namespace__(), TURNED * d
    return xp.clip(x + (1.0 - 2.0 * x) * d * d + 2.0 * d * xp.sqrt(xp.maximum(x * (1.0 - x), 0.0)), 0.0, 1.0)


def turn(x: Array, d: Array) -> Array:
    """Return cos(a + TURNED d) for x = cos(a), to second order, which keeps the arcsine law on [-1, 1]."""
    xp, d = x.__array_namespace__(), TURNED * d
    return xp.clip(x - 0.5 * x * d * d - d * xp.sqrt(xp.maximum(1.0 - x * x, 0.0)), -1.0, 1.0)
