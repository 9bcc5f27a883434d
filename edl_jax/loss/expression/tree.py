"""Expressions: immutable trees over y, p and constants, as plain text that parses back to them, and as LaTeX."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from edl_jax.core.errors import require, unknown
from edl_jax.loss.expression.operators import ATOM, CODES, CONSTANT, NEGATIVE, OPERATORS, POWER, PRODUCT, SUM, arity

Result = TypeVar("Result")


class Node(NamedTuple):
    """A node without its arguments: an operator, a terminal, or a constant with its value."""

    name: str
    value: float = 0.0


_TERMINALS = {"y": "y", "p": "p", "log_p": "ln(p)", "log_not_p": "ln(1 - p)"}
_LATEX_TERMINALS = {"y": "y", "p": "p", "log_p": r"\ln\left(p\right)", "log_not_p": r"\ln\left(1 - p\right)"}
# Operators whose LaTeX form leaves an argument without delimiters: name -> how tightly each has to hold together.
_LATEX_LEVELS = {
    "add": (SUM, SUM),
    "sub": (SUM, PRODUCT),
    "mul": (PRODUCT, POWER),
    "neg": (PRODUCT,),
    "square": (ATOM,),
    "power": (ATOM, SUM),
}

_Text = tuple[str, int]
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


def to_text(expression: Expression, weights: Sequence[float] | None = None, digits: int | None = None) -> str:
    """Return the formula of an expression: `parse` gives the expression back, exactly, up to its limits.

    Args:
      expression: the expression.
      weights: `[size]` edge weights, written as factors; None for none.
      digits: significant digits to round numbers to, for reading; None for exact ones.
    """
    expression = weighted(expression, weights)
    if digits is not None:
        expression = Expression(tuple(Node(name, float(f"{value:.{digits}g}")) for name, value in expression.nodes))
    return expression.fold(_text)[0]


def to_latex(expression: Expression, weights: Sequence[float] | None = None, digits: int = 4) -> str:
    """Return the LaTeX of an expression, for reading: numbers are rounded to `digits` significant digits."""

    def latex(node: Node, arguments: list[_Text]) -> _Text:
        if node.name == CONSTANT:
            return _latex_number(node.value, digits), NEGATIVE if node.value < 0.0 else ATOM
        if node.name in _LATEX_TERMINALS:
            return _LATEX_TERMINALS[node.name], ATOM if node.name in ("y", "p") else POWER
        operator = OPERATORS[node.name]
        form = operator.latex
        levels = _LATEX_LEVELS.get(node.name, (SUM, SUM))
        for i, ((text, level), least) in enumerate(zip(arguments, levels, strict=False)):
            if level < least or (i == 1 and text.startswith("-") and node.name in ("add", "sub", "mul")):
                text = rf"\left({text}\right)"
            form = form.replace(f"#{i + 1}", text)
        return form, operator.level

    return weighted(expression, weights).fold(latex)[0]


def _text(node: Node, arguments: list[_Text]) -> _Text:
    if node.name == CONSTANT:
        return _number(node.value), NEGATIVE if node.value < 0.0 else ATOM
    if node.name in _TERMINALS:
        return _TERMINALS[node.name], ATOM
    operator = OPERATORS[node.name]
    texts = [text for text, _ in arguments]
    if operator.infix is None or _reads_as_another(node.name, arguments):
        return f"{node.name}({', '.join(texts)})", ATOM
    form, level = operator.infix
    for i, (text, inner) in enumerate(arguments):
        # Left operands may bind as loosely as their operator, right operands must bind tighter (`^`: the reverse).
        loosest = (i == 0) != (level == POWER)
        alone = inner < level or (inner == level and not loosest) or (i == 1 and text.startswith("-"))
        form = form.replace(f"#{i + 1}", f"({text})" if alone else text)
    return form, level


def _reads_as_another(name: str, arguments: list[_Text]) -> bool:
    """Return whether the infix form would be parsed as something else: `-2` as a number, `x^2` as a square."""
    if name == "neg":
        return arguments[0][0][0].isdigit() and arguments[0][1] == ATOM
    return name == "power" and arguments[1][0] == "2"


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _latex_number(value: float, digits: int) -> str:
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if not exponent:
        return mantissa
    power = f"10^{{{int(exponent)}}}"
    return rf"{mantissa} \cdot {power}" if mantissa not in ("1", "-1") else power if mantissa == "1" else f"-{power}"
