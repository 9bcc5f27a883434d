"""Values of expressions for logits and labels, as a loss sums them over the classes."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from edl_jax.loss.contract import Targets
from edl_jax.loss.expression.evaluate import Inputs
from edl_jax.loss.expression.operators import CONSTANT
from edl_jax.loss.expression.tree import Expression, Node
from edl_jax.loss.terms import log_not_p_of_labels


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
