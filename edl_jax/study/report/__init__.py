"""One page of what commands have left in their directories: what the command `report` calls is `run`."""

from edl_jax.study.report.study import run

__all__ = ["run"]
