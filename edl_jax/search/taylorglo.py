"""TaylorGLO (Gonzalez and Miikkulainen 2021, arXiv 2002.00059): eight coefficients, searched for by CMA-ES.

    state = init(config, seed)
    while state.generation < config.generations:
        thetas = ask(config, state)
        tables = tables_of_expressions([expression(theta, config.variant) for theta in thetas])
        state = tell(config, state, fitness_of(tables))

A loss is a third-order polynomial of label and prediction about a point, of which the terms that have a gradient are
kept. Its expression is the artifact: the formula and nothing else.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import UserError, require, unknown
from edl_jax.loss.expression import Expression, P, Y, apply, constant
from edl_jax.strategies import StrategyConfig, create

SIZE = 8
"""Coefficients of a loss."""


@dataclasses.dataclass(frozen=True)
class TaylorConfig:
    """Settings of TaylorGLO's search; the defaults are those of most of the authors' configurations."""

    variant: str = "taylorglo"
    """Form of the loss: taylorglo, or evomal_taylor as EvoMAL's released code has it, label and prediction swapped."""
    population_size: int = 20
    """Losses per generation; EvoMAL's comparison has 25."""
    generations: int = 50
    """Generations; the authors go up to 100."""
    std: float = 1.2
    """Standard deviation of the first generation about 0."""

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise unknown("TaylorGLO variant", self.variant, VARIANTS)
        require(self.population_size >= 4, f"population_size is {self.population_size}, expected at least 4 for CMA-ES")
        require(self.generations >= 1, f"generations is {self.generations}, expected at least 1")
        require(0.0 < self.std < np.inf, f"std is {self.std}, expected a positive number")


@dataclasses.dataclass(frozen=True)
class TaylorState:
    """State between two generations.

    Attributes:
      seed: of the search; with the generation it makes the random numbers.
      generation: of the losses that `ask` returns, from 0.
      strategy: state of CMA-ES.
      best: `[8]` coefficients of the best loss, or None where none had a finite fitness.
      best_fitness: its fitness.
      best_generation: its generation.
    """

    seed: int
    generation: int
    strategy: Any
    best: tuple[float, ...] | None = None
    best_fitness: float = np.inf
    best_generation: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the state as data that JSON can hold, exactly."""
        arrays = flax.serialization.to_state_dict(jax.tree.map(np.asarray, self.strategy))
        return {
            "seed": self.seed,
            "generation": self.generation,
            "strategy": {
                name: {"dtype": str(x.dtype), "shape": list(x.shape), "bytes": x.tobytes().hex()}
                for name, x in arrays.items()
            },
            "best": None if self.best is None else list(self.best),
            "best_fitness": None if self.best is None else self.best_fitness,
            "best_generation": self.best_generation,
        }

    @classmethod
    def from_dict(cls, config: TaylorConfig, data: Mapping[str, Any]) -> "TaylorState":
        """Return the state that `to_dict` gave.

        Raises:
          UserError: the data are not those of a state of this search.
        """
        fresh = init(config, 0).strategy
        try:
            arrays = {
                name: np.frombuffer(bytes.fromhex(x["bytes"]), x["dtype"]).reshape(x["shape"])
                for name, x in data["strategy"].items()
            }
            strategy = flax.serialization.from_state_dict(fresh, jax.tree.map(jnp.asarray, arrays))
            if jax.tree.map(np.shape, strategy) != jax.tree.map(np.shape, fresh):
                raise ValueError("its arrays have other shapes")
            best = data["best"]
            fitness = np.inf if best is None else float(data["best_fitness"])
            best = None if best is None else tuple(float(x) for x in best)
            numbers = (int(data[name]) for name in ("seed", "generation", "best_generation"))
            seed, generation, best_generation = numbers
            return cls(seed, generation, strategy, best, fitness, best_generation)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"this is no state of a search ({type(error).__name__}: {error}): start the search again"
            ) from error

    def to_json(self) -> str:
        """Return the state as text."""
        return json.dumps(self.to_dict(), allow_nan=False)


def init(config: TaylorConfig, seed: int) -> TaylorState:
    """Return the state of the first generation, CMA-ES about 0."""
    require(seed >= 0, f"seed is {seed}, expected at least 0")
    algorithm, params = _strategy(config.population_size, config.std)
    with jax.numpy_rank_promotion("allow"):
        return TaylorState(seed, 0, algorithm.init(jax.random.key(seed), jnp.zeros(SIZE), params))


def ask(config: TaylorConfig, state: TaylorState) -> np.ndarray:
    """Return the coefficients of a generation, `[P, 8]` float32; the same for the same state."""
    return np.asarray(_population(config, state)[0])


def tell(config: TaylorConfig, state: TaylorState, fitness: Sequence[float] | np.ndarray) -> TaylorState:
    """Return the state of the next generation.

    Args:
      config: settings.
      state: state.
      fitness: `[P]`, the smaller, the better; infinity or NaN for a loss that did not train.
    """
    values = np.asarray(fitness, np.float32)
    require(
        values.shape == (config.population_size,),
        f"fitness has shape {values.shape}, expected ({config.population_size},): one a loss",
    )
    values = np.where(np.isfinite(values), values, np.float32(np.inf))
    algorithm, params = _strategy(config.population_size, config.std)
    population, strategy = _population(config, state)
    key = jax.random.fold_in(_key(state), 1)
    with jax.numpy_rank_promotion("allow"):  # evosax adds vectors to matrices
        strategy, _ = algorithm.tell(key, population, jnp.asarray(values), strategy, params)
    best = (state.best, state.best_fitness, state.best_generation)
    i = int(np.argmin(values))
    if values[i] < state.best_fitness:
        best = (tuple(float(x) for x in population[i]), float(values[i]), state.generation)
    return TaylorState(state.seed, state.generation + 1, strategy, *best)


def expression(theta: Sequence[float] | np.ndarray, variant: str = "taylorglo") -> Expression:
    """Return the loss of coefficients: the expression that is summed over the classes.

    With d = p - theta_1 and s = y - theta_0, `taylorglo`, as the authors' code has it (coefficients hold factorials):

        -(theta_2 d + theta_3 d^2 + theta_4 d^3 + theta_5 s d + theta_6 s d^2 + theta_7 s^2 d)

    (`loss.get("taylor_glo")` is the paper's polynomial, with factorials, divided by C.) With e = y - theta_1 and
    f = p - theta_0, `evomal_taylor`, of which theta_2 to theta_4 do nothing to a network:

        theta_2 e + theta_3 e^2 / 2 + theta_4 e^3 / 6 + theta_5 f e + theta_6 f e^2 / 2 + theta_7 f^2 (y - theta_0) / 2

    Args:
      theta: `[8]` finite numbers.
      variant: `taylorglo` or `evomal_taylor`.

    Raises:
      UserError: another number of coefficients, one that is not finite, or an unknown variant.
    """
    numbers = [float(x) for x in theta]
    require(len(numbers) == SIZE and all(np.isfinite(numbers)), f"theta is {numbers}, expected {SIZE} finite numbers")
    if variant not in VARIANTS:
        raise unknown("TaylorGLO variant", variant, VARIANTS)
    return VARIANTS[variant](numbers)


def _original(t: list[float]) -> Expression:
    d, s = _less(P, t[1]), _less(Y, t[0])
    alone = _add(constant(-t[2]), _mul(d, _add(constant(-t[3]), _mul(constant(-t[4]), d))))
    joint = _add(constant(-t[5]), _add(_mul(constant(-t[6]), d), _mul(constant(-t[7]), s)))
    return _mul(d, _add(alone, _mul(s, joint)))


def _swapped(t: list[float]) -> Expression:
    e, f, s = _less(Y, t[1]), _less(P, t[0]), _less(Y, t[0])
    alone = _add(constant(t[2]), _mul(e, _add(constant(t[3] / 2.0), _mul(constant(t[4] / 6.0), e))))
    joint = _mul(f, _add(constant(t[5]), _mul(constant(t[6] / 2.0), e)))
    return _add(_mul(e, _add(alone, joint)), _mul(constant(t[7] / 2.0), _mul(apply("square", f), s)))


_add, _mul = functools.partial(apply, "add"), functools.partial(apply, "mul")


def _less(terminal: Expression, centre: float) -> Expression:
    return apply("sub", terminal, constant(centre))


VARIANTS: dict[str, Callable[[list[float]], Expression]] = {"taylorglo": _original, "evomal_taylor": _swapped}
"""Forms of the loss, by name."""


@functools.cache
def _strategy(population_size: int, std: float) -> tuple[Any, Any]:
    settings = StrategyConfig(population_size=population_size, std=std)
    return create("cma_es", jnp.zeros(SIZE), settings)


def _key(state: TaylorState) -> jax.Array:
    return jax.random.fold_in(jax.random.key(state.seed), state.generation)


def _population(config: TaylorConfig, state: TaylorState) -> tuple[jax.Array, Any]:
    algorithm, params = _strategy(config.population_size, config.std)
    with jax.numpy_rank_promotion("allow"):
        return algorithm.ask(jax.random.fold_in(_key(state), 0), state.strategy, params)
