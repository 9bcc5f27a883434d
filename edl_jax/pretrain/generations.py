"""Generations of stage 1 as one compiled program, for one run or for many independent ones at once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from edl_jax import strategies
from edl_jax.backend.memory import require_fit
from edl_jax.loss.networks.kinds import init as init_network
from edl_jax.loss.quick import quick_options
from edl_jax.pretrain.config import ObjectiveConfig, PretrainConfig
from edl_jax.pretrain.objective import Batch, draw, fitness, report
from edl_jax.strategies import StrategyConfig

TEST_PAIRS = 16_384
# Members times pairs of a generation that are little work.
_FEW = 4096


class Search(NamedTuple):
    """Everything that a run carries from generation to generation.

    Attributes:
      strategy: state of the strategy.
      generation: scalar int32, generations done.
      best: `[num_dims]` the solution with the lowest fitness on the held-out batch so far.
      best_fitness: scalar, its fitness there.
    """

    strategy: Any
    generation: jax.Array
    best: jax.Array
    best_fitness: jax.Array


class Inputs(NamedTuple):
    """What stays the same through a run, a function of its key.

    Attributes:
      key: every generation's keys are folded from it, so that a run continued from a stored Search gives the numbers of
        an uninterrupted one.
      held_out: the fixed batch on which candidates are re-scored.
    """

    key: jax.Array
    held_out: Batch


class Evolution(NamedTuple):
    """The compiled parts of R runs; every array has a leading axis of runs `[R, ...]`.

    Attributes:
      init: keys `[R]` -> (Search, Inputs).
      evolve: (Search, Inputs, count) -> (Search, metrics): `count` generations, at most `chunk`; each metric is
        `[R, chunk]`, of which the first `count` hold. The given Search is donated; any count is the same program.
      compile: R -> `evolve` compiled for R runs, once.
      compile_others: R -> None, compiles `init` for R runs and `assess`, so that a thread can do that meanwhile.
      assess: (key, `[num_dims]`) -> (report and fitness of one solution on a fresh batch of `TEST_PAIRS` pairs, the
        severities `[L, V]` of that batch).
      unravel: `[num_dims]` -> parameters of the loss network.
      num_dims: number of parameters.
    """

    init: Callable[[jax.Array], tuple[Search, Inputs]]
    evolve: Callable[[Search, Inputs, jax.Array], tuple[Search, dict[str, jax.Array]]]
    compile: Callable[[int], "CompiledChunk"]
    compile_others: Callable[[int], None]
    assess: Callable[[jax.Array, jax.Array], tuple[dict[str, jax.Array], jax.Array]]
    unravel: Callable[[jax.Array], Any]
    num_dims: int


class CompiledChunk(NamedTuple):
    """`Evolution.evolve`, compiled.

    Attributes:
      program: the compiled program, for its analyses.
      params: the strategy's traced hyper-parameters, which the program takes.
    """

    program: jax.stages.Compiled
    params: Any

    def __call__(self, search: Search, inputs: Inputs, count: jax.Array) -> tuple[Search, dict[str, jax.Array]]:
        """Run `count` generations."""
        return self.program(search, inputs, count, self.params)


def make_evolution(config: PretrainConfig, *, chunk: int, quick: bool = False) -> Evolution:
    """Build the evolution of a config. Configs share its programs that differ only in numbers which are traced.

    Such numbers are seeds, numbers of generations, and in ChaoticES std, its rates and the recombination weights.

    Args:
      config: what to run.
      chunk: most generations per call of evolve.
      quick: compile quickly rather than well: see `is_little_work`. A run of a batch then differs from the
        single run of its seed by rounding.

    Raises:
      UserError: a setting that the strategy refuses.
    """
    objective = config.objective
    flat, unravel = _template(objective)
    _, params = strategies.create(config.strategy, flat, config.es)
    programs = _programs(objective, config.strategy, strategies.untraced(config.strategy, config.es), chunk, quick)

    def init(keys: jax.Array) -> tuple[Search, Inputs]:
        if isinstance(keys, jax.core.Tracer):  # the shapes alone are asked for
            solutions, search_keys, inputs = _starter(objective, config.held_out_pairs)(keys)
            return programs.init(search_keys, solutions, params), inputs
        start, init_strategy = programs.compile_init(keys.shape[0], config.held_out_pairs)
        solutions, search_keys, inputs = start(keys)
        return init_strategy(search_keys, solutions, params), inputs

    def compile_others(runs: int) -> None:
        programs.compile_init(runs, config.held_out_pairs)
        _compile_assess(objective)

    return Evolution(
        init=init,
        evolve=lambda search, inputs, count: programs.evolve(search, inputs, count, params),
        compile=lambda runs: CompiledChunk(programs.compile(runs, config.held_out_pairs), params),
        compile_others=compile_others,
        assess=lambda key, solution: _compile_assess(objective)(key, solution),
        unravel=unravel,
        num_dims=flat.size,
    )


def is_little_work(config: PretrainConfig) -> bool:
    """Return whether optimising the code of a generation takes longer than it saves."""
    return config.es.population_size * config.num_pairs <= _FEW


def compile_chunk(evolution: Evolution, runs: int, population_size: int) -> CompiledChunk:
    """Return the compiled `evolve` of R runs, after checking that it fits in memory.

    Raises:
      UserError: it does not fit.
    """
    compiled = evolution.compile(runs)
    require_fit(compiled.program, runs, population_size)
    return compiled


def clear_programs() -> None:
    """Forget the programs that evolutions share, as `jax.clear_caches` does: to measure a first compilation."""
    _programs.cache_clear()
    _compile_start.cache_clear()
    _compile_assess.cache_clear()


class _Programs(NamedTuple):
    """What evolutions that differ only in traced numbers share; see `Evolution`."""

    init: Callable[[jax.Array, jax.Array, Any], Search]
    evolve: Callable[[Search, Inputs, jax.Array, Any], tuple[Search, dict[str, jax.Array]]]
    compile: Callable[[int, int], jax.stages.Compiled]
    compile_init: Callable[[int, int], tuple[jax.stages.Compiled, jax.stages.Compiled]]


@functools.lru_cache(maxsize=64)
def _programs(objective: ObjectiveConfig, strategy: str, es: StrategyConfig, chunk: int, quick: bool) -> _Programs:
    flat, unravel = _template(objective)
    # A flat solution: members are unravelled once, where the network needs them.
    algorithm, some_params = strategies.create(strategy, flat, es)

    @jax.jit
    def init(keys: jax.Array, solutions: jax.Array, params: Any) -> Search:
        def one(key: jax.Array, solution: jax.Array) -> Search:
            with jax.numpy_rank_promotion("allow"):
                state = algorithm.init(key, solution, params)
            return Search(
                strategy=_strong(_without_placeholders(state)),
                generation=jnp.zeros((), jnp.int32),
                best=solution,
                best_fitness=jnp.full((), jnp.finfo(jnp.float32).max, jnp.float32),
            )

        return jax.lax.map(lambda run: one(*run), (keys, solutions))

    # Compiled inline, so that asking for the shapes of its metrics traces it no second time.
    @functools.partial(jax.jit, inline=True)
    def step(search: Search, inputs: Inputs, params: Any) -> tuple[Search, dict[str, jax.Array]]:
        ask_key, batch_key, tell_key = jax.random.split(jax.random.fold_in(inputs.key, search.generation), 3)
        with jax.numpy_rank_promotion("allow"):  # evosax adds vectors to matrices
            population, state = algorithm.ask(ask_key, search.strategy, params)
        scores, _ = fitness(objective, jax.vmap(unravel)(population), draw(batch_key, objective, objective.num_pairs))
        with jax.numpy_rank_promotion("allow"):
            state, _ = algorithm.tell(tell_key, population, scores, state, params)

        # The population's minimum on a noisy fresh batch is biased: candidates are re-scored on a fixed one.
        first = jnp.argmin(jnp.where(jnp.isnan(scores), jnp.inf, scores))
        candidates = jnp.stack([state.mean, population[first], search.best])
        held_out_fitness, values = fitness(objective, jax.vmap(unravel)(candidates), inputs.held_out)
        held_out_fitness = jnp.where(jnp.isnan(held_out_fitness), jnp.inf, held_out_fitness)
        # The best so far comes last, so that only a strictly better candidate replaces it.
        order = jnp.array([2, 0, 1])
        winner = order[jnp.argmin(held_out_fitness[order])]
        best, best_fitness = candidates[winner], held_out_fitness[winner]
        metrics = {
            "generation": search.generation + 1,
            "fitness_best": best_fitness,
            "fitness_mean": jnp.nanmean(scores),
            "fitness_of_mean": held_out_fitness[0],
            **report(objective, unravel(best), values[winner], inputs.held_out),
            "population_spread": jnp.mean(jnp.std(population, axis=0)),
        }
        return Search(_strong(state), search.generation + 1, best, best_fitness), metrics

    def evolve_one(
        search: Search, inputs: Inputs, count: jax.Array, params: Any
    ) -> tuple[Search, dict[str, jax.Array]]:
        shapes = jax.eval_shape(step, search, inputs, params)[1]
        rows = {name: jnp.zeros((chunk, *leaf.shape), leaf.dtype) for name, leaf in shapes.items()}

        def body(i: jax.Array, carry: tuple[Search, dict[str, jax.Array]]) -> tuple[Search, dict[str, jax.Array]]:
            search, rows = carry
            search, metrics = step(search, inputs, params)
            return search, {name: rows[name].at[i].set(metrics[name]) for name in rows}

        return jax.lax.fori_loop(0, count, body, (search, rows))

    @functools.partial(jax.jit, donate_argnums=0)
    def evolve(searches: Search, inputs: Inputs, count: jax.Array, params: Any) -> tuple[Search, dict[str, jax.Array]]:
        # A CPU has no fast kernel for a batch of matrix products: there runs follow one another in the program.
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda run: evolve_one(run[0], run[1], count, params), (searches, inputs))
        return jax.vmap(evolve_one, in_axes=(0, 0, None, None))(searches, inputs, count, params)

    options = quick_options() if quick else {}

    @functools.cache
    def compile_init(runs: int, held_out_pairs: int) -> tuple[jax.stages.Compiled, jax.stages.Compiled]:
        start = _compile_start(objective, runs, held_out_pairs, quick)
        solutions, search_keys, _ = start.out_info
        lowered = init.lower(search_keys, solutions, some_params)
        return start, lowered.compile(compiler_options=options)

    @functools.cache
    def compile_runs(runs: int, held_out_pairs: int) -> jax.stages.Compiled:
        solutions, search_keys, inputs = jax.eval_shape(_starter(objective, held_out_pairs), _key_shapes(runs))
        search = jax.eval_shape(init, search_keys, solutions, some_params)
        lowered = evolve.lower(search, inputs, jax.ShapeDtypeStruct((), jnp.int32), some_params)
        return lowered.compile(compiler_options=options)

    return _Programs(init, evolve, compile_runs, compile_init)


def _key_shapes(runs: int) -> Any:
    return jax.eval_shape(lambda: jax.vmap(jax.random.key)(jnp.zeros(runs, jnp.int32)))


def _strong(state: Any) -> Any:
    """Return a state of strong dtypes, as in a restored checkpoint: evosax's are partly weak, another program."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state)


def _without_placeholders(state: Any) -> Any:
    """Return a first state with finite numbers for what evosax does not know yet: NaN reads 0, infinity the largest.

    No strategy computes with them, but jax_debug_nans and jax_debug_infs take them for faults.
    """

    def finite(leaf: Any) -> jax.Array:
        leaf = jnp.asarray(leaf)
        return jnp.nan_to_num(leaf) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf

    return jax.tree.map(finite, state)


def _template(objective: ObjectiveConfig) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Return (`[num_dims]` zeros, its inverse: `[num_dims]` -> parameters of the loss network)."""
    shapes = jax.eval_shape(lambda key: init_network(key, objective.network, objective.num_classes), jax.random.key(0))
    return ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))


def _starter(
    objective: ObjectiveConfig, held_out_pairs: int
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array, Inputs]]:
    """Return keys of runs `[R]` -> (first solutions `[R, num_dims]`, keys of the strategies `[R]`, inputs)."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, Inputs]:
        network_key, search_key, generation_key, held_out_key = jax.random.split(key, 4)
        solution, _ = ravel_pytree(init_network(network_key, objective.network, objective.num_classes))
        return solution, search_key, Inputs(generation_key, draw(held_out_key, objective, held_out_pairs))

    def start(keys: jax.Array) -> tuple[jax.Array, jax.Array, Inputs]:
        return jax.lax.map(one, keys)

    return start


# What does not depend on the strategy is compiled once for all programs of an objective.
@functools.lru_cache(maxsize=64)
def _compile_start(objective: ObjectiveConfig, runs: int, held_out_pairs: int, quick: bool) -> jax.stages.Compiled:
    lowered = jax.jit(_starter(objective, held_out_pairs)).lower(_key_shapes(runs))
    return lowered.compile(compiler_options=quick_options() if quick else {})


@functools.lru_cache(maxsize=64)
def _compile_assess(objective: ObjectiveConfig) -> jax.stages.Compiled:
    """Compile `Evolution.assess`, quickly rather than well: it runs once for each run."""

    def assess(key: jax.Array, solution: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        batch, params = draw(key, objective, TEST_PAIRS), unravel(solution)
        scores, values = fitness(objective, jax.tree.map(lambda x: x[None], params), batch)
        return {"fitness": scores[0], **report(objective, params, values[0], batch)}, batch.severity

    flat, unravel = _template(objective)
    key = jax.eval_shape(lambda: jax.random.key(0))
    lowered = jax.jit(assess).lower(key, jax.ShapeDtypeStruct(flat.shape, flat.dtype))
    return lowered.compile(compiler_options=quick_options())
