"""Chaotic Evolution Strategy: rank-weighted recombination with chaotic noise.

[1] EDL, arXiv 2605.03722: logistic-map mutation inside an evolution strategy.
[2] Pei, Chaotic Evolution, The Scientific World Journal 2015, 704587: other maps.
[3] Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772, section 2.2: recombination weights.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from evosax.algorithms.distribution_based.base import (
    DistributionBasedAlgorithm,
    Params as BaseParams,
    State as BaseState,
    metrics_fn,
)
from evosax.core.fitness_shaping import weights_fitness_shaping_fn
from evosax.types import Fitness, Population, Solution
from flax import struct

from edl_jax.errors import require, unknown
from edl_jax.strategies.maps import ChaoticMap, logistic

STD_RULES = ("constant", "exponential")


@struct.dataclass
class State(BaseState):
    """State of the search.

    Attributes:
      mean: `[num_dims]` float32.
      std: scalar float32.
      chaos: `[population_size, num_dims]` float32, one orbit per member and parameter; empty at alpha = 0.
    """

    mean: jax.Array
    std: jax.Array
    chaos: jax.Array


@struct.dataclass
class Params(BaseParams):
    """Traced hyper-parameters.

    Attributes:
      std_init: scalar, std of the first generation.
      std_decay: scalar, factor on std per generation under the exponential rule.
      std_limit: scalar, lower limit of std.
      weights: `[population_size]`, recombination weights by rank, best first, summing to 1.
    """

    std_init: jax.Array
    std_decay: jax.Array
    std_limit: jax.Array
    weights: jax.Array


class ChaoticES(DistributionBasedAlgorithm):
    """Evolution strategy whose mutations follow chaotic orbits.

        x <- map(x)                                                   per member and parameter
        population = mean + std (alpha psi(x) + sqrt(1 - alpha^2) gaussian)
        mean <- mean + sum_i weights_i (population_i - mean)          i by rank of fitness, best first

    psi gives the orbit zero mean and unit variance, so that alpha changes the noise and nothing else:
    alpha = 1 is purely chaotic, alpha = 0 the Gaussian baseline.
    """

    def __init__(
        self,
        population_size: int,
        solution: Solution,
        alpha: float = 1.0,
        chaotic_map: ChaoticMap | None = None,
        std_rule: str = "constant",
        elite_ratio: float = 0.5,
        fitness_shaping_fn: Callable = weights_fitness_shaping_fn,
        metrics_fn: Callable = metrics_fn,
    ):
        """Initialize Chaotic ES.

        Args:
          population_size: members per generation, at least 2.
          solution: pytree that a member looks like.
          alpha: share of chaotic noise in [0, 1].
          chaotic_map: the map (default: logistic, r = 4).
          std_rule: `constant`, or `exponential` (std_decay per generation down to std_limit).
          elite_ratio: share of members that are recombined, in (0, 1].
          fitness_shaping_fn: as in evosax; must return weights.
          metrics_fn: as in evosax.

        Raises:
          UserError: a value outside its range.
        """
        require(population_size >= 2, f"population_size is {population_size}, expected at least 2")
        require(0.0 <= alpha <= 1.0, f"alpha is {alpha}, expected 0 <= alpha <= 1")
        require(0.0 < elite_ratio <= 1.0, f"elite_ratio is {elite_ratio}, expected 0 < elite_ratio <= 1")
        if std_rule not in STD_RULES:
            raise unknown("std rule", std_rule, STD_RULES)
        super().__init__(population_size, solution, fitness_shaping_fn, metrics_fn)
        self.alpha = float(alpha)
        self.chaotic_map = logistic() if chaotic_map is None else chaotic_map
        self.std_rule = std_rule
        self.elite_ratio = elite_ratio

    @property
    def _default_params(self) -> Params:  # type: ignore[override]
        rank = jnp.arange(1, self.population_size + 1, dtype=jnp.float32)
        weights = jnp.maximum(jnp.log(self.num_elites + 0.5) - jnp.log(rank), 0.0)
        return Params(
            std_init=jnp.float32(1.0),
            std_decay=jnp.float32(0.999),
            std_limit=jnp.float32(0.0),
            weights=weights / jnp.sum(weights),
        )

    def _init(self, key: jax.Array, params: Params) -> State:
        # Explicit dtypes: weakly typed leaves would make ask and tell compile twice.
        orbits = self.population_size if self.alpha > 0.0 else 0
        return State(
            best_solution=jnp.full((self.num_dims,), jnp.nan, jnp.float32),
            best_fitness=jnp.full((), jnp.inf, jnp.float32),  # type: ignore[arg-type]
            generation_counter=jnp.zeros((), jnp.int32),  # type: ignore[arg-type]
            mean=jnp.full((self.num_dims,), jnp.nan, jnp.float32),
            std=jnp.asarray(params.std_init, jnp.float32),
            chaos=self.chaotic_map.init(key, (orbits, self.num_dims)),
        )

    def _ask(self, key: jax.Array, state: State, params: Params) -> tuple[Population, State]:
        chaos_key, normal_key = jax.random.split(key)
        shape = (self.population_size, self.num_dims)
        noise = jnp.zeros((), jnp.float32)
        chaos = state.chaos
        if self.alpha > 0.0:
            chaos = self.chaotic_map.advance(chaos_key, chaos)
            noise = self.alpha * self.chaotic_map.noise(chaos)
        if self.alpha < 1.0:
            noise += (1.0 - self.alpha**2) ** 0.5 * jax.random.normal(normal_key, shape, jnp.float32)
        return state.mean[None, :] + state.std * noise, state.replace(chaos=chaos)

    def _postprocess_fitness(self, raw_fitness: Fitness, fitness: Fitness) -> Fitness:
        """Take the weight from members without a finite fitness and share it among the others."""
        weights = jnp.where(jnp.isfinite(raw_fitness), fitness, 0.0)
        total = jnp.sum(weights)
        return jnp.where(total > 0.0, weights / jnp.where(total > 0.0, total, 1.0), 0.0)

    def _tell(self, key: jax.Array, population: Population, fitness: Fitness, state: State, params: Params) -> State:
        mean = state.mean + fitness @ (population - state.mean[None, :])
        std = state.std
        if self.std_rule == "exponential":
            std = jnp.maximum(std * params.std_decay, params.std_limit)
        return state.replace(mean=mean, std=std)
