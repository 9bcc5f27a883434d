"""Losses compared on a grid of models, data sets, wrong labels and seeds: what the command `compare` calls is `run`."""

from edl_jax.study.compare.config import CompareConfig, TrainingConfig, parse_seeds
from edl_jax.study.compare.report import summary_lines
from edl_jax.study.compare.study import require_finished, run

__all__ = ["CompareConfig", "TrainingConfig", "parse_seeds", "require_finished", "run", "summary_lines"]
