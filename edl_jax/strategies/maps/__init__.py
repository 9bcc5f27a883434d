"""Chaotic maps by name: the noise of a chaotic evolution strategy, and the controls to compare it with.

    maps.get("henon")                                   the orbit
    maps.get("henon", control="independent")            its law without its memory
    maps.get("henon", control="normal_marginals")       its memory without its law

`formulas` holds the maps, `dither` the disturbance that keeps float32 orbits alive, `orbits` what is measured in
float64, `law` distributions, `noise` the noise sources.
"""

import functools

from edl_jax.core.errors import choose, require
from edl_jax.strategies.maps.formulas import FAMILIES, Family
from edl_jax.strategies.maps.noise import CONTROLS, ChaoticMap
from edl_jax.strategies.maps.orbits import measure

__all__ = ["CONTROLS", "FAMILIES", "ChaoticMap", "get", "logistic", "names"]


def names() -> list[str]:
    """Return the names of the maps."""
    return sorted(FAMILIES)


def get(name: str, r: float | None = None, control: str = "none") -> ChaoticMap:
    """Return the noise source of a map.

    Args:
      name: one of `names()`.
      r: the map's parameter; None takes its standard value.
      control: `none` (the orbit), `independent` (independent draws of the same invariant law) or
        `normal_marginals` (the orbit, mapped through its distribution function to normal marginals).

    Raises:
      UserError: unknown name or control; r out of range, in a periodic window, or with orbits that leave.
    """
    name, control = choose("chaotic map", name, FAMILIES), choose("control", control, CONTROLS)
    return _build(name, _parameter(name, FAMILIES[name], r), control)


def logistic(r: float = 4.0) -> ChaoticMap:
    """Return the logistic map r x (1 - x)."""
    return get("logistic", r)


def _parameter(name: str, family: Family, r: float | None) -> float | None:
    if family.standard is None:
        require(r is None, f"{name} map: r is {r}, but this map has no parameter: leave r out")
        return None
    r = family.standard if r is None else float(r)
    expected = f"{family.low:g} < r <= {family.high:g}" if not family.whole else f"2 <= r <= {family.high:g}, whole"
    valid = family.low < r <= family.high and (not family.whole or r == int(r))
    require(valid, f"{name} map: r is {r:g}, expected {expected} (r is {family.meaning}, usually {family.standard:g})")
    return r


@functools.lru_cache(maxsize=64)
def _build(name: str, r: float | None, control: str) -> ChaoticMap:
    formula = FAMILIES[name].build(r)
    return CONTROLS[control](formula, measure(formula))
