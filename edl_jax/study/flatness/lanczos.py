"""The largest eigenvalues of a symmetric matrix that is known by its products with vectors.

Lanczos's method with full reorthogonalisation, twice at each step (Parlett 1998, The Symmetric Eigenvalue Problem,
13.7; "twice is enough"): in float32 the vectors would otherwise lose their orthogonality, and eigenvalues would appear
several times. SciPy's `eigsh` restarts and keeps fewer vectors, but cannot go on after a kill.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

Vector = NDArray[np.float32]
_BREAKDOWN = 1e-6  # of the largest entry so far: the vectors span all that the start has a part in


@dataclasses.dataclass
class State:
    """What is known after m steps.

    Attributes:
      vectors: m + 1 orthonormal vectors `[P]` float32; m at the end.
      diagonal: `[m]` of the tridiagonal matrix.
      beside: `[m]` its other entries; the last one leads out of it.
      ended: whether the vectors span an invariant subspace.
    """

    vectors: list[Vector]
    diagonal: list[float] = dataclasses.field(default_factory=list)
    beside: list[float] = dataclasses.field(default_factory=list)
    ended: bool = False

    @classmethod
    def start(cls, vector: NDArray) -> "State":
        """Return the state before the first step, from a vector `[P]` of any length but 0."""
        return cls([_unit(np.asarray(vector, np.float32))])

    def step(self, product: Callable[[Vector], NDArray]) -> None:
        """Take a step: one product of the matrix with a vector `[P]`."""
        last = self.vectors[-1]
        new = np.asarray(product(last), np.float32)
        self.diagonal.append(_dot(last, new))
        for _ in range(2):
            for vector in self.vectors:
                new = new - np.float32(_dot(vector, new)) * vector
        length = float(np.sqrt(_dot(new, new)))
        self.beside.append(length)
        small = length <= _BREAKDOWN * max(map(abs, (*self.diagonal, *self.beside)))
        self.ended = small or len(self.diagonal) == len(new)
        if not self.ended:
            self.vectors.append(_unit(new))

    def ritz(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the Ritz values `[m]` in descending order, and how far each is from an eigenvalue at the most."""
        values, vectors = eigh_tridiagonal(np.array(self.diagonal), np.array(self.beside[:-1]))
        errors = np.abs(vectors[-1]) * (0.0 if self.ended else self.beside[-1])
        return values[::-1], errors[::-1]

    def converged(self, count: int, tolerance: float) -> bool:
        """Return whether the `count` largest are known up to that share of the largest."""
        if not self.diagonal:
            return False
        values, errors = self.ritz()
        return self.ended or (len(values) >= count and bool(np.all(errors[:count] <= tolerance * abs(values[0]))))


def _unit(vector: Vector) -> Vector:
    return (vector / np.float32(np.sqrt(_dot(vector, vector)))).astype(np.float32)


def _dot(a: Vector, b: Vector) -> float:
    return float(np.sum(a * b, dtype=np.float64))
