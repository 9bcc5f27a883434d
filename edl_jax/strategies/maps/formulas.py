"""The maps: formula, parameter, source, and what is known of them in closed form.

The formulas serve JAX (float32) and NumPy (float64, to measure constants) alike; r names the parameter of each.
Correlations are of successive noise; None where `orbits` measures a constant.

[1] May, Nature 261, 1976, 459: the logistic map.
[2] Ott, Chaos in Dynamical Systems, 2002, chapter 2: tent map, arcsine and uniform laws, exponents.
[3] Khinchin, Continued Fractions, 1964, chapter 3: the Gauss map and its law.
[4] Hilborn, Chaos and Nonlinear Dynamics, 2000, section 5: the Gaussian ("mouse") map.
[5] Henon, Communications in Mathematical Physics 50, 1976, 69.
[6] Adler, Rivlin, Proceedings of the AMS 15, 1964, 794: Chebyshev polynomials are mixing.
[7] Pei, Chaotic Evolution, The Scientific World Journal 2015, 704587: logistic, tent, mouse and Henon in a search.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from edl_jax.strategies.maps import dither
from edl_jax.strategies.maps.law import Law, arcsine, arcsine_in_unit, gauss_kuzmin, sin_pi, uniform

# An array of one value per orbit, or a tuple of two for a map of the plane.
State = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Formula:
    """A map at one value of its parameter.

    Attributes:
      name: registry name.
      r: the parameter, None if the map has none.
      step: state -> next state, elementwise, for JAX and NumPy arrays.
      disturb: (state, uniform numbers in (-1, 1)) -> state with its dither, for JAX and NumPy arrays.
      start: (NumPy generator, n) -> n states, float64, from which orbits find the attractor.
      tangent: (state, vector) -> the vector after the derivative of step, NumPy; None with a known exponent.
      law: the invariant law, None to have it measured.
      lyapunov: Lyapunov exponent per step, in nats, None to have it measured.
      autocorrelation: correlation of successive values, None to have it measured.
    """

    name: str
    r: float | None
    step: Callable[[State], State]
    disturb: Callable[[State, jax.Array], State]
    start: Callable[[np.random.Generator, int], State] = lambda rng, n: rng.uniform(0.05, 0.95, n)
    tangent: Callable[[State, State], State] | None = None
    law: Law | None = None
    lyapunov: float | None = None
    autocorrelation: float | None = None


def logistic(r: float) -> Formula:
    """Return r x (1 - x) on [0, 1] [1]; at r = 4 the arcsine law, exponent ln 2, uncorrelated [2]."""

    def step(x: State) -> State:
        return r * x * (1.0 - x)

    if r == 4.0:
        law, exponent = arcsine_in_unit(), math.log(2.0)
        return Formula("logistic", r, step, dither.turn_in_unit, law=law, lyapunov=exponent, autocorrelation=0.0)
    return Formula("logistic", r, step, dither.add_in_unit, tangent=lambda x, v: r * (1.0 - 2.0 * x) * v)


def tent(r: float) -> Formula:
    """Return r min(x, 1 - x) on [0, 1], exponent ln r; at r = 2 the uniform law, uncorrelated [2].

    Correlation -0.80 at r = 1.5. At r <= sqrt(2) orbits visit two or more bands in turn.
    """

    def step(x: State) -> State:
        return r * x.__array_namespace__().minimum(x, 1.0 - x)

    if r == 2.0:
        law, exponent = uniform(), math.log(2.0)
        return Formula("tent", r, step, dither.add_in_unit, law=law, lyapunov=exponent, autocorrelation=0.0)
    return Formula("tent", r, step, dither.add_in_unit, lyapunov=math.log(r))


def gauss(r: None) -> Formula:
    """Return frac(1/x) on [0, 1], the map of continued fractions [3]: exponent pi^2 / (6 ln 2).

    The correlation follows from E[x frac(1/x)] = sum_n ((n + 1) ln((n + 1)^2 / (n (n + 2))) - 1/(n + 1)) / ln 2.
    """

    def step(x: State) -> State:
        xp = x.__array_namespace__()
        inverse = 1.0 / xp.maximum(x, 1e-30)
        return inverse - xp.floor(inverse)

    exponent = math.pi**2 / (6.0 * math.log(2.0))
    return Formula("gauss", r, step, dither.add_in_unit, law=gauss_kuzmin(), lyapunov=exponent, autocorrelation=-0.3474)


def mouse(r: float) -> Formula:
    """Return exp(-r x^2) - 1/2 [4], [7]; at r = 6.2 exponent 0.38, correlation -0.71."""

    def bell(x: State) -> State:
        return x.__array_namespace__().exp(-r * x * x)

    return Formula(
        "mouse",
        r,
        lambda x: bell(x) - 0.5,
        dither.add,
        start=lambda rng, n: rng.uniform(-0.4, 0.4, n),
        tangent=lambda x, v: -2.0 * r * x * bell(x) * v,
    )


def henon(r: float) -> Formula:
    """Return x' = 1 - r x^2 + y, y' = 0.3 x [5], whose first coordinate is the noise.

    At r = 1.4 exponent 0.42, correlation -0.31. Orbits start inside the attractor's basin.
    """

    def step(state: State) -> State:
        x, y = state
        return 1.0 - r * x * x + y, 0.3 * x

    def tangent(state: State, vector: State) -> State:
        return -2.0 * r * state[0] * vector[0] + vector[1], 0.3 * vector[0]

    def disturb(state: State, d: jax.Array) -> State:
        return dither.add(state[0], d), state[1]

    def start(rng: np.random.Generator, n: int) -> State:
        return rng.uniform(-0.1, 0.1, n), rng.uniform(-0.1, 0.1, n)

    return Formula("henon", r, step, disturb, start, tangent)


def sine(r: float) -> Formula:
    """Return r sin(pi x) on [0, 1]; at r = 1 exponent 0.69, correlation 0.06."""

    def step(x: State) -> State:
        return r * sin_pi(x.__array_namespace__().minimum(x, 1.0 - x))

    disturb = dither.turn_in_unit if r == 1.0 else dither.add_in_unit
    return Formula("sine", r, step, disturb, tangent=lambda x, v: r * math.pi * np.cos(math.pi * x) * v)


def chebyshev(r: float) -> Formula:
    """Return cos(r arccos x) on [-1, 1], the polynomial of degree r [6]: arcsine law, exponent ln r, uncorrelated."""

    def step(x: State) -> State:
        previous, current = x, 2.0 * x * x - 1.0
        for _ in range(int(r) - 2):
            previous, current = current, 2.0 * x * current - previous
        return current

    return Formula("chebyshev", r, step, dither.turn, law=arcsine(), lyapunov=math.log(r), autocorrelation=0.0)


@dataclasses.dataclass(frozen=True)
class Family:
    """A map with its parameter open.

    Attributes:
      build: r -> Formula.
      standard: usual value of r, None for a map without a parameter.
      low: r lies above this.
      high: largest r.
      meaning: what r is.
      whole: whether r is a whole number.
    """

    build: Callable[[Any], Formula]
    standard: float | None = None
    low: float = 0.0
    high: float = math.inf
    meaning: str = ""
    whole: bool = False


FAMILIES: dict[str, Family] = {
    "chebyshev": Family(chebyshev, 4.0, 1.0, 8.0, "the degree", whole=True),
    "gauss": Family(gauss),
    "henon": Family(henon, 1.4, 0.0, 2.0, "a of 1 - a x^2 + y"),
    "logistic": Family(logistic, 4.0, 0.0, 4.0, "the factor of x (1 - x)"),
    "mouse": Family(mouse, 6.2, 0.0, 100.0, "alpha of exp(-alpha x^2) - 1/2"),
    "sine": Family(sine, 1.0, 0.0, 1.0, "the factor of sin(pi x)"),
    "tent": Family(tent, 2.0, 1.0, 2.0, "the slope"),
}
