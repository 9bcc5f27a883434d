"""Losses from expressions."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.contract import Loss, Targets
from edl_jax.loss.expression.evaluate import Inputs, compile_function
from edl_jax.loss.expression.operators import CONSTANT
from edl_jax.loss.expression.parse import parse
from edl_jax.loss.expression.tree import Expression, Node, check_weights
from edl_jax.loss.jitted import jitted
from edl_jax.loss.terms import log_not_p_of_labels


def expression_loss(expression: str | Expression, weights: Sequence[float] | None = None, flip: bool = False) -> Loss:
    """Return the loss `sum_c expression(y_c, p_c)`, over the classes that exist, as EvoMAL and NLFS define it.

        ce = expression_loss("-y * ln(p)")

    The expression is evaluated class by class: y is 1 for the true class and 0 for the others, or the label
    probability. Soft labels enter as they are, so that the loss is the label-weighted mean only where the expression
    is affine in y. A class or example that does not exist contributes nothing, whatever the expression is at p = 0.
    `ln(p)`, `ln(1 - p)` and `ln(c p)`, `ln(p / c)` for a number c > 0 are exact and keep their slope at any gap
    between logits.

    Args:
      expression: a formula, or an expression.
      weights: `[size]`, one for each edge, as in `Program`; None for none.
      flip: whether to change the sign of the loss, as NLFS does for expressions that are to be maximised.

    Returns:
      A loss: see `Loss` for arguments, shapes, dtypes and errors.

    Raises:
      FormulaError: the formula does not parse.
      UserError: the weights are not one finite number a node.

    References:
      Raymond et al., Learning Symbolic Model-Agnostic Loss Functions via Meta-Learning, 2023, arXiv 2209.08907.
      Morgan and Hougen, Neural Loss Function Evolution for Large-Scale Image Classifier Convolutional Neural
      Networks, 2024, arXiv 2403.08793.
    """
    tree = parse(expression) if isinstance(expression, str) else expression
    if weights is None:
        function = compile_function(split_logarithms(tree))
    else:
        function = compile_function(tree, np.asarray(check_weights(tree, weights)))

    def values(t: Targets) -> jax.Array:
        raw = expression_values(t, function)
        return -raw if flip else raw

    return jitted(values, "formula")


def expression_values(t: Targets, function: Callable[[Inputs], jax.Array]) -> jax.Array:
    """Return `[...]`: the sum over the classes that exist of `function`, `Inputs` -> `[..., C]`.

    For a search: `expression_values(t, lambda inputs: evaluate(program, inputs))`; `t.finish` gives the loss.
    """
    return jnp.sum(function(inputs_of(t)), axis=-1, where=_active(t))


def inputs_of(t: Targets) -> Inputs:
    """Return the inputs of an expression `[..., C]`; where no class exists or no example counts, y = p = 1."""
    active = _active(t)
    log_p = jnp.where(active, t.log_p, 0.0)
    return Inputs(
        y=jnp.where(active, t.one_hot, 1.0),
        p=jnp.exp(log_p),
        log_p=log_p,
        log_not_p=jnp.where(active, log_not_p_of_labels(t._replace(classes=None)), 0.0),
    )


def split_logarithms(expression: Expression) -> Expression:
    """Return the expression with the logarithm of a multiple of p, by a number c > 0, as `ln(p) + ln(c)`."""
    nodes: list[Node] = []
    i = 0
    while i < expression.size:
        log_c = _log_factor(expression.nodes[i : i + 4])
        if log_c is None:
            nodes.append(expression.nodes[i])
            i += 1
        else:
            nodes += [Node("add"), Node("log_p"), Node(CONSTANT, log_c)]
            i += 4
    return Expression(tuple(nodes))


def _log_factor(nodes: tuple[Node, ...]) -> float | None:
    """Return ln c for the nodes of ln(c p), ln(p c) or ln(p / c) with a number c > 0, None for others."""
    names = tuple(node.name for node in nodes)
    if names in (("ln", "mul", CONSTANT, "p"), ("ln", "mul", "p", CONSTANT), ("ln", "div", "p", CONSTANT)):
        c = max(node.value for node in nodes)
        if c > 0.0:
            return -math.log(c) if "div" in names else math.log(c)
    return None


def _active(t: Targets) -> jax.Array:
    return t.present & t.counts[..., None]
