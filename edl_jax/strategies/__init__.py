"""Evolution strategies in evosax's interface, chosen by name."""

from edl_jax.core import jax_settings

with jax_settings.fixed():  # evosax makes arrays when it is imported
    from edl_jax.strategies.chaotic_es import ChaoticES
    from edl_jax.strategies.maps import ChaoticMap, logistic
    from edl_jax.strategies.registry import create, names, untraced
from edl_jax.strategies.settings import StrategyConfig

__all__ = ["ChaoticES", "ChaoticMap", "StrategyConfig", "create", "logistic", "names", "untraced"]
