"""Expressions as plain text, which parses back to them, and as LaTeX."""

from collections.abc import Sequence

from edl_jax.loss.expression.operators import ATOM, CONSTANT, NEGATIVE, OPERATORS, POWER, PRODUCT, SUM
from edl_jax.loss.expression.tree import Expression, Node, weighted

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
