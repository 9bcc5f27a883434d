"""Stage 1: learn a loss by evolution on synthetic pairs.

`run` is what the command `pretrain` calls, `design_mixture.run` what `design-mixture` calls.
"""

from edl_jax.pretrain.config import ObjectiveConfig, PretrainConfig
from edl_jax.pretrain.evolve import run
from edl_jax.pretrain.result import solve_optimum, summary_lines

__all__ = ["ObjectiveConfig", "PretrainConfig", "run", "solve_optimum", "summary_lines"]
