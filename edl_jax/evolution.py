"""Generations of stage 1 as one compiled program, for one run or for many independent ones at once."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from edl_jax.loss._network import init as init_network
from edl_jax.objective import Batch, Task, draw, fitness, report
from edl_jax.strategies import StrategyConfig, create

TEST_PAIRS = 16_384


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


class Program(NamedTuple):
    """The parts of R runs, jitted; every array has a leading axis of runs `[R, ...]`.

    Attributes:
      init: keys `[R]` -> (Search, Inputs).
      evolve: (Search, Inputs, count) -> (Search, metrics): `count` generations, at most `chunk`; each metric is
        `[R, chunk]`, of which the first `count` hold. The given Search is donated; any count is the same program.
      assess: (key, `[num_dims]`) -> (report and fitness of one solution on a fresh batch of `TEST_PAIRS` pairs, the
        severities `[L, V]` of that batch).
      unravel: `[num_dims]` -> parameters of the loss network.
      num_dims: number of parameters.
    """

    init: Callable[[jax.Array], tuple[Search, Inputs]]
    evolve: Callable[[Search, Inputs, jax.Array], tuple[Search, dict[str, jax.Array]]]
    assess: Callable[[jax.Array, jax.Array], tuple[dict[str, jax.Array], jax.Array]]
    unravel: Callable[[jax.Array], Any]
    num_dims: int


def make_program(task: Task, strategy: str, es: StrategyConfig, *, chunk: int, held_out_pairs: int) -> Program:
    """Build the program of a task and a strategy; seeds and numbers of generations share it.

    Args:
      task: what is minimised.
      strategy: name of the strategy.
      es: its settings.
      chunk: most generations per call of evolve.
      held_out_pairs: pairs in the fixed batch that candidates are re-scored on.

    Raises:
      UserError: unknown strategy or a setting that it refuses.
    """
    flat, unravel = _template(task)
    # A flat solution: members are unravelled once, where the network needs them.
    algorithm, es_params = create(strategy, flat, es)

    @jax.jit
    def init_strategy(keys: jax.Array, solutions: jax.Array) -> Search:
        def one(key: jax.Array, solution: jax.Array) -> Search:
            state = algorithm.init(key, solution, es_params)
            return Search(
                strategy=_strong(state),
                generation=jnp.zeros((), jnp.int32),
                best=solution,
                best_fitness=jnp.full((), jnp.inf, jnp.float32),
            )

        return jax.lax.map(lambda run: one(*run), (keys, solutions))

    def init(keys: jax.Array) -> tuple[Search, Inputs]:
        solutions, search_keys, inputs = _start(keys, task, held_out_pairs)
        return init_strategy(search_keys, solutions), inputs

    def step(search: Search, inputs: Inputs) -> tuple[Search, dict[str, jax.Array]]:
        ask_key, batch_key, tell_key = jax.random.split(jax.random.fold_in(inputs.key, search.generation), 3)
        population, state = algorithm.ask(ask_key, search.strategy, es_params)
        scores, _ = fitness(task, jax.vmap(unravel)(population), draw(batch_key, task, task.num_pairs))
        state, _ = algorithm.tell(tell_key, population, scores, state, es_params)

        # The population's minimum on a noisy fresh batch is biased: candidates are re-scored on a fixed one.
        first = jnp.argmin(jnp.where(jnp.isnan(scores), jnp.inf, scores))
        candidates = jnp.stack([state.mean, population[first], search.best])
        held_out_fitness, values = fitness(task, jax.vmap(unravel)(candidates), inputs.held_out)
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
            **report(task, unravel(best), values[winner], inputs.held_out),
            "population_spread": jnp.mean(jnp.std(population, axis=0)),
        }
        return Search(_strong(state), search.generation + 1, best, best_fitness), metrics

    def evolve(search: Search, inputs: Inputs, count: jax.Array) -> tuple[Search, dict[str, jax.Array]]:
        shapes = jax.eval_shape(step, search, inputs)[1]
        rows = {name: jnp.zeros((chunk, *leaf.shape), leaf.dtype) for name, leaf in shapes.items()}

        def body(i: jax.Array, carry: tuple[Search, dict[str, jax.Array]]) -> tuple[Search, dict[str, jax.Array]]:
            search, rows = carry
            search, metrics = step(search, inputs)
            return search, {name: rows[name].at[i].set(metrics[name]) for name in rows}

        return jax.lax.fori_loop(0, count, body, (search, rows))

    def evolve_runs(searches: Search, inputs: Inputs, count: jax.Array) -> tuple[Search, dict[str, jax.Array]]:
        # A CPU has no fast kernel for a batch of matrix products: there runs follow one another in the program.
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda run: evolve(run[0], run[1], count), (searches, inputs))
        return jax.vmap(evolve, in_axes=(0, 0, None))(searches, inputs, count)

    return Program(
        init,
        jax.jit(evolve_runs, donate_argnums=0),
        lambda key, solution: _assess(key, solution, task),
        unravel,
        flat.size,
    )


def _strong(state: Any) -> Any:
    """Return a state of strong dtypes, as in a restored checkpoint: evosax's are partly weak, another program."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state)


def _template(task: Task) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """Return (`[num_dims]` zeros, its inverse: `[num_dims]` -> parameters of the loss network)."""
    shapes = jax.eval_shape(lambda key: init_network(key, task.network, task.num_classes), jax.random.key(0))
    return ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))


# What does not depend on the strategy is compiled once for all programs of a task.
@functools.partial(jax.jit, static_argnums=(1, 2))
def _start(keys: jax.Array, task: Task, held_out_pairs: int) -> tuple[jax.Array, jax.Array, Inputs]:
    """Return (first solutions `[R, num_dims]`, keys of the strategies `[R]`, inputs) of runs with keys `[R]`."""

    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, Inputs]:
        network_key, search_key, generation_key, held_out_key = jax.random.split(key, 4)
        solution, _ = ravel_pytree(init_network(network_key, task.network, task.num_classes))
        return solution, search_key, Inputs(generation_key, draw(held_out_key, task, held_out_pairs))

    return jax.lax.map(one, keys)


@functools.partial(jax.jit, static_argnums=2)
def _assess(key: jax.Array, solution: jax.Array, task: Task) -> tuple[dict[str, jax.Array], jax.Array]:
    """Return (report and fitness of one solution on fresh pairs, their severities `[L, V]`)."""
    batch, params = draw(key, task, TEST_PAIRS), _template(task)[1](solution)
    scores, values = fitness(task, jax.tree.map(lambda x: x[None], params), batch)
    return {"fitness": scores[0], **report(task, params, values[0], batch)}, batch.severity
