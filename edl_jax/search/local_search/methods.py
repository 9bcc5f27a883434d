"""Which local search: by name, none at all, or the exact one where the linearised one is not to be trusted."""

from typing import Any

import jax
import numpy as np

from edl_jax.core.errors import require, unknown
from edl_jax.search.kernels import require_form
from edl_jax.search.local_search.base import Found, LocalSearch, LocalSearchConfig, OnStep
from edl_jax.search.students.base import Student

METHODS = ("linearised", "matrix_free", "exact", "guarded", "none")
"""Names of the local searches."""


def check_method(name: str, student: Student, config: LocalSearchConfig) -> None:
    """Raise `UserError` unless `name` is a local search that suits a student and settings."""
    if name not in METHODS:
        raise unknown("local search", name, METHODS)
    if name in ("linearised", "guarded"):
        require_form(student)
    if name in ("linearised", "guarded", "matrix_free"):
        require(
            config.inner_steps == 1,
            f"inner_steps is {config.inner_steps}, expected 1 for {name} local search: choose --local-search exact",
        )


def no_search(params: Any, candidates: Any, on_step: OnStep | None = None) -> Found:
    """Return the parameters as they are: the local search `none`."""
    count = len(jax.tree.leaves(params)[0])
    return Found(params, np.zeros((0, count), np.float32), np.ones(count, bool), np.full(count, np.nan, np.float32))


class Guarded:
    """The linearised local search, and the exact one for candidates too strong for it."""

    LIMIT = 0.1
    """`Found.moves` from which on linearised gradients may have another direction."""

    def __init__(self, linearised: LocalSearch, exact: LocalSearch, limit: float = LIMIT) -> None:
        """Take both, and the `Found.moves` from which on a candidate is searched for exactly."""
        self._linearised, self._exact, self._limit = linearised, exact, limit

    def __call__(self, params: Any, candidates: Any, on_step: OnStep | None = None) -> Found:
        """Return what the parameters of P candidates become: see `LocalSearch`."""
        found = self._linearised(params, candidates, on_step)
        strong = np.flatnonzero(found.moves > self._limit)
        if len(strong) == 0:
            return found
        some_params, some_candidates = jax.tree.map(lambda x: np.asarray(x)[strong], (params, candidates))
        again = self._exact(some_params, some_candidates, on_step)

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
