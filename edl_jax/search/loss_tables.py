"""Tables of losses that exist: any function of logits and labels that is a sum of g(y_c, p_c) over the classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import UserError, require
from edl_jax.loss import Loss, LossFunction
from edl_jax.loss.expression import Record
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
