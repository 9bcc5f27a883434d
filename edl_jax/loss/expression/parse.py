"""Formulas as people write them: text to expression, with errors that point at the place."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from edl_jax.core.errors import UserError
from edl_jax.loss.expression.operators import CONSTANT, OPERATORS, TERMINALS, arity
from edl_jax.loss.expression.tree import Expression, Node

MAX_LENGTH = 2000
"""Characters of a formula."""
MAX_DEPTH = 150
"""Levels of parentheses, calls, signs and powers inside each other."""

_ALIASES = {"log": "ln"}
FUNCTIONS: dict[str, str] = {**{name: name for name in OPERATORS}, **_ALIASES}
"""What can be called in a formula, with the operator that it stands for."""


class FormulaError(UserError):
    """A formula that does not parse.

    Attributes:
      formula: the text.
      column: where, counted from 1.
      reason: what is wrong, what was expected.
    """

    def __init__(self, formula: str, column: int, reason: str):
        self.formula, self.column, self.reason = formula, column, reason
        start = max(column - 31, 0)
        shown = formula[start : start + 60]
        shown = f"{'...' if start else ''}{shown}{'...' if start + 60 < len(formula) else ''}"
        super().__init__(f"formula {shown!r}, column {column}: {reason}")

    @property
    def detail(self) -> str:  # type: ignore[override]
        """Return the formula with a `^` under the place: what the command line prints below the message."""
        return self.caret().rsplit("\n", 1)[0]

    def caret(self) -> str:
        """Return the formula, a `^` under the place, and the reason: three lines."""
        one_line = re.sub(r"\s", " ", self.formula)
        return f"{one_line}\n{' ' * (self.column - 1)}^\n{self.reason}"


class _Token(NamedTuple):
    """`kind`: number, name, symbol, end or bad (no token at all); `column` counted from 1."""

    kind: str
    text: str
    column: int


_Nodes = tuple[Node, ...]

_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z_0-9]*)"
    r"|(?P<symbol>\*\*|[-+*/^(),])"
)

_SUM, _PRODUCT, _SIGN, _POWER = 1, 2, 3, 4
# How tightly an operator binds to its left, the least that its right operand must bind, what it builds.
_INFIX = {
    "+": (_SUM, _PRODUCT, "add"),
    "-": (_SUM, _PRODUCT, "sub"),
    "*": (_PRODUCT, _SIGN, "mul"),
    "/": (_PRODUCT, _SIGN, "div"),
    "^": (_POWER, _SIGN, "power"),
    "**": (_POWER, _SIGN, "power"),
}


def parse(formula: str) -> Expression:
    """Return the expression of a formula.

    `y`, `p`, numbers, `+ - * /`, `^` or `**` (binds tighter than a sign, to the right: `-p^2` is `-(p^2)`),
    parentheses, and every operator of the table as a function: `abs(ln(1.1*p))`, `aq(y, p)`. `log` is `ln`.
    `x^2` is `square(x)`; `ln(p)` and `ln(1 - p)` are the exact terminals; a sign before a number makes a negative
    number.

    Raises:
      FormulaError: the text is no formula, or is too long or too deep.
    """
    return Parser(formula, FUNCTIONS, {name: (Node(name),) for name in TERMINALS}).parse()


class Parser:
    """Precedence climbing over the tokens of one formula.

    `functions` gives the operator of each name that can be called, `terminals` the nodes of each other name.
    """

    def __init__(self, formula: str, functions: Mapping[str, str], terminals: Mapping[str, _Nodes]):
        self.formula, self.functions, self.terminals = formula, functions, terminals
        self.tokens = self._tokenize()
        self.position = 0
        self.depth = 0

    def parse(self) -> Expression:
        """Return the expression of the whole formula."""
        if self._next.kind == "end":
            raise self._error(self._next, "it is empty, expected something such as -y*ln(p)")
        nodes = self._expression(_SUM)
        if self._next.kind != "end":
            if self._next.text == ")":
                raise self._error(self._next, "')' closes no '('")
            raise self._error(self._next, f"expected an operator before {self._next.text!r}")
        return Expression(nodes)

    @property
    def _next(self) -> _Token:
        return self.tokens[self.position]

    def _take(self) -> _Token:
        self.position += 1
        return self.tokens[self.position - 1]

    def _error(self, token: _Token, reason: str) -> FormulaError:
        if token.kind == "bad":
            reason = f"unexpected character {token.text!r}"
        return FormulaError(self.formula, token.column, reason)

    def _tokenize(self) -> list[_Token]:
        text = self.formula
        if len(text) > MAX_LENGTH:
            raise FormulaError(text, MAX_LENGTH + 1, f"it has {len(text)} characters, expected at most {MAX_LENGTH}")
        tokens: list[_Token] = []
        start = 0
        while start < len(text):
            if text[start].isspace():
                start += 1
                continue
            match = _TOKEN.match(text, start)
            if match is None:  # said when it is reached: what comes before it may be wrong too
                return [*tokens, _Token("bad", text[start], start + 1)]
            tokens.append(_Token(str(match.lastgroup), match.group(), start + 1))
            start = match.end()
        return [*tokens, _Token("end", "", len(text) + 1)]

    def _expression(self, least: int) -> _Nodes:
        """Return the nodes of the longest expression from here whose operators bind at least as tightly as `least`."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(self._next, f"nested more than {MAX_DEPTH} deep")
        left = self._operand()
        while (infix := _INFIX.get(self._next.text)) and infix[0] >= least:
            self._take()
            right = self._expression(infix[1])
            squared = infix[2] == "power" and right == _constant(2.0)
            left = (Node("square"), *left) if squared else (Node(infix[2]), *left, *right)
        self.depth -= 1
        return left

    def _operand(self) -> _Nodes:
        token = self._take()
        if token.kind == "number":
            return _constant(self._number(token))
        if token.kind == "name":
            return self._named(token)
        if token.text == "(":
            inside = self._expression(_SUM)
            self._close(token)
            return inside
        if token.text == "-":
            if self._next.kind == "number" and self.tokens[self.position + 1].text not in ("^", "**"):
                return _constant(-self._number(self._take()))
            return (Node("neg"), *self._expression(_SIGN))
        if token.text == "+":
            return self._expression(_SIGN)
        found = "the end" if token.kind == "end" else repr(token.text)
        raise self._error(token, f"expected a number, a name or '(', got {found}")

    def _number(self, token: _Token) -> float:
        value = float(token.text)
        if not math.isfinite(value):
            raise self._error(token, f"the number {token.text} is too large")
        return value

    def _named(self, token: _Token) -> _Nodes:
        name = token.text
        called = self._next.text == "("
        if name in self.terminals:
            if called:
                raise self._error(self._next, f"{name} is no function; write {name}*(...) to multiply")
            return self.terminals[name]
        if name not in self.functions:
            raise self._error(token, f"unknown {'function' if called else 'name'} {name!r}: {self._hint(name, called)}")
        count = arity(self.functions[name])
        if not called:
            raise self._error(token, f"{name} is a function, expected {name}({', '.join('ab'[:count])})")
        arguments = self._arguments()
        if len(arguments) != count:
            plural = "argument" if count == 1 else "arguments"
            raise self._error(token, f"{name} takes {count} {plural}, got {len(arguments)}")
        return (Node(self.functions[name]), *(node for argument in arguments for node in argument))

    def _arguments(self) -> list[_Nodes]:
        opening = self._take()
        if self._next.text == ")":
            self._take()
            return []
        arguments = [self._expression(_SUM)]
        while self._next.text == ",":
            self._take()
            arguments.append(self._expression(_SUM))
        self._close(opening)
        return arguments

    def _close(self, opening: _Token) -> None:
        if self._next.kind == "end":
            raise self._error(opening, "'(' is never closed")
        if self._next.text != ")":
            expected = "',' or ')'" if self._next.text != "," else "')'"
            raise self._error(self._next, f"expected an operator or {expected}, got {self._next.text!r}")
        self._take()

    def _hint(self, name: str, called: bool) -> str:
        known = sorted(self.functions) if called else sorted({*self.functions, *self.terminals})
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        if near:
            return f"did you mean {' or '.join(near)}?" + ("" if called else " The inputs are y and p")
        return f"expected one of {', '.join(known)}"


def _constant(value: float) -> _Nodes:
    return (Node(CONSTANT, value),)
