"""The law of p_t under a mixture, in closed form, and a loss as a smooth function of it.

The true class of a Dirichlet distribution has a beta law, ln p_t of `log_uniform` is uniform, that of `designed` is
given by its quantiles. So the distribution function of a severity that is a function of p_t alone needs no sample,
and what is built on it has no noise in its slopes.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import interpolate, optimize, special

from edl_jax.synthetic.mixture import COMPONENTS, MixtureConfig, concentrations_of

Array = NDArray[np.float64]

# Severities that are a function of p_t alone: name -> (of ln p_t, its slope there, ln p_t of it).
OF_P_T: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array], Callable[[Array], Array]]] = {
    "error": (lambda x: -np.expm1(x), lambda x: -np.exp(x), lambda e: np.log1p(-np.minimum(e, 1.0 - 1e-16))),
    "nll": (lambda x: -x, lambda x: np.full_like(x, -1.0), lambda e: -e),
}
# ln p_t at which laws are looked at: dense near 0 on a logarithmic scale, and elsewhere on a linear one.
_GRID = -np.unique(np.concatenate([np.geomspace(1e-9, 80.0, 4001), np.linspace(1e-9, 80.0, 8001)]))[::-1]
_CLOSEST = -1e-7  # largest ln p_t that `designed` draws
_RARE = 4e-6  # share of the predictions beyond each end that is left out
_LEAST = 64  # points of the grid inside a law
_PARTS = 16  # of a bin, for its mean severity


@dataclasses.dataclass(frozen=True)
class Law:
    """The law of ln p_t under a mixture that has no atoms.

    Attributes:
      mixture: the mixture.
      num_classes: C.
    """

    mixture: MixtureConfig
    num_classes: int

    def rank(self, log_p: ArrayLike) -> Array:
        """Return the probability `[...]` of a p_t above exp(ln p_t) `[...]`: of a lower severity."""
        x = np.asarray(log_p, np.float64)
        return self._sum(x, self._beta_rank, self._uniform_rank, self._designed_rank)

    def density(self, log_p: ArrayLike) -> Array:
        """Return the density `[...]` of ln p_t at `[...]`."""
        x = np.asarray(log_p, np.float64)
        return self._sum(x, _beta_density, self._uniform_density, self._designed_density)

    def range(self) -> tuple[float, float]:
        """Return (lowest, highest) ln p_t between which all but a few in a million predictions lie."""
        low, high = self._inside()
        return self._at(1.0 - _RARE, low), self._at(_RARE, high)

    def is_wide(self) -> bool:
        """Return whether the law can be looked at on the grid of this module."""
        low, high = self._inside()
        return high - low >= _LEAST

    def _at(self, rank: float, after: int) -> float:
        """Return the ln p_t of a rank, between the points `after` - 1 and `after` of the grid."""
        if not 0 < after < len(_GRID):
            return float(_GRID[min(after, len(_GRID) - 1)])
        return float(optimize.brentq(lambda x: float(self.rank(x)) - rank, _GRID[after - 1], _GRID[after]))

    def _inside(self) -> tuple[int, int]:
        """Return the grid's first index of a rank below 1 - `_RARE`, and the first of one below `_RARE`."""
        low, high = np.searchsorted(-self.rank(_GRID), (_RARE - 1.0, -_RARE))
        return int(low), int(high)

    def _sum(self, x: Array, beta: Callable, uniform: Callable, designed: Callable) -> Array:
        total = np.zeros_like(x)
        for name, weight in zip(COMPONENTS, self.mixture.weights, strict=True):
            if weight == 0.0:
                continue
            if name == "log_uniform":
                total += weight * uniform(x)
            elif name == "designed":
                total += weight * designed(x)
            else:
                true, rival, other = concentrations_of(self.mixture, self.num_classes)[name]
                total += weight * beta(x, true, rival + (self.num_classes - 2) * other)
        return total

    @staticmethod
    def _beta_rank(x: Array, a: float, b: float) -> Array:
        return special.betainc(b, a, -np.expm1(np.minimum(x, 0.0)))

    def _uniform_rank(self, x: Array) -> Array:
        return np.clip(x / self.mixture.log_p_min, 0.0, 1.0)

    def _uniform_density(self, x: Array) -> Array:
        return np.where((x <= 0.0) & (x >= self.mixture.log_p_min), -1.0 / self.mixture.log_p_min, 0.0)

    def _designed_rank(self, x: Array) -> Array:
        knots = np.minimum(self.mixture.designed_log_p, _CLOSEST)
        return 1.0 - np.interp(x, knots, np.linspace(0.0, 1.0, len(knots)))

    def _designed_density(self, x: Array) -> Array:
        knots = np.minimum(self.mixture.designed_log_p, _CLOSEST)
        slopes = 1.0 / ((len(knots) - 1) * np.diff(knots))
        piece = np.clip(np.searchsorted(knots, x) - 1, 0, len(slopes) - 1)
        return np.where((x >= knots[0]) & (x <= knots[-1]), slopes[piece], 0.0)


def law_of(mixture: MixtureConfig, severity: str, num_classes: int) -> Law | None:
    """Return the law of p_t, or None where it decides no severity, has atoms, or is too narrow to be looked at."""
    if severity not in OF_P_T or num_classes < 2:
        return None
    knots = np.minimum(mixture.designed_log_p, _CLOSEST)
    if mixture.designed > 0.0 and np.any(np.diff(knots) <= 0.0):
        return None
    law = Law(mixture, num_classes)
    return law if law.is_wide() else None


def _beta_density(x: Array, a: float, b: float) -> Array:
    """Return the density of ln p at `[...]`, p of the beta law (a, b)."""
    x = np.minimum(x, -1e-300)
    return np.exp(a * x + (b - 1.0) * np.log(-np.expm1(x)) - special.betaln(a, b))


@dataclasses.dataclass(frozen=True, eq=False)
class Position:
    """Where a prediction stands between the least severe and the most: a mean of rank and severity, in [0, 1].

    Attributes:
      law: law of p_t.
      severity: name of a severity of `OF_P_T`.
      lowest: ln p_t of the most severe predictions.
      highest: ln p_t of the least severe ones.
      share: of the severity, in [0, 1): at margin 0 the optimum is a function of the rank, otherwise of both.
    """

    law: Law
    severity: str
    lowest: float
    highest: float
    share: float

    @classmethod
    def of(cls, law: Law, severity: str, share: float) -> "Position":
        """Return the position over the range of a law."""
        return cls(law, severity, *law.range(), share)

    def __call__(self, log_p: ArrayLike) -> Array:
        """Return the position `[...]` at ln p_t `[...]`."""
        x = np.asarray(log_p, np.float64)
        best, worst = self.severities([self.highest, self.lowest])
        return (1.0 - self.share) * self.law.rank(x) + self.share * (self.severities(x) - best) / (worst - best)

    def severities(self, log_p: ArrayLike) -> Array:
        """Return the severity `[...]` at ln p_t `[...]`."""
        return OF_P_T[self.severity][0](np.asarray(log_p, np.float64))

    def slope(self, log_p: ArrayLike) -> Array:
        """Return the derivative `[...]` of the position with respect to ln p_t."""
        x = np.asarray(log_p, np.float64)
        best, worst = self.severities([self.highest, self.lowest])
        return self.share * OF_P_T[self.severity][1](x) / (worst - best) - (1.0 - self.share) * self.law.density(x)

    def bins(self, count: int) -> tuple[Array, Array, Array]:
        """Return (position, mean severity, mass), `[K]` each, of at most `count` bins equally wide in the position.

        As of `optimum.reduce`, in increasing order of severity.
        """
        inside = _GRID[np.logical_and(self.lowest < _GRID, self.highest > _GRID)][::-1]
        grid = np.concatenate([[self.highest], inside, [self.lowest]])
        at = np.maximum.accumulate(self(grid))
        edges = np.interp(np.linspace(at[0], at[-1], count * _PARTS + 1), at, grid)
        parts = np.diff(self.law.rank(edges)).reshape(count, _PARTS)
        middle = OF_P_T[self.severity][0](0.5 * (edges[1:] + edges[:-1])).reshape(count, _PARTS)
        mass = parts.sum(axis=1)
        position = self(edges[_PARTS // 2 :: _PARTS])
        # Where the law is much narrower than the grid, bins may coincide or be empty.
        kept = (mass > 1e-12) & (np.diff(position, prepend=-1.0) > 1e-12)
        mean = np.sum(parts * middle, axis=1)[kept] / mass[kept]
        return position[kept], mean, mass[kept] / mass[kept].sum()


def increasing(x: Array, y: Array) -> interpolate.PPoly:
    """Return a curve through points `[K]` of increasing y: twice differentiable, or once where that would fall."""
    curve = interpolate.CubicSpline(x, y)
    fine = np.linspace(0.0, 1.0, 8 * len(x) + 1)
    return curve if np.all(curve(fine, 1) >= 0.0) else interpolate.PchipInterpolator(x, y)


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """A loss as a smooth function of the position; beyond the ends of that, a line in the severity.

    Attributes:
      position: of a prediction.
      of_position: values at positions, with a derivative.
    """

    position: Position
    of_position: interpolate.PPoly

    def __call__(self, log_p: ArrayLike) -> Array:
        """Return the loss `[...]` at ln p_t `[...]`."""
        x = np.asarray(log_p, np.float64)
        e = OF_P_T[self.position.severity][0]
        inside = self._inside(x)
        value = self.of_position(self.position(inside))
        return value + self._per_severity(inside) * (e(x) - e(inside))

    def slope(self, log_p: ArrayLike) -> Array:
        """Return the derivative `[...]` of the loss with respect to ln p_t."""
        x = np.asarray(log_p, np.float64)
        return self._per_severity(self._inside(x)) * OF_P_T[self.position.severity][1](x)

    def of_severity(self, e: ArrayLike) -> Array:
        """Return the loss `[...]` at severities `[...]`."""
        return self(OF_P_T[self.position.severity][2](np.asarray(e, np.float64)))

    def _inside(self, x: Array) -> Array:
        return np.clip(x, self.position.lowest, self.position.highest)

    def _per_severity(self, x: Array) -> Array:
        """Return the derivative with respect to the severity, at ln p_t inside the ends."""
        return self.of_position(self.position(x), 1) * self.position.slope(x) / OF_P_T[self.position.severity][1](x)
