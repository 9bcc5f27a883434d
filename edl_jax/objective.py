"""What evolution minimises: the ranking objective of a population of loss networks over a batch of predictions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from edl_jax.loss._network import NetworkConfig, hard_label_loss, is_label_free, is_separable
from edl_jax.synthetic import MixtureConfig, kendall_tau, ranking_accuracy, sample
from edl_jax.synthetic.gradients import network_gradients, penalty
from edl_jax.synthetic.ranking import grouped_pairs, grouped_ranking_fitness
from edl_jax.synthetic.severity import Severity
from edl_jax.synthetic.tabulated import LOG_P_MIN, interpolation_matrix, population_losses, tables

EVALUATIONS = ("auto", "plain", "tabulated")

# Predictions on which the regularisers and the gradient report are computed.
_GRADIENT_SAMPLE = 256
# Predictions in the Kendall tau report: its cost is quadratic.
_TAU_SAMPLE = 256
# Predictions of one label, for a network that tells classes apart.
_PER_LABEL = 32


class Task(NamedTuple):
    """What evolution minimises.

    Attributes:
      network: architecture of the loss network.
      mixture: distribution of the predictions.
      severity: what makes a prediction worse.
      num_classes: C.
      num_pairs: pairs per generation.
      reuse: pairs that each prediction starts: num_pairs / reuse predictions are drawn.
      beta: sharpness of the ranking objective.
      margin: margin m of the ranking objective.
      wrong_way: weight of that regulariser.
      exploding: weight of that regulariser.
      roughness: weight of that regulariser.
      evaluation: `tabulated` (separable networks on a grid of ln p), `plain` (the network at every prediction), or
        `auto` (tabulated where possible).
    """

    network: NetworkConfig
    mixture: MixtureConfig
    severity: Severity
    num_classes: int
    num_pairs: int
    reuse: int
    beta: float
    margin: float
    wrong_way: float
    exploding: float
    roughness: float
    evaluation: str

    @property
    def low(self) -> float:
        """The lower end of the grid of ln p: every component that sets ln p_t stays above it."""
        return min(LOG_P_MIN, self.mixture.log_p_min, *self.mixture.designed_log_p[:1])

    @property
    def is_tabulated(self) -> bool:
        """Whether populations are evaluated on a grid."""
        return self.evaluation != "plain" and is_separable(self.network)


class Batch(NamedTuple):
    """Predictions in L groups of V that share a label.

    Attributes:
      labels: `[L V]` int32.
      log_p: `[L V, C]` log-probabilities.
      severity: `[L, V]`.
      matrix: `[L V, 2 GRID]` interpolation matrix, or None on the plain path.
    """

    labels: jax.Array
    log_p: jax.Array
    severity: jax.Array
    matrix: jax.Array | None


def draw(key: jax.Array, task: Task, num_pairs: int) -> Batch:
    """Draw the predictions of at least `num_pairs` pairs.

    A loss that is invariant under permutation of classes sees one label, so that all its predictions can be paired.
    """
    count = max(-(-num_pairs // task.reuse), task.reuse + 1)
    groups = 1 if is_label_free(task.network) else min(task.num_classes, max(count // _PER_LABEL, 1))
    per_label = max(-(-count // groups), task.reuse + 1)
    label_key, sample_key = jax.random.split(key)
    chosen = jax.random.permutation(label_key, task.num_classes)[:groups]
    labels = jnp.repeat(chosen.astype(jnp.int32), per_label, total_repeat_length=groups * per_label)
    log_p = sample(sample_key, task.mixture, task.num_classes, labels)
    severity = task.severity(log_p, labels).reshape(groups, per_label)
    matrix = interpolation_matrix(log_p, labels, task.low) if task.is_tabulated else None
    return Batch(labels, log_p, severity, matrix)


def losses(task: Task, members: Any, batch: Batch) -> jax.Array:
    """Return the losses `[P, L, V]` of members (a pytree of leaves `[P, ...]`)."""
    if batch.matrix is not None:
        table = jax.vmap(lambda params: tables(task.network, params, task.low))(members)
        values = population_losses(table, batch.matrix)
    else:
        values = jax.vmap(lambda params: hard_label_loss(task.network, params, batch.log_p, batch.labels))(members)
    return values.reshape(-1, *batch.severity.shape)


def fitness(task: Task, members: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return (fitness `[P]`, losses `[P, L, V]`) of members: ranking objective plus regularisers, minimised."""
    values = losses(task, members, batch)

    def objective(row: jax.Array) -> jax.Array:
        return grouped_ranking_fitness(row, batch.severity, reuse=task.reuse, beta=task.beta, margin=task.margin)

    scores = jax.vmap(objective)(values)
    if task.wrong_way == 0.0 and task.exploding == 0.0 and task.roughness == 0.0:
        return scores, values
    log_p, labels = batch.log_p[:_GRADIENT_SAMPLE], batch.labels[:_GRADIENT_SAMPLE]

    def regularisers(params: Any) -> jax.Array:
        return penalty(
            task.network,
            params,
            log_p,
            labels,
            wrong_way=task.wrong_way,
            exploding=task.exploding,
            roughness=task.roughness,
            log_p_min=task.mixture.log_p_min,
        )

    return scores + jax.vmap(regularisers)(members), values


def report(task: Task, params: Any, values: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Return the held-out report of one loss network, scalars.

    Args:
      task: what is minimised.
      params: parameters of the network.
      values: `[L, V]` its losses on the batch.
      batch: the held-out batch.
    """
    loss_a, loss_b = grouped_pairs(values, task.reuse)
    severity_a, severity_b = grouped_pairs(batch.severity, task.reuse)
    labels, log_p = batch.labels[:_GRADIENT_SAMPLE], batch.log_p[:_GRADIENT_SAMPLE]
    gradients = network_gradients(task.network, params, log_p, labels)
    y = jax.nn.one_hot(labels, log_p.shape[-1], dtype=log_p.dtype)
    cross_entropy_norm = jnp.linalg.norm(jnp.exp(log_p) - y, axis=-1)
    return {
        "ranking_accuracy": ranking_accuracy(loss_a, loss_b, severity_a, severity_b),
        "kendall_tau": kendall_tau(values.ravel()[:_TAU_SAMPLE], batch.severity.ravel()[:_TAU_SAMPLE]),
        "wrong_way_share": jnp.mean(gradients.wrong_way > 0.0),
        "gradient_norm_ratio": jnp.mean(gradients.norm) / jnp.mean(cross_entropy_norm),
    }
