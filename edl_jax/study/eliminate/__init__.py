"""Losses of a search, eliminated stage by stage on larger networks: what the command `eliminate` calls is `run`."""

from edl_jax.study.eliminate.config import EliminateConfig
from edl_jax.study.eliminate.report import summary_lines
from edl_jax.study.eliminate.study import run

__all__ = ["EliminateConfig", "run", "summary_lines"]
