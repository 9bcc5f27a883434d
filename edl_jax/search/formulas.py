"""A tree that a search has found, as text for people and for `expression_loss`, and as LaTeX."""

from collections.abc import Sequence
from typing import NamedTuple

from edl_jax.core.errors import UserError
from edl_jax.loss.expression import Expression, simplify, to_latex, to_text, weighted

MAX_SIMPLIFIED = 300
"""Nodes, weights included, up to which a tree is simplified: half a second of sympy's."""


class Formula(NamedTuple):
    """A tree with its edge weights in writing.

    Attributes:
      text: the formula, exact: `expression.parse` gives it back.
      rounded: the same with rounded numbers.
      simplified: shorter, with rounded numbers; `rounded` where sympy is missing or finds nothing shorter.
      latex: LaTeX of what `simplified` is.
      complexity: number of nodes of the tree; weights do not count.
    """

    text: str
    rounded: str
    simplified: str
    latex: str
    complexity: int


def describe(tree: Expression, weights: Sequence[float] | None = None, digits: int = 3) -> Formula:
    """Return the formula of a tree.

    A tree is left as it is where sympy is not installed, or where it has more than `MAX_SIMPLIFIED` nodes.

    Args:
      tree: the tree.
      weights: `[size]` edge weights, written as factors; None for none.
      digits: significant digits of what is for reading.

    Raises:
      UserError: the weights are not one finite number a node.
    """
    whole = weighted(tree, weights)
    shorter = _simplified(whole)
    return Formula(
        text=to_text(whole),
        rounded=to_text(whole, digits=digits),
        simplified=to_text(shorter, digits=digits),
        latex=to_latex(shorter, digits=digits),
        complexity=tree.size,
    )


def _simplified(expression: Expression) -> Expression:
    if expression.size > MAX_SIMPLIFIED:
        return expression
    try:
        return simplify(expression)
    except (UserError, RecursionError):  # no sympy, or a part without y and p that is not finite
        return expression
