"""Constants of a map from float64 orbits, and the refusal of parameters without chaos."""

import dataclasses

import jax
import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.strategies.maps.formulas import FAMILIES, Formula, State
from edl_jax.strategies.maps.law import Law, tabulated

ORBITS, TRANSIENT, STEPS = 512, 1_000, 4_000
# Below this exponent, orbits of this length are not told from periodic ones.
MIN_LYAPUNOV = 0.02
# Beyond this an orbit is on its way to infinity.
_FAR = 1e3


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """What is known of a map.

    Attributes:
      law: the invariant law of the first coordinate.
      lyapunov: Lyapunov exponent per step, in nats.
      autocorrelation: correlation of successive values.
      starts: states of the law, leaves `[n]` float32; None if the law is known in closed form.
    """

    law: Law
    lyapunov: float
    autocorrelation: float
    starts: State | None = None


def measure(formula: Formula) -> Measured:
    """Return a map's constants: closed forms, else measured on 512 float64 orbits of 4,000 steps.

    Raises:
      UserError: no chaos at this parameter, or orbits that leave for infinity.
    """
    if formula.law is not None and formula.lyapunov is not None and formula.autocorrelation is not None:
        return Measured(formula.law, formula.lyapunov, formula.autocorrelation)
    with np.errstate(all="ignore"):
        history, exponents = _follow(formula)
    x = jax.tree.leaves(history)[0]
    standard = FAMILIES[formula.name].standard
    if not np.all(np.abs(x) < _FAR):
        raise UserError(f"{formula.name} map: at r = {formula.r:g} orbits leave for infinity: choose r = {standard:g}")
    if formula.lyapunov is not None:
        exponents[:] = formula.lyapunov
    lyapunov, lowest = float(np.mean(exponents)), float(np.min(exponents))
    if lyapunov < MIN_LYAPUNOV or lowest <= 0.0:
        raise UserError(
            f"{formula.name} map: r = {formula.r:g} lies in a periodic window or at its edge "
            f"(smallest Lyapunov exponent {lowest:.3f}): choose a chaotic r, such as {standard:g}"
        )
    # The dither blurs the law's ends.
    history = formula.disturb(history, np.random.default_rng(1).uniform(-1.0, 1.0, x.shape))
    x = jax.tree.leaves(history)[0]
    law = tabulated(x)
    centred = x - law.mean
    autocorrelation = float(np.mean(centred[1:] * centred[:-1])) / law.std**2
    # States of all times: orbits of a map with bands share a rhythm.
    starts = jax.tree.map(lambda leaf: leaf[:: STEPS // 32].ravel().astype(np.float32), history)
    return Measured(law, lyapunov, autocorrelation, starts)


def _follow(formula: Formula) -> tuple[State, np.ndarray]:
    """Return (states, leaves `[STEPS, ORBITS]`; Lyapunov exponents `[ORBITS]`, 0 without a tangent)."""
    state = formula.start(np.random.default_rng(0), ORBITS)
    for _ in range(TRANSIENT):
        state = formula.step(state)
    history = jax.tree.map(lambda leaf: np.empty((STEPS, ORBITS)), state)
    rows = jax.tree.leaves(history)
    vector = jax.tree.map(np.ones_like, state)
    growth = np.zeros(ORBITS)
    for i in range(STEPS):
        if formula.tangent is not None:
            vector = formula.tangent(state, vector)
            length = np.maximum(np.max(np.abs(jax.tree.leaves(vector)), axis=0), 1e-300)
            growth += np.log(length)
            vector = jax.tree.map(lambda leaf, length=length: leaf / length, vector)
        state = formula.step(state)
        for row, leaf in zip(rows, jax.tree.leaves(state), strict=True):
            row[i] = leaf
    return history, growth / STEPS
