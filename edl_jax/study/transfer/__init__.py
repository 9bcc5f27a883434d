"""Synthetic predictions beside those of networks while they train: what the command `transfer` calls is `run`."""

from edl_jax.study.transfer.config import TransferConfig
from edl_jax.study.transfer.report import summary_lines
from edl_jax.study.transfer.study import run

__all__ = ["TransferConfig", "run", "summary_lines"]
