"""Expressions: immutable trees over y, p and constants."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from edl_jax.errors import require, unknown
from edl_jax.loss.expression.operators import CODES, CONSTANT, arity

Result = TypeVar("Result")


class Node(NamedTuple):
    """A node without its arguments: an operator, a terminal, or a constant with its value."""

    name: str
    value: float = 0.0


_LN_OF_P = (Node("ln"), Node("p"))
_LN_OF_NOT_P = (Node("ln"), Node("sub"), Node(CONSTANT, 1.0), Node("p"))


@dataclasses.dataclass(frozen=True)
class Expression:
    """A tree, kept as its nodes in prefix (depth-first) order: a node comes before its arguments.

    As an operator's name fixes its arity, the sequence is the tree: equality and hash are those of trees, and no
    height is too high for them. `ln(p)` and `ln(1 - p)` are the terminals `log_p` and `log_not_p`, however they are
    built, because only those keep their slope where p or 1 - p rounds to 0.

    Attributes:
      nodes: the nodes, root first. Index i here is index i of an array of weights.

    Raises:
      UserError: unknown name, a constant that is not finite, or nodes that are not exactly one tree.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        for node in self.nodes:
            if node.name not in CODES:
                raise unknown("operator", node.name, CODES)
            require(math.isfinite(node.value), f"a constant is {node.value}, expected a finite number")
        # Adding 0 makes 0 of -0, which would not survive printing.
        nodes = _exact_logarithms(
            [Node(n.name, float(n.value) + 0.0 if n.name == CONSTANT else 0.0) for n in self.nodes]
        )
        object.__setattr__(self, "nodes", nodes)
        missing = 1
        for i, node in enumerate(nodes):
            require(missing > 0, f"an expression ends after {i} of its {len(nodes)} nodes: expected one tree")
            missing += arity(node.name) - 1
        require(missing == 0, f"an expression of {len(nodes)} nodes lacks {missing} more: expected one whole tree")

    @property
    def size(self) -> int:
        """Return the number of nodes."""
        return len(self.nodes)

    @property
    def height(self) -> int:
        """Return the number of edges from the root to the deepest node: 0 for a terminal."""
        return self.fold(lambda _, arguments: 1 + max(arguments, default=-1))

    @property
    def names(self) -> frozenset[str]:
        """Return the names of its nodes."""
        return frozenset(node.name for node in self.nodes)

    @property
    def arguments(self) -> tuple["Expression", ...]:
        """Return the expressions that the root is applied to."""
        found: list[Expression] = []
        start = 1
        while start < self.size:
            stop = self.end(start)
            found.append(Expression(self.nodes[start:stop]))
            start = stop
        return tuple(found)

    def end(self, index: int) -> int:
        """Return the index after the last node of the subtree that begins at `index`."""
        missing = 1
        while missing:
            missing += arity(self.nodes[index].name) - 1
            index += 1
        return index

    def fold(self, combine: Callable[[Node, list[Result]], Result]) -> Result:
        """Return `combine(node, results of its arguments)` at the root, without recursion."""
        stack: list[Result] = []
        for node in reversed(self.nodes):
            stack.append(combine(node, [stack.pop() for _ in range(arity(node.name))]))
        return stack.pop()

    def __str__(self) -> str:
        from edl_jax.loss.expression.text import to_text

        return to_text(self)


def constant(value: float) -> Expression:
    """Return the expression of a constant."""
    return Expression((Node(CONSTANT, value),))


def apply(name: str, *arguments: Expression) -> Expression:
    """Return the operator `name` applied to expressions.

    Raises:
      UserError: unknown name, or another number of arguments than the operator takes.
    """
    if name not in CODES:
        raise unknown("operator", name, CODES)
    require(len(arguments) == arity(name), f"{name} takes {arity(name)} arguments, got {len(arguments)}")
    return Expression((Node(name), *(node for argument in arguments for node in argument.nodes)))


def weighted(expression: Expression, weights: Sequence[float] | None) -> Expression:
    """Return the expression with its edge weights written into it: factors, unless 1; into constants.

    Args:
      weights: `[size]`, one for each node in prefix order; the root's is ignored. None for no weights.

    Raises:
      UserError: another number of weights, or one that is not finite.
    """
    if weights is None:
        return expression
    factors = check_weights(expression, weights)
    stack: list[tuple[Node, ...]] = []
    for i in range(expression.size - 1, -1, -1):
        node, factor = expression.nodes[i], factors[i]
        arguments = [stack.pop() for _ in range(arity(node.name))]
        nodes = (node, *(n for argument in arguments for n in argument))
        if i > 0 and factor != 1.0:
            if node.name == CONSTANT:
                nodes = (Node(CONSTANT, factor * node.value),)
            else:
                nodes = (Node("mul"), Node(CONSTANT, factor), *nodes)
        stack.append(nodes)
    return Expression(stack.pop())


def check_weights(expression: Expression, weights: Iterable[float]) -> list[float]:
    """Return weights as a list of floats.

    Raises:
      UserError: as `weighted`.
    """
    values = [float(w) for w in weights]
    require(
        len(values) == expression.size,
        f"{len(values)} weights for an expression of {expression.size} nodes: expected one for each node, root first",
    )
    for i, value in enumerate(values):
        require(math.isfinite(value), f"weight {i} is {value}, expected a finite number")
    return values


def _exact_logarithms(nodes: list[Node]) -> tuple[Node, ...]:
    """Return the nodes with ln(p) and ln(1 - p) as terminals."""
    kept: list[Node] = []
    i = 0
    while i < len(nodes):
        if tuple(nodes[i : i + 2]) == _LN_OF_P:
            kept.append(Node("log_p"))
            i += 2
        elif tuple(nodes[i : i + 4]) == _LN_OF_NOT_P:
            kept.append(Node("log_not_p"))
            i += 4
        else:
            kept.append(nodes[i])
            i += 1
    return tuple(kept)


Y, P, LOG_P, LOG_NOT_P = (Expression((Node(name),)) for name in ("y", "p", "log_p", "log_not_p"))
