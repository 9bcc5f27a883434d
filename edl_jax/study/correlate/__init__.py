"""Which pretraining number predicts real accuracy: what the command `correlate` calls is `run`."""

from edl_jax.study.correlate.config import CorrelateConfig
from edl_jax.study.correlate.report import summary_lines
from edl_jax.study.correlate.study import run

__all__ = ["CorrelateConfig", "run", "summary_lines"]
