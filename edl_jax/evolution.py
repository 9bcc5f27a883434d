"""One generation of stage 1, and a chunk of generations as one compiled program."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from edl_jax.loss._network import NetworkConfig, hard_label_loss, init as init_network
from edl_jax.strategies import StrategyConfig, create
from edl_jax.synthetic import MixtureConfig, kendall_tau, ranking_accuracy, ranking_fitness, sample_pairs
from edl_jax.synthetic.gradients import network_gradients, penalty
from edl_jax.synthetic.severity import Severity

# Predictions on which the regularisers and the gradient report are computed.
_GRADIENT_SAMPLE = 256
# Predictions in the Kendall tau report: its cost is quadratic.
_TAU_SAMPLE = 512
TEST_PAIRS = 16_384


class Task(NamedTuple):
    """What evolution minimises.

    Attributes:
      network: architecture of the loss network.
      mixture: distribution of the predictions.
      severity: what makes a prediction worse.
      num_classes: C.
      num_pairs: pairs per generation.
      beta: sharpness of the ranking objective.
      margin: margin m of the ranking objective.
      wrong_way: weight of that regulariser.
      exploding: weight of that regulariser.
      roughness: weight of that regulariser.
    """

    network: NetworkConfig
    mixture: MixtureConfig
    severity: Severity
    num_classes: int
    num_pairs: int
    beta: float
    margin: float
    wrong_way: float
    exploding: float
    roughness: float


class Batch(NamedTuple):
    """Pairs of predictions: labels `[N]`, log-probabilities `[N, C]`, severities `[N]`."""

    labels: jax.Array
    log_p_a: jax.Array
    log_p_b: jax.Array
    severity_a: jax.Array
    severity_b: jax.Array


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


def draw(key: jax.Array, task: Task, num_pairs: int) -> Batch:
    """Draw a batch of pairs."""
    labels, log_p_a, log_p_b = sample_pairs(key, task.mixture, task.num_classes, num_pairs)
    return Batch(labels, log_p_a, log_p_b, task.severity(log_p_a, labels), task.severity(log_p_b, labels))


def pair_losses(task: Task, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return the losses `[N]` of both predictions of each pair."""
    loss_a = hard_label_loss(task.network, params, batch.log_p_a, batch.labels)
    return loss_a, hard_label_loss(task.network, params, batch.log_p_b, batch.labels)


def fitness(task: Task, params: Any, batch: Batch) -> jax.Array:
    """Return the fitness of one loss network on a batch: ranking objective plus regularisers, minimised."""
    loss_a, loss_b = pair_losses(task, params, batch)
    objective = ranking_fitness(loss_a, loss_b, batch.severity_a, batch.severity_b, beta=task.beta, margin=task.margin)
    count = min(_GRADIENT_SAMPLE, batch.labels.shape[0])
    return objective + penalty(
        task.network,
        params,
        batch.log_p_a[:count],
        batch.labels[:count],
        wrong_way=task.wrong_way,
        exploding=task.exploding,
        roughness=task.roughness,
        log_p_min=task.mixture.log_p_min,
    )


def report(task: Task, params: Any, batch: Batch) -> dict[str, jax.Array]:
    """Return the held-out report of one loss network, scalars."""
    loss_a, loss_b = pair_losses(task, params, batch)
    count = min(_GRADIENT_SAMPLE, batch.labels.shape[0])
    labels, log_p = batch.labels[:count], batch.log_p_a[:count]
    gradients = network_gradients(task.network, params, log_p, labels)
    y = jax.nn.one_hot(labels, log_p.shape[-1], dtype=log_p.dtype)
    cross_entropy_norm = jnp.linalg.norm(jnp.exp(log_p) - y, axis=-1)
    return {
        "ranking_accuracy": ranking_accuracy(loss_a, loss_b, batch.severity_a, batch.severity_b),
        "kendall_tau": kendall_tau(loss_a[:_TAU_SAMPLE], batch.severity_a[:_TAU_SAMPLE]),
        "wrong_way_share": jnp.mean(gradients.wrong_way > 0.0),
        "gradient_norm_ratio": jnp.mean(gradients.norm) / jnp.mean(cross_entropy_norm),
    }


class Program(NamedTuple):
    """The compiled parts of a run.

    Attributes:
      init: () -> Search.
      evolve: Search -> (Search, metrics): one chunk of generations; each metric `[chunk]`, the ones beyond the
        last generation are to be dropped. The given Search is donated.
      assess: (key, `[num_dims]`) -> report and fitness of one solution on a fresh batch of `TEST_PAIRS` pairs.
      unravel: `[num_dims]` -> parameters of the loss network.
      num_dims: number of parameters.
    """

    init: Callable[[], Search]
    evolve: Callable[[Search], tuple[Search, dict[str, jax.Array]]]
    assess: Callable[[jax.Array, jax.Array], dict[str, jax.Array]]
    unravel: Callable[[jax.Array], Any]
    num_dims: int


def make_program(
    task: Task, strategy: str, es: StrategyConfig, *, seed: int, generations: int, chunk: int, held_out_pairs: int
) -> Program:
    """Build the program of a run.

    Every random number follows from (seed, generation), so that a run continued from a stored Search gives
    the numbers of an uninterrupted one.

    Args:
      task: what is minimised.
      strategy: name of the strategy.
      es: its settings.
      seed: seed of the run.
      generations: G, the last generation; evolve does nothing beyond it.
      chunk: generations per call of evolve.
      held_out_pairs: pairs in the fixed batch that candidates are re-scored on.

    Raises:
      UserError: unknown strategy or a setting that it refuses.
    """
    network_key, search_key, generation_key, held_out_key = jax.random.split(jax.random.key(seed), 4)
    params = jax.jit(init_network, static_argnums=1)(network_key, task.network)
    solution, unravel = ravel_pytree(params)
    algorithm, es_params = create(strategy, params, es)
    evaluate = jax.vmap(lambda member, batch: fitness(task, member, batch), in_axes=(0, None))

    @jax.jit
    def init() -> Search:
        state = algorithm.init(search_key, params, es_params)
        return Search(
            # Strong dtypes, as in a restored checkpoint: evosax's own states start weakly typed, another program.
            strategy=jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), state),
            generation=jnp.zeros((), jnp.int32),
            best=solution,
            best_fitness=jnp.full((), jnp.inf, jnp.float32),
        )

    def step(search: Search, held_out: Batch) -> tuple[Search, dict[str, jax.Array]]:
        ask_key, batch_key, tell_key = jax.random.split(jax.random.fold_in(generation_key, search.generation), 3)
        population, state = algorithm.ask(ask_key, search.strategy, es_params)
        scores = evaluate(population, draw(batch_key, task, task.num_pairs))
        state, _ = algorithm.tell(tell_key, population, scores, state, es_params)

        # The population's minimum on a noisy fresh batch is biased: candidates are re-scored on a fixed one.
        flat = jax.vmap(lambda member: ravel_pytree(member)[0])(population)
        first = jnp.argmin(jnp.where(jnp.isnan(scores), jnp.inf, scores))
        candidates = jnp.stack([state.mean, flat[first]])
        candidate_fitness = evaluate(jax.vmap(unravel)(candidates), held_out)
        candidate_fitness = jnp.where(jnp.isnan(candidate_fitness), jnp.inf, candidate_fitness)
        winner = jnp.argmin(candidate_fitness)
        better = candidate_fitness[winner] < search.best_fitness
        best = jnp.where(better, candidates[winner], search.best)
        best_fitness = jnp.where(better, candidate_fitness[winner], search.best_fitness)

        metrics = {
            "generation": search.generation + 1,
            "fitness_best": best_fitness,
            "fitness_mean": jnp.nanmean(scores),
            "fitness_of_mean": candidate_fitness[0],
            **report(task, unravel(best), held_out),
            "population_spread": jnp.mean(jnp.std(flat, axis=0)),
        }
        return Search(state, search.generation + 1, best, best_fitness), metrics

    def evolve(search: Search) -> tuple[Search, dict[str, jax.Array]]:
        # Drawn here, once a chunk: inside the scan XLA would draw the same batch again in every generation.
        held_out = draw(held_out_key, task, held_out_pairs)
        shapes = jax.eval_shape(step, search, held_out)[1]
        idle = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in shapes.items()}

        def guarded(search: Search, _: None) -> tuple[Search, dict[str, jax.Array]]:
            return jax.lax.cond(
                search.generation < generations, lambda s: step(s, held_out), lambda s: (s, idle), search
            )

        return jax.lax.scan(guarded, search, None, length=chunk)

    @jax.jit
    def assess(key: jax.Array, solution: jax.Array) -> dict[str, jax.Array]:
        batch, member = draw(key, task, TEST_PAIRS), unravel(solution)
        return {"fitness": fitness(task, member, batch), **report(task, member, batch)}

    return Program(init, jax.jit(evolve, donate_argnums=0), assess, unravel, solution.size)
