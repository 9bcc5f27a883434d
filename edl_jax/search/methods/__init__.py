"""Methods of a search: what each proposes, generation by generation, and what it makes of the trials."""

from collections.abc import Callable

from edl_jax.search.config import SearchConfig
from edl_jax.search.methods.base import Method, Row, Winner
from edl_jax.search.methods.genetic import GeneticProgramming
from edl_jax.search.methods.ml3 import ML3
from edl_jax.search.methods.nlfs import NLFS
from edl_jax.search.methods.taylor import TaylorGLO
from edl_jax.search.trials import Trials

__all__ = ["Method", "Row", "Winner", "create"]

_METHODS: dict[str, Callable[[SearchConfig, Trials], Method]] = {
    "evomal": GeneticProgramming,
    "gp_lfl": GeneticProgramming,
    "taylorglo": TaylorGLO,
    "ml3": ML3,
    "nlfs": NLFS,
}


def create(config: SearchConfig, trials: Trials) -> Method:
    """Return the method of a config."""
    return _METHODS[config.method](config, trials)
