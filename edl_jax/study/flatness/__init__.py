"""How flat the minima are that losses lead to: what the command `flatness` calls is `run`."""

from edl_jax.study.flatness.config import FlatnessConfig
from edl_jax.study.flatness.report import summary_lines
from edl_jax.study.flatness.study import run

__all__ = ["FlatnessConfig", "run", "summary_lines"]
