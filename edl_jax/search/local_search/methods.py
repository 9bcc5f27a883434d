"""Which local search: by name, none at all, or the exact one where the linearised one is not to be trusted."""

from typing import Any

import jax
import numpy as np

from edl_jax.core.errors import require, unknown
from edl_jax.search.kernels import require_form
from edl_jax.search.local_search.base import Found, LocalSearch, LocalSearchConfig
from edl_jax.search.students.base import Student

METHODS = ("linearised", "exact", "none")
"""Names of the local searches."""


def check_method(name: str, student: Student, config: LocalSearchConfig) -> None:
    """Raise `UserError` unless `name` is a local search that suits a student and settings."""
    if name not in METHODS:
        raise unknown("local search", name, METHODS)
    if name == "linearised":
        require_form(student)
        require(
            config.inner_steps == 1,
            f"inner_steps is {config.inner_steps}, expected 1 for linearised local search: choose --local-search exact",
        )


def no_search(params: Any, candidates: Any) -> Found:
    """Return the parameters as they are: the local search `none`."""
    count = len(jax.tree.leaves(params)[0])
    return Found(params, np.zeros((0, count), np.float32), np.ones(count, bool), np.full(count, np.nan, np.float32))


class Guarded:
    """The linearised local search, and the exact one for candidates too strong for it."""

    def __init__(self, linearised: LocalSearch, exact: LocalSearch, limit: float = 0.1) -> None:
        """Take both, and the `Found.moves` from which on a candidate is searched for exactly."""
        self._linearised, self._exact, self._limit = linearised, exact, limit

    def __call__(self, params: Any, candidates: Any) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        found = self._linearised(params, candidates)
        strong = np.flatnonzero(found.moves > self._limit)
        if len(strong) == 0:
            return found
        again = self._exact(*jax.tree.map(lambda x: np.asarray(x)[strong], (params, candidates)))

        def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
            old = np.array(old)
            old[strong] = new
            return old

        return Found(
            jax.tree.map(put, found.params, again.params),
            put(found.losses.T, again.losses.T).T,
            put(found.finite, again.finite),
            found.moves,
        )
