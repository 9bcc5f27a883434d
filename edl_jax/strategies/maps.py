"""Chaotic maps: the noise of a chaotic evolution strategy.

A map x' = f(x) with a positive Lyapunov exponent has an invariant law; `(x - mean) / std` under that law is
noise of zero mean and unit variance. In float32 an undisturbed orbit dies or merges with others (logistic,
r = 4: 18.6 % of orbits exactly 0 after 20,000 steps), so each step adds a dither far below the noise's
resolution and reflects the state back into the unit interval.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.errors import UserError, unknown

# Half-width of the uniform dither: 16 units in the last place of a float32 near 1.
DITHER = 2.0**-20
# Steps after which a start from another law has forgotten it.
_BURN_IN = 256


@dataclasses.dataclass(frozen=True)
class ChaoticMap:
    """A map of the unit interval with its constants.

    Attributes:
      name: registry name.
      step: f, elementwise, written for JAX and NumPy arrays alike.
      mean: mean of x under the invariant law.
      std: standard deviation of x under the invariant law.
      lyapunov: Lyapunov exponent per step, in nats.
    """

    name: str
    step: Callable
    mean: float
    std: float
    lyapunov: float

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Return independent states of the given shape, float32, drawn from the invariant law."""
        start_key, orbit_key = jax.random.split(key)
        x = jnp.square(jnp.sin(0.5 * math.pi * jax.random.uniform(start_key, shape, jnp.float32)))

        def body(i: jax.Array, x: jax.Array) -> jax.Array:
            return self.advance(jax.random.fold_in(orbit_key, i), x)

        return jax.lax.fori_loop(0, _BURN_IN, body, x)

    def advance(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Return the next states: the map, then the dither, reflected into [0, 1]."""
        x = self.step(x) + jax.random.uniform(key, x.shape, x.dtype, -DITHER, DITHER)
        return 1.0 - jnp.abs(1.0 - jnp.abs(x))

    def noise(self, x: jax.Array) -> jax.Array:
        """Return psi(x): the states as noise of zero mean and unit variance."""
        return (x - self.mean) * (1.0 / self.std)


def logistic(r: float = 4.0) -> ChaoticMap:
    """Return the logistic map r x (1 - x) (May 1976), on [0, 1].

    At r = 4 the invariant law is the arcsine law: mean 1/2, variance 1/8, exponent ln 2. Elsewhere the
    constants are computed from float64 orbits.

    Raises:
      UserError: r outside (0, 4], or in a periodic window (exponent not positive).
    """
    if not 0.0 < r <= 4.0:
        raise UserError(f"logistic map: r is {r}, expected 0 < r <= 4")

    def step(x: jax.Array) -> jax.Array:
        return r * x * (1.0 - x)

    if r == 4.0:
        return ChaoticMap("logistic", step, 0.5, math.sqrt(0.125), math.log(2.0))
    mean, std, lyapunov = _orbit_constants(step, lambda x: r * (1.0 - 2.0 * x))
    if lyapunov <= 0.0:
        raise UserError(
            f"logistic map: r = {r} lies in a periodic window (Lyapunov exponent {lyapunov:.3f}): "
            "choose a chaotic r, such as 4 or 3.99"
        )
    return ChaoticMap("logistic", step, mean, std, lyapunov)


def _orbit_constants(step: Callable, slope: Callable) -> tuple[float, float, float]:
    """Return (mean, std, Lyapunov exponent) of a map from 512 float64 orbits of 4,000 steps."""
    x = np.random.default_rng(0).uniform(0.05, 0.95, 512)
    for _ in range(2_000):
        x = step(x)
    total, square, log_slope, count = 0.0, 0.0, 0.0, 4_000
    for _ in range(count):
        x = step(x)
        total += float(np.mean(x))
        square += float(np.mean(x * x))
        log_slope += float(np.mean(np.log(np.maximum(np.abs(slope(x)), 1e-300))))
    mean = total / count
    return mean, math.sqrt(max(square / count - mean * mean, 1e-12)), log_slope / count


MAPS: dict[str, Callable[..., ChaoticMap]] = {"logistic": logistic}


def get(name: str, **parameters: float) -> ChaoticMap:
    """Return the map of a registry name.

    Raises:
      UserError: unknown name, or parameters that the map refuses.
    """
    if name not in MAPS:
        raise unknown("chaotic map", name, MAPS)
    return MAPS[name](**parameters)
