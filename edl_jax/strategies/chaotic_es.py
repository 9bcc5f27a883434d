"""Chaotic Evolution Strategy: rank-weighted recombination with chaotic noise.

[1] EDL, arXiv 2605.03722: logistic-map mutation inside an evolution strategy.
[2] Pei, Chaotic Evolution, The Scientific World Journal 2015, 704587: other maps.
[3] Hansen, The CMA Evolution Strategy: A Tutorial, arXiv 1604.00772, section 2.2: recombination weights.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from evosax.algorithms.distribution_based.base import (
    DistributionBasedAlgorithm,
    Params as BaseParams,
    State as BaseState,
    metrics_fn,
)
from evosax.core.fitness_shaping import identity_fitness_shaping_fn, weights_fitness_shaping_fn
from evosax.types import Fitness, Metrics, Population, Solution
from flax import struct

from edl_jax.core.errors import choose, require
from edl_jax.strategies.maps import logistic
from edl_jax.strategies.rules import ALPHA_RULES, STD_RULES, Generation, success_surplus


class NoiseSource(Protocol):
    """Noise of zero mean and unit variance with a state, such as a chaotic map. States are pytrees of float32."""

    def init(self, key: jax.Array, shape: tuple[int, ...]) -> Any:
        """Return the first state."""

    def advance(self, key: jax.Array, state: Any) -> Any:
        """Return the next state."""

    def noise(self, state: Any) -> jax.Array:
        """Return the noise of a state, `[*shape]`."""


@struct.dataclass
class State(BaseState):
    """State of the search.

    Attributes:
      mean: `[num_dims]` float32.
      std: scalar float32.
      alpha: scalar float32, share of chaotic noise in the next generation.
      chaos: state of the noise source, one orbit per drawn mutant and parameter; `()` when no chaos is used.
      path: `[num_dims]` float32, search path of csa; `()` under the other std rules.
    """

    mean: jax.Array
    std: jax.Array
    alpha: jax.Array
    chaos: Any
    path: Any


@struct.dataclass
class Params(BaseParams):
    """Traced hyper-parameters.

    Attributes:
      std_init: scalar, std of the first generation.
      std_decay: scalar, factor on std per generation under `exponential`.
      std_limit: scalar, lower limit of std under `exponential`.
      std_rate: scalar, factor on the standard rate of `one_fifth` and `csa`.
      alpha_end: scalar, where alpha moves under `linear`, its lower limit under `adaptive`.
      alpha_horizon: scalar, generations until alpha_end under `linear`.
      alpha_rate: scalar, rate of alpha under `adaptive`.
      mean_lr: scalar, step size of the mean's update.
      weights: `[mutants]`, recombination weights by rank, best first, summing to 1.
    """

    std_init: jax.Array
    std_decay: jax.Array
    std_limit: jax.Array
    std_rate: jax.Array
    alpha_end: jax.Array
    alpha_horizon: jax.Array
    alpha_rate: jax.Array
    mean_lr: jax.Array
    weights: jax.Array


# One program: each of its operations would be one, called eagerly.
@partial(jax.jit, static_argnums=0)
def _recombination_weights(num_mutants: int, num_elites: int) -> jax.Array:
    """Return the weights `[num_mutants]` by rank, best first, summing to 1; those beyond the elites are 0."""
    rank = jnp.arange(1, num_mutants + 1, dtype=jnp.float32)
    weights = jnp.maximum(jnp.log(num_elites + 0.5) - jnp.log(rank), 0.0)
    return weights / jnp.sum(weights)


class ChaoticES(DistributionBasedAlgorithm):
    """Evolution strategy whose mutations follow chaotic orbits.

        x <- map(x)                                                           per mutant and parameter
        mutants = mean + std (alpha psi(x) + sqrt(1 - alpha^2) gaussian)
        mean <- mean + mean_lr sum_i (weights_i - 1/n) (mutants_i - mean)     i by rank of fitness, best first

    psi gives the orbit zero mean and unit variance, so that alpha changes the noise and nothing else:
    alpha = 1 is purely chaotic, alpha = 0 the Gaussian baseline. std and alpha follow named rules, see
    `edl_jax.strategies.rules`. Under rules that re-score the mean (`one_fifth`, `adaptive`) member 0 of the
    population is the mean itself: its fitness tells progress, and it is not recombined. Members without a
    finite fitness, -inf among them, count as failed and have no say.

    The weights, which sum to 1 over the n mutants, are centred by 1/n. What selection adds to the mean stays the
    same, since the mutants' average has zero mean, but that average's noise no longer reaches the mean: with
    random fitness it makes an unbiased walk whatever the noise is, orbits that remember their past included.
    """

    def __init__(
        self,
        population_size: int,
        solution: Solution,
        alpha: float = 1.0,
        chaotic_map: NoiseSource | None = None,
        std_rule: str = "constant",
        elite_ratio: float = 0.5,
        alpha_rule: str = "constant",
        mirrored: bool = False,
        fitness_shaping_fn: Callable = weights_fitness_shaping_fn,
        metrics_fn: Callable = metrics_fn,
    ):
        """Initialize Chaotic ES.

        Args:
          population_size: members per generation, at least 2, or 3 when one of them is the mean.
          solution: pytree that a member looks like.
          alpha: share of chaotic noise in [0, 1], under another alpha_rule than `constant` its first value.
          chaotic_map: the map (default: logistic, r = 4).
          std_rule: `constant`, `exponential`, `one_fifth` or `csa`.
          elite_ratio: share of mutants that are recombined, in (0, 1].
          alpha_rule: `constant`, `linear` or `adaptive`.
          mirrored: the second half of the mutants has the negative noise of the first.
          fitness_shaping_fn: as in evosax, of the mutants; must return weights.
          metrics_fn: as in evosax.

        Raises:
          UserError: a value outside its range, or an unknown rule.
        """
        require(0.0 <= alpha <= 1.0, f"alpha is {alpha}, expected 0 <= alpha <= 1")
        require(0.0 < elite_ratio <= 1.0, f"elite_ratio is {elite_ratio}, expected 0 < elite_ratio <= 1")
        std_rule = choose("std rule", std_rule, STD_RULES)
        alpha_rule = choose("alpha rule", alpha_rule, ALPHA_RULES)
        require(population_size >= 2, f"population_size is {population_size}, expected at least 2")
        for rule, rescores in (
            (std_rule, STD_RULES[std_rule].rescores),
            (alpha_rule, ALPHA_RULES[alpha_rule].rescores),
        ):
            require(
                not rescores or population_size >= 3,
                f"population_size is {population_size}, expected at least 3 with {rule}: one member is the mean itself",
            )
        super().__init__(population_size, solution, identity_fitness_shaping_fn, metrics_fn)
        self.alpha = float(alpha)
        self.chaotic_map = logistic() if chaotic_map is None else chaotic_map
        self.std_rule = std_rule
        self.alpha_rule = alpha_rule
        self.elite_ratio = elite_ratio
        self.mirrored = mirrored
        self.weights_fn = fitness_shaping_fn
        self.rescores = STD_RULES[std_rule].rescores or ALPHA_RULES[alpha_rule].rescores
        self.num_mutants = population_size - self.rescores
        self.num_drawn = (self.num_mutants + 1) // 2 if mirrored else self.num_mutants

    @property
    def num_elites(self) -> int:
        """Number of mutants that are recombined."""
        return max(1, int(self.elite_ratio * self.num_mutants))

    @property
    def _default_params(self) -> Params:  # type: ignore[override]
        return Params(
            std_init=jnp.float32(1.0),
            std_decay=jnp.float32(0.999),
            std_limit=jnp.float32(0.0),
            std_rate=jnp.float32(1.0),
            alpha_end=jnp.float32(0.0),
            alpha_horizon=jnp.float32(500.0),
            alpha_rate=jnp.float32(0.05),
            mean_lr=jnp.float32(1.0),
            weights=_recombination_weights(self.num_mutants, self.num_elites),
        )

    def _init(self, key: jax.Array, params: Params) -> State:
        # Explicit dtypes: weakly typed leaves would make ask and tell compile twice.
        # Zeros for what is not known yet: the NaN of evosax is a fault to jax_debug_nans.
        chaos_key, path_key = jax.random.split(key)
        cumulates = STD_RULES[self.std_rule].cumulates
        return State(
            best_solution=jnp.zeros((self.num_dims,), jnp.float32),
            best_fitness=jnp.full((), jnp.inf, jnp.float32),  # type: ignore[arg-type]
            generation_counter=jnp.zeros((), jnp.int32),  # type: ignore[arg-type]
            mean=jnp.zeros((self.num_dims,), jnp.float32),
            std=jnp.asarray(params.std_init, jnp.float32),
            alpha=jnp.full((), self.alpha, jnp.float32),
            chaos=self.chaotic_map.init(chaos_key, (self.num_drawn, self.num_dims)) if self._chaotic else (),
            # Of the length that random fitness keeps: a path that starts at 0 would let std fall first.
            path=jax.random.rademacher(path_key, (self.num_dims,), jnp.float32) if cumulates else (),
        )

    @property
    def _chaotic(self) -> bool:
        return self.alpha > 0.0 or self.alpha_rule != "constant"

    @property
    def _gaussian(self) -> bool:
        return self.alpha < 1.0 or self.alpha_rule != "constant"

    def _ask(self, key: jax.Array, state: State, params: Params) -> tuple[Population, State]:
        chaos_key, normal_key = jax.random.split(key)
        # A constant alpha is a constant of the program.
        alpha = self.alpha if self.alpha_rule == "constant" else state.alpha
        noise = jnp.zeros((), jnp.float32)
        chaos = state.chaos
        if self._chaotic:
            chaos = self.chaotic_map.advance(chaos_key, chaos)
            noise = alpha * self.chaotic_map.noise(chaos)
        if self._gaussian:
            normal = jax.random.normal(normal_key, (self.num_drawn, self.num_dims), jnp.float32)
            noise += jnp.sqrt(jnp.maximum(1.0 - alpha**2, 0.0)) * normal
        if self.mirrored:
            noise = jnp.concatenate([noise, -noise])[: self.num_mutants]
        population = state.mean[None, :] + state.std * noise
        if self.rescores:
            population = jnp.concatenate([state.mean[None, :], population])
        return population, state.replace(chaos=chaos)

    @partial(jax.jit, static_argnames=("self",))
    def tell(
        self, key: jax.Array, population: Population, fitness: Fitness, state: State, params: Params
    ) -> tuple[State, Metrics]:
        """Tell the fitness of a population, as in evosax; a fitness that is not finite marks a failed member."""
        fitness = jnp.where(jnp.isfinite(fitness), fitness, jnp.inf)
        return super().tell(key, population, fitness, state, params)

    def _tell(self, key: jax.Array, population: Population, fitness: Fitness, state: State, params: Params) -> State:
        mutants, scores = (population[1:], fitness[1:]) if self.rescores else (population, fitness)
        valid = jnp.isfinite(scores)
        # Failed mutants rank last and lose their weight to the others.
        weights = jnp.where(valid, self.weights_fn(mutants, scores, state, params), 0.0)
        total = jnp.sum(weights)
        share = 1.0 / jnp.maximum(jnp.sum(valid), 1).astype(jnp.float32)
        weights = jnp.where(valid & (total > 0.0), weights / jnp.where(total > 0.0, total, 1.0) - share, 0.0)

        deviations = mutants - state.mean[None, :]
        surplus = success_surplus(fitness) if self.rescores else jnp.zeros((), jnp.float32)
        generation = Generation(weights, valid, deviations, surplus)
        std, path = STD_RULES[self.std_rule].update(generation, state.std, state.path, params)
        alpha = ALPHA_RULES[self.alpha_rule].update(state.alpha, surplus, state.generation_counter, params)
        mean = state.mean + params.mean_lr * (weights @ deviations)
        return state.replace(mean=mean, std=std, path=path, alpha=alpha)
