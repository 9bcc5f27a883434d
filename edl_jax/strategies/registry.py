"""Strategies by name: one entry point for ours and evosax's."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import optax
from evosax.algorithms.distribution_based.base import DistributionBasedAlgorithm
from evosax.algorithms.distribution_based.open_es import Open_ES
from evosax.algorithms.distribution_based.sep_cma_es import Sep_CMA_ES
from evosax.algorithms.distribution_based.simple_es import SimpleES
from evosax.algorithms.distribution_based.snes import SNES

from edl_jax.errors import require, unknown
from edl_jax.strategies import maps
from edl_jax.strategies.chaotic_es import STD_RULES, ChaoticES


@dataclasses.dataclass(frozen=True)
class StrategyConfig:
    """Settings of the evolution strategy; each strategy uses those that it has."""

    population_size: int = 128
    """Members per generation."""
    std: float = 0.2
    """Standard deviation of the first generation's mutations."""
    std_rule: str = "exponential"
    """How std changes: constant or exponential (chaotic_es, gaussian_es, open_es; the others adapt it)."""
    std_decay: float = 0.993
    """Factor on std per generation under the exponential rule."""
    std_limit: float = 0.01
    """Lower limit of std under the exponential rule."""
    alpha: float = 1.0
    """Share of chaotic noise: 1 purely chaotic, 0 Gaussian (chaotic_es)."""
    chaotic_map: str = "logistic"
    """Chaotic map (chaotic_es)."""
    r: float = 4.0
    """Parameter r of the logistic map."""
    elite_ratio: float = 0.5
    """Share of members that are recombined (chaotic_es, gaussian_es)."""
    lr: float = 0.02
    """Learning rate of Adam on the mean (open_es)."""

    def __post_init__(self) -> None:
        require(self.population_size >= 2, f"population_size is {self.population_size}, expected at least 2")
        for name in ("std", "lr"):
            value = getattr(self, name)
            require(0.0 < value < math.inf, f"{name} is {value}, expected a positive number")
        require(0.0 < self.std_decay <= 1.0, f"std_decay is {self.std_decay}, expected 0 < std_decay <= 1")
        require(0.0 <= self.std_limit < math.inf, f"std_limit is {self.std_limit}, expected 0 or more")
        require(0.0 <= self.alpha <= 1.0, f"alpha is {self.alpha}, expected 0 <= alpha <= 1")
        require(0.0 < self.elite_ratio <= 1.0, f"elite_ratio is {self.elite_ratio}, expected 0 < elite_ratio <= 1")
        if self.std_rule not in STD_RULES:
            raise unknown("std rule", self.std_rule, STD_RULES)
        maps.get(self.chaotic_map, r=self.r)


Built = tuple[DistributionBasedAlgorithm, Any]


def _chaotic_es(solution: Any, config: StrategyConfig, alpha: float | None = None) -> Built:
    algorithm = ChaoticES(
        config.population_size,
        solution,
        alpha=config.alpha if alpha is None else alpha,
        chaotic_map=maps.get(config.chaotic_map, r=config.r),
        std_rule=config.std_rule,
        elite_ratio=config.elite_ratio,
    )
    return algorithm, algorithm.default_params.replace(
        std_init=config.std, std_decay=config.std_decay, std_limit=config.std_limit
    )


def _gaussian_es(solution: Any, config: StrategyConfig) -> Built:
    return _chaotic_es(solution, config, alpha=0.0)


def _open_es(solution: Any, config: StrategyConfig) -> Built:
    require(
        config.population_size % 2 == 0,
        f"population_size is {config.population_size}, expected an even number for open_es (mirrored sampling)",
    )
    decay = config.std_decay if config.std_rule == "exponential" else 1.0
    schedule = optax.exponential_decay(config.std, 1, decay, end_value=min(config.std_limit, config.std))
    algorithm = Open_ES(config.population_size, solution, optimizer=optax.adam(config.lr), std_schedule=schedule)
    return algorithm, algorithm.default_params


def _with_std_init(cls: Callable[..., DistributionBasedAlgorithm]) -> Callable[[Any, StrategyConfig], Built]:
    def build(solution: Any, config: StrategyConfig) -> Built:
        algorithm = cls(config.population_size, solution)
        return algorithm, algorithm.default_params.replace(std_init=config.std)

    return build


STRATEGIES: dict[str, Callable[[Any, StrategyConfig], Built]] = {
    "chaotic_es": _chaotic_es,
    "gaussian_es": _gaussian_es,
    "open_es": _open_es,
    "sep_cma_es": _with_std_init(Sep_CMA_ES),
    "simple_es": _with_std_init(SimpleES),
    "snes": _with_std_init(SNES),
}


def names() -> list[str]:
    """Return the names of the strategies."""
    return sorted(STRATEGIES)


def create(name: str, solution: Any, config: StrategyConfig) -> Built:
    """Return (algorithm, params) of a strategy in evosax's interface.

    Args:
      name: one of `names()`.
      solution: pytree that a member looks like.
      config: settings.

    Raises:
      UserError: unknown name, or a setting that the strategy refuses.
    """
    if name not in STRATEGIES:
        raise unknown("strategy", name, STRATEGIES)
    return STRATEGIES[name](solution, config)
