"""Genetic programming of losses."""

from edl_jax.search.gp.config import PRESETS, GPConfig
from edl_jax.search.gp.evolve import ask, init, tell
from edl_jax.search.gp.state import Entry, Evaluation, GPState, Member

__all__ = ["PRESETS", "Entry", "Evaluation", "GPConfig", "GPState", "Member", "ask", "init", "tell"]
