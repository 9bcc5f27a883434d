"""Tables of losses that exist: any function of logits and labels that is a sum of g(y_c, p_c) over the classes."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import UserError, require
from edl_jax.loss import Artifact, Loss, LossFunction, NetworkConfig, check_num_classes, learned_loss
from edl_jax.loss.expression import Record
from edl_jax.loss.networks.kinds import g0, g1, is_separable
from edl_jax.loss.quick import quick_options
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.tables import EXACT_LOG_P, SIZE, logit_gradient, table_of_slopes

# The reference class: nearly nothing, yet its slope over its probability is exact to 1e-9.
_REFERENCE = -17.0
_EXAMPLES = 256
_DIFFERENCE = 0.02  # beyond kinks, a table's own error is a tenth of it
_SHARE = 0.9  # of the examples; others may meet a kink or a pole


def table_of_loss(loss: Loss, num_classes: int = 10) -> np.ndarray:
    """Return the table `[2, K]` float32 of a loss: of the zoo, of an artifact, or any with the contract of `Loss`.

    Slopes of an expression are those of its operators. Of any other loss they are read from gradients, in float64, at
    predictions in which one class takes every probability of the grid in turn; then the gradients at random predictions
    must be those that the table gives.

    Args:
      loss: a function of logits and integer labels.
      num_classes: C, at least 3: a loss may depend on it, as label smoothing does, and the table is that for this C.

    Raises:
      UserError: fewer than 3 classes, where two tables can be one loss; a loss that takes no such logits; or one that
        is no sum of g(y_c, p_c).
    """
    require(num_classes >= 3, f"num_classes is {num_classes}, expected at least 3 for the table of a loss")
    rule = loss.rule if isinstance(loss, LossFunction) else None
    if isinstance(rule, Record):
        (table,) = tables_of_expressions([rule.expression], [rule.weights])
        return -table if rule.flip else table
    logits, labels = _probes(num_classes)
    random_logits, random_labels = _random_predictions(num_classes)

    @functools.partial(jax.jit, compiler_options=quick_options())
    def gradients(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return jax.grad(lambda z: jnp.sum(loss(z, labels)))(logits)

    every_logit, every_label = np.concatenate([logits, random_logits]), np.concatenate([labels, random_labels])
    name = getattr(loss, "__name__", "this loss")
    try:
        with jax.enable_x64(True):
            found = np.asarray(gradients(every_logit, every_label))
    except ValueError as error:
        raise UserError(f"{name} has no table for {num_classes} classes: {error}") from error
    # dz_c = d_c - p_c S; the multiple of p in g is chosen so that d of the reference class is 0, which gives S.
    p = np.exp(EXACT_LOG_P)
    own, reference = found[: 2 * SIZE, 0].reshape(2, SIZE), found[: 2 * SIZE, 1].reshape(2, SIZE)
    table = table_of_slopes(own - p * reference / np.exp(_REFERENCE))
    with jax.enable_x64(True):
        given = np.asarray(logit_gradient(*(jnp.asarray(x) for x in (table, random_logits, random_labels))))
    expected = found[2 * SIZE :]
    with np.errstate(all="ignore"):
        difference = np.linalg.norm(given - expected, axis=1) / (np.linalg.norm(expected, axis=1) + 1e-9)
    worst = float(np.quantile(np.nan_to_num(difference, nan=np.inf), _SHARE))
    require(
        worst < _DIFFERENCE,
        f"{name} is no sum of g(y_c, p_c) over the classes: a search takes losses of that form, such as cross_entropy, "
        "brier, a formula or a per_class network",
    )
    return table


def table_of_artifact(artifact: Artifact, num_classes: int = 10) -> np.ndarray:
    """Return the table `[2, K]` float32 of a learned loss.

    Networks of one architecture that are functions of one variable per class share a program.

    Args:
      artifact: the loss.
      num_classes: C, at least 3.

    Raises:
      UserError: as `table_of_loss`, or a loss that is made for another number of classes.
    """
    try:
        check_num_classes(artifact, num_classes)
    except ValueError as error:
        raise UserError(str(error)) from error
    if not is_separable(artifact.network):
        return table_of_loss(learned_loss(artifact), num_classes)
    c = artifact.calibration
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), artifact.params)
        true, wrong = (np.asarray(x) for x in _network_slopes(artifact.network, params, EXACT_LOG_P))
    scale, _ = c.at(np.asarray(num_classes, np.float64))
    true = np.where(c.tail_log_p > EXACT_LOG_P, c.tail_slope, true)
    return table_of_slopes(scale * np.stack([wrong, true]))


@functools.partial(jax.jit, static_argnums=0, compiler_options=quick_options())
def _network_slopes(network: NetworkConfig, params: Any, log_p: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the slopes of g1 and g0 `[K]` at ln p `[K]`."""

    def slopes(function: Any) -> jax.Array:
        return jax.jvp(lambda x: function(network, params, x), (log_p,), (jnp.ones_like(log_p),))[1]

    return slopes(g1), slopes(g0)


def _probes(num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (logits `[2 K, C]`, labels): class 0 at each point of the grid, class 1 the reference, the rest even.

    Class 0 is a wrong class in the first K, where the label is 2, and the true one in the others.
    """
    p = np.exp(EXACT_LOG_P)
    rest = (-np.expm1(EXACT_LOG_P) - np.exp(_REFERENCE)) / (num_classes - 2)
    logits = np.repeat(np.log(rest)[:, None], num_classes, axis=1)
    logits[:, 0], logits[:, 1] = np.log(p), _REFERENCE
    return np.concatenate([logits, logits]), np.repeat(np.array([2, 0], np.int32), SIZE)


def _random_predictions(num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (logits `[N, C]`, labels) from nearly even to nearly sure."""
    rng = np.random.default_rng(0)
    scale = np.geomspace(0.3, 5.0, _EXAMPLES)[:, None]
    logits = scale * rng.standard_normal((_EXAMPLES, num_classes))
    return logits, rng.integers(0, num_classes, _EXAMPLES, np.int32)
