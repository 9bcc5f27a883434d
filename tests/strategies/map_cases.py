"""The maps once more, independent of the library: slopes, float64 orbits, closed forms and float32 runs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from edl_jax.strategies import maps

GAUSS_KUZMIN_MEAN = 1.0 / math.log(2.0) - 1.0

# (step, derivative) of the maps of the line at their standard parameter, for either array library xp.
MAPS = {
    "chebyshev": (lambda x, xp: 8 * x**4 - 8 * x**2 + 1, lambda x, xp: 32 * x**3 - 16 * x),
    "gauss": (lambda x, xp: (1 / x) % 1, lambda x, xp: 1 / x**2),
    "logistic": (lambda x, xp: 4 * x * (1 - x), lambda x, xp: 4 - 8 * x),
    "mouse": (lambda x, xp: xp.exp(-6.2 * x**2) - 0.5, lambda x, xp: -12.4 * x * xp.exp(-6.2 * x**2)),
    "sine": (lambda x, xp: xp.sin(math.pi * x), lambda x, xp: math.pi * xp.cos(math.pi * x)),
    "tent": (lambda x, xp: 2 * xp.minimum(x, 1 - x), lambda x, xp: 2 + 0 * x),
}
# Quantile functions and exponents in closed form.
LAWS = {
    "chebyshev": (stats.beta(0.5, 0.5, -1, 2).ppf, math.log(4.0)),
    "gauss": (lambda u: 2.0**u - 1.0, math.pi**2 / (6.0 * math.log(2.0))),
    "logistic": (stats.beta(0.5, 0.5).ppf, math.log(2.0)),
    "tent": (lambda u: u, math.log(2.0)),
}


def henon(state, vector):
    """Return (next state, next tangent vector) at a = 1.4."""
    (x, y), (u, v) = state, vector
    return (1 - 1.4 * x**2 + y, 0.3 * x), (-2.8 * x * u + v, 0.3 * u)


@functools.cache
def float64_law(name, orbits=2_000, steps=1_000):
    """Return (values of the invariant law `[steps, orbits]`, exponent), from float64 orbits where no closed form is."""
    rng = np.random.default_rng(123)
    if name in LAWS:
        quantile, exponent = LAWS[name]
        return quantile(rng.uniform(size=(steps, orbits))), exponent
    x = rng.uniform(0.01, 0.1, orbits)
    state, vector = (x, 0.3 * x), (np.ones(orbits), np.zeros(orbits))
    xs, growth = [], []
    for step in range(500 + steps):
        if name == "henon":
            state, vector = henon(state, vector)
            length = np.hypot(*vector)
            vector = vector[0] / length, vector[1] / length
        else:
            length = np.abs(MAPS[name][1](state[0], np))
            state = (MAPS[name][0](state[0], np),)
        if step >= 500:
            xs.append(state[0])
            growth.append(np.log(length))
    return np.asarray(xs), np.mean(growth)


def log_growth(name, state, vector):
    """Return (log growth of a tangent vector, the vector) of float32 states before a step, for JAX arrays."""
    if name == "henon":
        vector = henon(state, vector)[1]
        length = jnp.hypot(*vector)
        return jnp.log(length), (vector[0] / length, vector[1] / length)
    slope = jnp.abs(MAPS[name][1](state, jnp))
    return jnp.log(jnp.maximum(slope, 1e-7)), vector


def emit(name, steps, control="none", orbits=512):
    """Return (log growth `[steps, orbits]`, noise `[steps, orbits]`) of orbits as `advance` makes them, float32."""
    chaotic = maps.get(name, control=control)

    def advance(carry, key):
        state, vector = carry
        growth, vector = (jnp.zeros(orbits), vector) if control == "independent" else log_growth(name, state, vector)
        state = chaotic.advance(key, state)
        return (state, vector), (growth, chaotic.noise(state))

    @jax.jit
    def run(key):
        state = chaotic.init(jax.random.fold_in(key, 1), (orbits,))
        start = state, (jnp.ones(orbits), jnp.zeros(orbits))
        return jax.lax.scan(advance, start, jax.random.split(key, steps))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(0)))


def moments(noise):
    """Return (mean, variance, mean product with the step before) of standard noise `[steps, orbits]`."""
    mean = np.mean(noise, dtype=np.float64)
    return (
        mean,
        np.mean(np.square(noise), dtype=np.float64) - mean**2,
        np.mean(noise[1:] * noise[:-1], dtype=np.float64),
    )
