"""Strategies by name: ours, and evosax's distribution-based algorithms under their module names.

`LEFT_OUT` holds the algorithms of evosax that are not offered, with the reason. With the 353 parameters of the
default loss network all others fit. For larger solutions: asebo, cma_es and iamalgam_full keep matrices of
num_dims x num_dims floats and factorise one in every generation; ma_es and xnes hold one such matrix for each
member while they update. hill_climbing, simulated_annealing, gradientless_descent, random_search and iamalgam_*
compare fitness between generations: on fresh batches they follow lucky ones. guided_es is given no surrogate
gradient, noise_reuse_es and persistent_es no unrolled inner problem.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import distribution_based as evosax
from evosax.algorithms.distribution_based.base import DistributionBasedAlgorithm
from evosax.core.fitness_shaping import centered_rank_fitness_shaping_fn
from jax.flatten_util import ravel_pytree

from edl_jax.core.errors import UserError, canonical, require, unknown
from edl_jax.strategies.chaotic_es import ChaoticES
from edl_jax.strategies.settings import StrategyConfig

Built = tuple[DistributionBasedAlgorithm, Any]
Builder = Callable[[Any, StrategyConfig], Built]


def _chaotic_es(solution: Any, config: StrategyConfig) -> Built:
    """Build ChaoticES from its settings."""
    return _ours(solution, config, config.alpha, config.alpha_rule)


def _gaussian_es(solution: Any, config: StrategyConfig) -> Built:
    """Build ChaoticES with Gaussian noise alone."""
    return _ours(solution, config, 0.0, "constant")


def _ours(solution: Any, config: StrategyConfig, alpha: float, alpha_rule: str) -> Built:
    algorithm = ChaoticES(
        config.population_size,
        solution,
        alpha=alpha,
        chaotic_map=config.noise_source(),
        std_rule=config.std_rule,
        elite_ratio=config.elite_ratio,
        alpha_rule=alpha_rule,
        mirrored=config.mirrored,
    )
    return algorithm, algorithm.default_params.replace(
        std_init=config.std,
        std_decay=config.std_decay,
        std_limit=config.std_limit,
        std_rate=config.std_rate,
        alpha_end=config.alpha_end,
        alpha_horizon=config.alpha_horizon,
        alpha_rate=config.alpha_rate,
        mean_lr=config.mean_lr,
    )


def _adaptive(cls: Callable[..., DistributionBasedAlgorithm], solution: Any, config: StrategyConfig) -> Built:
    """Build an algorithm that adapts std from `std_init` on."""
    algorithm = cls(config.population_size, solution)
    return algorithm, algorithm.default_params.replace(std_init=config.std)


def _pgpe(solution: Any, config: StrategyConfig) -> Built:
    algorithm = evosax.PGPE(config.population_size, solution, optimizer=optax.adam(config.lr))
    return algorithm, algorithm.default_params.replace(std_init=config.std)


def _xnes(solution: Any, config: StrategyConfig) -> Built:
    algorithm = evosax.xNES(config.population_size, solution)
    # Its first members scatter by std_init squared: the scalar std and the matrix B both start there.
    return algorithm, algorithm.default_params.replace(std_init=config.std**0.5)


def _schedule(config: StrategyConfig, scale: float = 1.0) -> Callable:
    """Return the std of a generation under the rules `constant` and `exponential`."""
    require(
        config.std_rule in ("constant", "exponential"),
        f"std_rule is {config.std_rule}, expected constant or exponential: this strategy takes a schedule "
        "(one_fifth and csa belong to chaotic_es and gaussian_es)",
    )
    decay = config.std_decay if config.std_rule == "exponential" else 1.0
    return optax.exponential_decay(scale * config.std, 1, decay, end_value=scale * min(config.std_limit, config.std))


def _gradient(
    cls: Callable[..., DistributionBasedAlgorithm], solution: Any, config: StrategyConfig, divides: bool = False
) -> Built:
    """Build an estimator of a gradient: Adam on the mean, std by schedule, centred ranks instead of fitness.

    Ranks keep the estimate free of the fitness's scale, and a failed member out of it. `divides` marks
    algorithms that divide std by sqrt(num_dims).
    """
    scale = ravel_pytree(solution)[0].size ** 0.5 if divides else 1.0
    algorithm = cls(
        config.population_size,
        solution,
        optimizer=optax.adam(config.lr),
        std_schedule=_schedule(config, scale),
        fitness_shaping_fn=centered_rank_fitness_shaping_fn,
    )
    return algorithm, algorithm.default_params


def _climber(cls: Callable[..., DistributionBasedAlgorithm], solution: Any, config: StrategyConfig) -> Built:
    """Build a search from the best member so far, with std by schedule."""
    algorithm = cls(config.population_size, solution, std_schedule=_schedule(config))
    return algorithm, algorithm.default_params


def _gradientless_descent(solution: Any, config: StrategyConfig) -> Built:
    algorithm = evosax.GradientlessDescent(config.population_size, solution)
    # std is the largest of its radii; the ratio to the smallest is evosax's.
    params = algorithm.default_params
    return algorithm, params.replace(
        radius_max=config.std, radius_min=config.std * params.radius_min / params.radius_max
    )


def _guided_es(solution: Any, config: StrategyConfig) -> Built:
    """Build Guided ES with 0 for the surrogate gradient that it is not given: evosax has NaN, which it reads as 0."""

    class WithoutGradient(evosax.GuidedES):
        def _ask(self, key: jax.Array, state: Any, params: Any) -> Any:
            population, state = super()._ask(key, state, params)
            return population, state.replace(grad=jnp.zeros_like(state.grad))

    WithoutGradient.__name__ = evosax.GuidedES.__name__
    return _gradient(WithoutGradient, solution, config, divides=True)


def _random_search(solution: Any, config: StrategyConfig) -> Built:
    flat, unravel = ravel_pytree(solution)

    def sample(key: jax.Array) -> Any:
        return unravel(flat + config.std * jax.random.normal(key, flat.shape, flat.dtype))

    algorithm = evosax.RandomSearch(config.population_size, solution, sampling_fn=sample)
    return algorithm, algorithm.default_params


def _iamalgam(cls: Any, solution: Any, config: StrategyConfig) -> Built:
    """Build iAMaLGaM with its covariance started at std^2; evosax starts at 1, and adds the schedule's std to it."""

    class FromStd(cls):
        def _init(self, key: jax.Array, params: Any) -> Any:
            state = super()._init(key, params)
            return state.replace(C=state.C * jnp.float32(config.std**2), std=jnp.float32(0.0))

    FromStd.__name__ = cls.__name__
    algorithm = FromStd(config.population_size, solution, std_schedule=lambda _: jnp.float32(0.0))
    return algorithm, algorithm.default_params


STRATEGIES: dict[str, Builder] = {
    "chaotic_es": _chaotic_es,
    "gaussian_es": _gaussian_es,
    "ars": partial(_gradient, evosax.ARS),
    "asebo": partial(_gradient, evosax.ASEBO, divides=True),
    "cma_es": partial(_adaptive, evosax.CMA_ES),
    "cr_fm_nes": partial(_adaptive, evosax.CR_FM_NES),
    "discovered_es": partial(_adaptive, evosax.DiscoveredES),
    "esmc": partial(_gradient, evosax.ESMC),
    "gradientless_descent": _gradientless_descent,
    "guided_es": _guided_es,
    "hill_climbing": partial(_climber, evosax.HillClimbing),
    "iamalgam_full": partial(_iamalgam, evosax.iAMaLGaM_Full),
    "iamalgam_univariate": partial(_iamalgam, evosax.iAMaLGaM_Univariate),
    "lm_ma_es": partial(_adaptive, evosax.LM_MA_ES),
    "ma_es": partial(_adaptive, evosax.MA_ES),
    "noise_reuse_es": partial(_gradient, evosax.NoiseReuseES),
    "open_es": partial(_gradient, evosax.Open_ES),
    "persistent_es": partial(_gradient, evosax.PersistentES),
    "pgpe": _pgpe,
    "random_search": _random_search,
    "rm_es": partial(_adaptive, evosax.Rm_ES),
    "sep_cma_es": partial(_adaptive, evosax.Sep_CMA_ES),
    "simple_es": partial(_adaptive, evosax.SimpleES),
    "simulated_annealing": partial(_climber, evosax.SimulatedAnnealing),
    "snes": partial(_adaptive, evosax.SNES),
    "xnes": _xnes,
}

# Settings of ours that are traced: programs do not depend on them.
_TRACED = (
    "std",
    "std_decay",
    "std_limit",
    "std_rate",
    "alpha_end",
    "alpha_horizon",
    "alpha_rate",
    "mean_lr",
    "elite_ratio",
)
_DEFAULTS = StrategyConfig()
# Mirrored sampling.
EVEN = ("ars", "asebo", "cr_fm_nes", "esmc", "guided_es", "noise_reuse_es", "open_es", "persistent_es", "pgpe")
LEFT_OUT = {
    "cma_anchored_les": "it loads pickled weights",
    "evotf_es": "it loads pickled weights",
    "learned_es": "it loads pickled weights",
    "sv_cma_es": "it keeps several means",
    "sv_open_es": "it keeps several means",
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
    name = canonical(name, (*STRATEGIES, *LEFT_OUT))
    if name in LEFT_OUT:
        raise UserError(
            f"strategy {name!r} of evosax is not offered: {LEFT_OUT[name]}; choose from {', '.join(names())}"
        )
    if name not in STRATEGIES:
        raise unknown("strategy", name, STRATEGIES)
    size = config.population_size
    require(
        name not in EVEN or size % 2 == 0,
        f"population_size is {size}, expected an even number for {name} (mirrored sampling)",
    )
    require(name != "esmc" or size >= 4, f"population_size is {size}, expected at least 4 for esmc")
    if name == "lm_ma_es":  # its learning rate population_size / num_dims must not exceed 1
        num_dims = sum(np.size(leaf) for leaf in jax.tree.leaves(solution))
        require(
            size <= num_dims,
            f"population_size is {size}, expected at most the number of parameters ({num_dims}) for lm_ma_es",
        )
    return STRATEGIES[name](solution, config)


def untraced(name: str, config: StrategyConfig) -> StrategyConfig:
    """Return `config` with the settings that `create` hands on as traced numbers at their defaults.

    Configs for which this is the same share compiled programs, which take the numbers as params.
    """
    if name not in ("chaotic_es", "gaussian_es"):
        return config
    return dataclasses.replace(config, **{field: getattr(_DEFAULTS, field) for field in _TRACED})
