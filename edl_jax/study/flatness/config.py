"""Settings of a comparison of minima."""

import dataclasses
import math
from typing import Annotated

import tyro

from edl_jax.core.config import GROWS
from edl_jax.core.errors import require


@dataclasses.dataclass(frozen=True)
class FlatnessConfig:
    """How flat the minima are that losses lead to."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = dataclasses.field(default=(), metadata=GROWS)
    """Finished downstream runs; --resume may add more."""
    examples: int = 1000
    """Training images that the losses are means over, as far as there are so many: whole batches."""
    batch_size: int = 100
    """Images of a batch, which decides the memory that is needed and changes no number but by rounding."""
    eigenvalues: int = 5
    """Largest eigenvalues of the Hessian that are looked for."""
    iterations: int = 60
    """Products of the Hessian with a vector that are spent on them at the most."""
    tolerance: float = 1e-3
    """Error of an eigenvalue, as a share of the largest, at which they are spent no longer."""
    probes: int = 20
    """Random vectors for each trace."""
    directions: int = 5
    """Random directions of the slices along lines."""
    points: int = 31
    """Points of such a slice, an odd number."""
    grid: int = 15
    """Points of a side of the slice along a plane, an odd number (0: none)."""
    span: float = 1.0
    """Half of the length of a slice: 1 is as far as the weights of each filter are from 0."""
    seed: int = 0
    """Seed of the images and of all that is random; the same directions for runs of one architecture."""

    def __post_init__(self) -> None:
        least = {"examples": 1, "batch_size": 1, "eigenvalues": 1, "probes": 2, "directions": 1, "points": 3}
        for name, low in least.items():
            value = getattr(self, name)
            require(low <= value < 2**31, f"{name} is {value}, expected at least {low}")
        require(
            self.iterations >= self.eigenvalues,
            f"iterations is {self.iterations}, expected at least eigenvalues ({self.eigenvalues})",
        )
        require(self.points % 2 == 1, f"points is {self.points}, expected an odd number: one of them is the minimum")
        require(
            self.grid == 0 or (self.grid >= 3 and self.grid % 2 == 1),
            f"grid is {self.grid}, expected 0 or an odd number from 3 on",
        )
        require(
            self.grid == 0 or self.directions >= 2,
            f"directions is {self.directions}, expected at least 2, of which the plane is made, or a grid of 0",
        )
        for name in ("tolerance", "span"):
            value = getattr(self, name)
            require(0.0 < value < math.inf, f"{name} is {value}, expected a positive number")
        require(0 <= self.seed < 2**31, f"seed is {self.seed}, expected 0 to 2^31 - 1")
