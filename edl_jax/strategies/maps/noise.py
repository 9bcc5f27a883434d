"""Noise sources from chaotic maps: the orbit and two controls that separate chaos from the shape of its law."""

import math

import jax
import jax.numpy as jnp

from edl_jax.strategies.maps import dither
from edl_jax.strategies.maps.formulas import Formula, State
from edl_jax.strategies.maps.orbits import Measured


class ChaoticMap:
    """Noise of zero mean and unit variance from one independent chaotic orbit per element.

    Attributes:
      name: registry name of the map.
      r: its parameter, None if it has none.
      control: `none`; subclasses are the controls.
      step: the map, state -> state, elementwise, for JAX and NumPy arrays.
      mean: mean of the (first) coordinate under the invariant law.
      std: its standard deviation.
      lyapunov: Lyapunov exponent per step, in nats; None without an orbit.
      autocorrelation: correlation of successive states.
    """

    control = "none"

    def __init__(self, formula: Formula, measured: Measured):
        self.name = formula.name
        self.r = formula.r
        self.step = formula.step
        self.mean = measured.law.mean
        self.std = measured.law.std
        self.lyapunov: float | None = measured.lyapunov
        self.autocorrelation = measured.autocorrelation
        self._law = measured.law
        self._starts = measured.starts
        self._disturb = formula.disturb
        # Orbits that share a start have parted when the dither has grown to the size of the law.
        self._burn_in = 0 if measured.starts is None else 16 + math.ceil(-math.log(dither.ADDED) / measured.lyapunov)

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> State:
        """Return independent states drawn from the invariant law: float32 leaves of the given shape."""
        start_key, orbit_key = jax.random.split(key)
        if self._starts is None:
            return self._law.quantile(jax.random.uniform(start_key, shape, jnp.float32))
        count = jax.tree.leaves(self._starts)[0].size
        chosen = jax.random.randint(start_key, shape, 0, count)
        state = jax.tree.map(lambda starts: jnp.asarray(starts)[chosen], self._starts)
        return jax.lax.fori_loop(
            0, self._burn_in, lambda i, x: self.advance(jax.random.fold_in(orbit_key, i), x), state
        )

    def advance(self, key: jax.Array, state: State) -> State:
        """Return the next states: the map, then the dither."""
        return self._disturb(self.step(state), dither.draw(key, _first(state).shape))

    def noise(self, state: State) -> jax.Array:
        """Return psi(x): the states as noise of zero mean and unit variance, float32."""
        return (_first(state) - self.mean) * (1.0 / self.std)


class IndependentDraws(ChaoticMap):
    """The map's law without its memory: fresh independent draws at every step."""

    control = "independent"

    def __init__(self, formula: Formula, measured: Measured):
        super().__init__(formula, measured)
        self.lyapunov = None
        self.autocorrelation = 0.0

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> State:
        """Return independent draws from the invariant law, float32."""
        return self._law.quantile(jax.random.uniform(key, shape, jnp.float32))

    def advance(self, key: jax.Array, state: State) -> State:
        """Return other independent draws."""
        return self.init(key, state.shape)


class NormalMarginals(ChaoticMap):
    """The map's orbit without its law: mapped to the normal quantile of its rank, so that every marginal is N(0, 1).

    The autocorrelation is that of the orbit before the mapping.
    """

    control = "normal_marginals"

    def noise(self, state: State) -> jax.Array:
        """Return the normal quantiles of the states' ranks, float32."""
        return self._law.normal(_first(state))


CONTROLS: dict[str, type[ChaoticMap]] = {kind.control: kind for kind in (ChaoticMap, IndependentDraws, NormalMarginals)}


def _first(state: State) -> jax.Array:
    """Return the coordinate that is the noise."""
    return jax.tree.leaves(state)[0]
