"""Settings of the strategies."""

import dataclasses
import math

from edl_jax.core.errors import require, settle
from edl_jax.strategies import maps
from edl_jax.strategies.chaotic_es import NoiseSource
from edl_jax.strategies.rules import ALPHA_RULES, STD_RULES


@dataclasses.dataclass(frozen=True)
class StrategyConfig:
    """Settings of the evolution strategy; each strategy uses those that it has."""

    population_size: int = 128
    """Members per generation."""
    std: float = 1.0
    """Standard deviation of the first generation's mutations."""
    std_rule: str = "exponential"
    """How std changes: constant or exponential (not in strategies that adapt it), one_fifth or csa (ours)."""
    std_decay: float = 0.993
    """Factor on std per generation under the exponential rule."""
    std_limit: float = 0.002
    """Lower limit of std under the exponential rule."""
    std_rate: float = 1.0
    """Factor on the standard rate of one_fifth and csa."""
    alpha: float = 1.0
    """Share of chaotic noise: 1 purely chaotic, 0 Gaussian (chaotic_es)."""
    alpha_rule: str = "constant"
    """How alpha changes: constant, linear or adaptive, by the success of the re-scored mean (chaotic_es)."""
    alpha_end: float = 0.0
    """Where alpha moves under the linear rule; its lower limit under the adaptive rule."""
    alpha_horizon: int = 1000
    """Generations until alpha_end under the linear rule."""
    alpha_rate: float = 0.05
    """Rate of alpha under the adaptive rule."""
    chaotic_map: str = "logistic"
    """Chaotic map: chebyshev, gauss, henon, logistic, mouse, sine or tent (chaotic_es)."""
    r: float | None = None
    """Parameter of the chaotic map (default: its standard value)."""
    control: str = "none"
    """Instead of the orbit: independent draws of its law, or normal_marginals, the orbit with a normal law."""
    elite_ratio: float = 0.5
    """Share of members that are recombined (chaotic_es, gaussian_es)."""
    mirrored: bool = False
    """Give half of the members the negative noise of the other half (chaotic_es, gaussian_es)."""
    mean_lr: float = 1.0
    """Step size of the mean's update (chaotic_es, gaussian_es)."""
    lr: float = 0.02
    """Learning rate of Adam on the mean (open_es and the other estimators of a gradient)."""

    def __post_init__(self) -> None:
        require(self.population_size >= 2, f"population_size is {self.population_size}, expected at least 2")
        for name in ("std", "std_rate", "mean_lr", "lr"):
            value = getattr(self, name)
            require(0.0 < value < math.inf, f"{name} is {value}, expected a positive number")
        for name in ("std_decay", "elite_ratio"):
            value = getattr(self, name)
            require(0.0 < value <= 1.0, f"{name} is {value}, expected 0 < {name} <= 1")
        for name in ("alpha", "alpha_end", "alpha_rate"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"{name} is {value}, expected 0 <= {name} <= 1")
        require(0.0 <= self.std_limit < math.inf, f"std_limit is {self.std_limit}, expected 0 or more")
        require(self.alpha_horizon >= 1, f"alpha_horizon is {self.alpha_horizon}, expected at least 1")
        settle(self, "std_rule", STD_RULES, "std rule")
        settle(self, "alpha_rule", ALPHA_RULES, "alpha rule")
        settle(self, "chaotic_map", maps.names(), "chaotic map")
        settle(self, "control", maps.CONTROLS)
        require(
            self.alpha_rule != "adaptive" or self.alpha_end <= self.alpha,
            f"alpha_end is {self.alpha_end}, expected at most alpha ({self.alpha}) under the adaptive rule",
        )
        self.noise_source()

    def noise_source(self) -> NoiseSource:
        """Return the chaotic map, or its control."""
        return maps.get(self.chaotic_map, r=self.r, control=self.control)
