"""One factor at a time around a base config: what the command `ablate` calls is `run`."""

from edl_jax.study.ablate.study import AblateConfig, run

__all__ = ["AblateConfig", "run"]
