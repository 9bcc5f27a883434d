"""How far small networks rank losses as larger ones do: what the command `surrogate-study` calls is `run`."""

from edl_jax.study.surrogates.config import SurrogateConfig
from edl_jax.study.surrogates.report import summary_lines
from edl_jax.study.surrogates.study import run

__all__ = ["SurrogateConfig", "run", "summary_lines"]
