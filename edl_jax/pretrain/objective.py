"""What evolution minimises: the ranking objective of a population of loss networks over a batch of predictions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from edl_jax.loss.networks.kinds import g1, hard_label_loss, is_function_of_p_t, is_label_free
from edl_jax.pretrain.config import ObjectiveConfig
from edl_jax.synthetic import kendall_tau, ranking_accuracy, sample, severity as severities
from edl_jax.synthetic.gradients import network_gradients, penalty
from edl_jax.synthetic.ranking import grouped_pairs, grouped_ranking_fitness
from edl_jax.synthetic.slope import slope_grid, slope_residual
from edl_jax.synthetic.tabulated import interpolation_matrix, population_losses, tables

# Predictions on which the regularisers and the gradient report are computed.
_GRADIENT_SAMPLE = 256
# Predictions in the Kendall tau report: its cost is quadratic.
_TAU_SAMPLE = 256
# Predictions of one label, for a network that tells classes apart.
_PER_LABEL = 32


class Batch(NamedTuple):
    """Predictions in L groups of V that share a label.

    Attributes:
      labels: `[L V]` int32.
      log_p: `[L V, C]` log-probabilities.
      severity: `[L, V]`.
      matrix: `[L V, 2 GRID]` interpolation matrix (`[L V, GRID]` for a function of p_t), or None on the plain path.
    """

    labels: jax.Array
    log_p: jax.Array
    severity: jax.Array
    matrix: jax.Array | None


def draw(key: jax.Array, objective: ObjectiveConfig, num_pairs: int) -> Batch:
    """Draw the predictions of at least `num_pairs` pairs.

    A loss that is invariant under permutation of classes sees one label, so that all its predictions can be paired.
    """
    count = max(-(-num_pairs // objective.reuse), objective.reuse + 1)
    groups = 1 if is_label_free(objective.network) else min(objective.num_classes, max(count // _PER_LABEL, 1))
    per_label = max(-(-count // groups), objective.reuse + 1)
    label_key, sample_key = jax.random.split(key)
    chosen = jax.random.permutation(label_key, objective.num_classes)[:groups]
    # Not jnp.repeat, whose prefix sums XLA folds into constants at the price of a second of compilation.
    labels = jnp.broadcast_to(chosen.astype(jnp.int32)[:, None], (groups, per_label)).reshape(-1)
    log_p = sample(sample_key, objective.mixture, objective.num_classes, labels)
    severity = severities.get(objective.severity)(log_p, labels).reshape(groups, per_label)
    matrix = None
    if objective.is_tabulated:
        of_p_t = is_function_of_p_t(objective.network)
        matrix = interpolation_matrix(log_p, labels, objective.grid_log_p_min, true_class_alone=of_p_t)
    return Batch(labels, log_p, severity, matrix)


def losses(objective: ObjectiveConfig, members: Any, batch: Batch) -> jax.Array:
    """Return the losses `[P, L, V]` of members (a pytree of leaves `[P, ...]`)."""
    if batch.matrix is not None:
        table = jax.vmap(lambda params: tables(objective.network, params, objective.grid_log_p_min))(members)
        values = population_losses(table, batch.matrix)
    else:
        values = jax.vmap(lambda params: hard_label_loss(objective.network, params, batch.log_p, batch.labels))(members)
    return values.reshape(-1, *batch.severity.shape)


def fitness(objective: ObjectiveConfig, members: Any, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Return (fitness `[P]`, losses `[P, L, V]`) of members: ranking objective plus penalties, minimised."""
    values = losses(objective, members, batch)

    def ranking(row: jax.Array) -> jax.Array:
        return grouped_ranking_fitness(
            row, batch.severity, reuse=objective.reuse, beta=objective.beta, margin=objective.margin
        )

    scores = jax.vmap(ranking)(values)
    if objective.sees_slope:
        scores += objective.slope * jax.vmap(lambda params: slope_penalty(objective, params))(members)
    if objective.wrong_way == 0.0 and objective.exploding == 0.0 and objective.roughness == 0.0:
        return scores, values
    log_p, labels = batch.log_p[:_GRADIENT_SAMPLE], batch.labels[:_GRADIENT_SAMPLE]

    def regularisers(params: Any) -> jax.Array:
        return penalty(
            objective.network,
            params,
            log_p,
            labels,
            wrong_way=objective.wrong_way,
            exploding=objective.exploding,
            roughness=objective.roughness,
            log_p_min=objective.mixture.log_p_min,
        )

    return scores + jax.vmap(regularisers)(members), values


def slope_penalty(objective: ObjectiveConfig, params: Any) -> jax.Array:
    """Return the mean squared `slope_residual` of one network, weighted as the grid says, a scalar."""
    grid = slope_grid(objective.mixture, objective.severity, objective.num_classes)
    log_p = jnp.asarray(grid.log_p)
    values, slopes = jax.jvp(lambda x: g1(objective.network, params, x), (log_p,), (jnp.ones_like(log_p),))
    residual = slope_residual(grid, values, slopes, beta=objective.beta, margin=objective.margin)
    return jnp.mean(grid.weight * jnp.square(residual))


def report(objective: ObjectiveConfig, params: Any, values: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Return the held-out report of one loss network, scalars.

    Args:
      objective: what is minimised.
      params: parameters of the network.
      values: `[L, V]` its losses on the batch.
      batch: the held-out batch.
    """
    loss_a, loss_b = grouped_pairs(values, objective.reuse)
    severity_a, severity_b = grouped_pairs(batch.severity, objective.reuse)
    labels, log_p = batch.labels[:_GRADIENT_SAMPLE], batch.log_p[:_GRADIENT_SAMPLE]
    gradients = network_gradients(objective.network, params, log_p, labels)
    y = jax.nn.one_hot(labels, log_p.shape[-1], dtype=log_p.dtype)
    cross_entropy_norm = jnp.linalg.norm(jnp.exp(log_p) - y, axis=-1)
    return {
        "ranking_accuracy": ranking_accuracy(loss_a, loss_b, severity_a, severity_b),
        "kendall_tau": kendall_tau(values.ravel()[:_TAU_SAMPLE], batch.severity.ravel()[:_TAU_SAMPLE]),
        "wrong_way_share": jnp.mean(gradients.wrong_way > 0.0),
        "gradient_norm_ratio": jnp.mean(gradients.norm) / jnp.mean(cross_entropy_norm),
    }
