"""EvoMAL's trees (Raymond et al. 2023, arXiv 2209.08907): prefix lists and strings, with the authors' names."""

from typing import Any

from edl_jax.core.errors import require, unknown
from edl_jax.loss.expression.operators import CONSTANT, arity
from edl_jax.loss.expression.parse import Parser
from edl_jax.loss.expression.tree import Expression, Node, P, Y, constant

OPERATORS: dict[str, str] = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "div": "aq",
    "min": "min",
    "max": "max",
    "sign": "sign",
    "square": "square",
    "abs": "abs",
    "log": "log_clamp",
    "sqrt": "sqrt_clamp",
    "tanh": "tanh",
}
"""EvoMAL's name of an operator -> ours."""

TERMINALS: dict[str, Expression] = {"y": Y, "p": P, "ARG0": Y, "ARG1": P, "1": constant(1.0), "-1": constant(-1.0)}
"""EvoMAL's name of a terminal -> expression; `y`, `p` for its `ARG0`, `ARG1`."""

_NAMES = {ours: theirs for theirs, ours in OPERATORS.items()}


def from_tree(tree: Any) -> Expression:
    """Return the expression of a tree.

    Args:
      tree: a list `[operator, argument, ...]` whose arguments are lists or terminals, a terminal (`"y"`, `"p"`,
        `"ARG0"`, `"ARG1"`, 1 or -1), or all of it as a string, `"mul(y, log(p))"`.

    Raises:
      FormulaError: the string does not parse.
      UserError: an operator or terminal that EvoMAL does not have, or a wrong number of arguments.
    """
    if isinstance(tree, str) and tree not in TERMINALS:
        expression = Parser(tree, OPERATORS, {k: v.nodes for k, v in TERMINALS.items() if k.isidentifier()}).parse()
        to_tree(expression)  # refuses what infix notation can say and EvoMAL cannot
        return expression
    pending: list[Any] = [tree]
    nodes: list[Node] = []
    while pending:
        part = pending.pop()
        if isinstance(part, list | tuple):
            require(
                len(part) > 0 and isinstance(part[0], str), f"{part} is no tree: expected [operator, argument, ...]"
            )
            name, *arguments = part
            if name not in OPERATORS:
                raise unknown("EvoMAL operator", name, OPERATORS)
            count = arity(OPERATORS[name])
            require(len(arguments) == count, f"{name} takes {count} arguments, got {len(arguments)}")
            nodes.append(Node(OPERATORS[name]))
            pending.extend(reversed(arguments))
        else:
            text = f"{part:g}" if isinstance(part, int | float) else str(part)
            if text not in TERMINALS:
                raise unknown("EvoMAL terminal", text, TERMINALS)
            nodes.extend(TERMINALS[text].nodes)
    return Expression(tuple(nodes))


def to_tree(expression: Expression) -> Any:
    """Return the tree of an expression, as `from_tree` takes it: lists, `"y"`, `"p"`, 1 and -1.

    Raises:
      UserError: the expression has a node that EvoMAL does not have.
    """

    def tree(node: Node, arguments: list[Any]) -> Any:
        if node.name == CONSTANT:
            require(node.value in (1.0, -1.0), f"EvoMAL has the constants 1 and -1, got {node.value:g}")
            return int(node.value)
        if node.name in ("y", "p"):
            return node.name
        if node.name not in _NAMES:
            raise unknown("EvoMAL operator", node.name, _NAMES)
        return [_NAMES[node.name], *arguments]

    return expression.fold(tree)
