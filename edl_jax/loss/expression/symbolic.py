"""Expressions in sympy, and shorter expressions by sympy's rules. sympy is optional: imported when it is asked for."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from edl_jax.core.errors import UserError, require
from edl_jax.loss.expression.operators import CONSTANT, OPERATORS
from edl_jax.loss.expression.tree import Expression, Node, apply, constant, weighted

MAX_SIZE = 1000
"""Nodes of an expression that sympy is given, counted as sympy's definitions repeat them."""
MAX_HEIGHT = 40
"""Its height: sympy recurses."""
_TWICE = ("softsign", "sigmoid_slope", "bessel_i0e", "bessel_i1e")  # their definitions have the argument twice

_MAX_TERMS = 64
# What sympy finds out about |x| or x^a takes time without a bound where x is large: a larger x is a symbol to it.
_MAX_ARGUMENT, _MAX_OPERAND = 6, 30
_ARITHMETIC = ("add", "sub", "mul", "div", "neg", "square")
_KNOWN = (*_ARITHMETIC, "power", "ln", "exp", "sqrt", "abs")


def to_sympy(expression: Expression, weights: Sequence[float] | None = None) -> Any:
    """Return the sympy expression, node by node as it stands, in the symbols y (not negative) and p (positive).

    It is the same function, protections included, but for what keeps floating-point numbers finite: the guards at the
    singular points of `ln`, `/`, `^` and `sqrt`, and the bounds of `exp` and its like. `doit()` of the result lets
    sympy rearrange it, which can take long.

    Args:
      expression: at most `MAX_SIZE` nodes and `MAX_HEIGHT` high.
      weights: `[size]` edge weights, written as factors; None for none.

    Raises:
      UserError: sympy is not installed, or the expression is too large.
    """
    s = _sympy()
    expression = weighted(expression, weights)
    size = expression.fold(lambda node, sizes: 1 + (2 if node.name in _TWICE else 1) * sum(sizes))
    require(size <= MAX_SIZE, f"sympy is given at most {MAX_SIZE} nodes, this expression needs {size}")
    height = expression.height
    require(height <= MAX_HEIGHT, f"sympy is given a height of at most {MAX_HEIGHT}, this expression has {height}")
    terminals = _terminals(s)

    def build(node: Node, arguments: list[Any]) -> Any:
        if node.name == CONSTANT:
            return _number(s, node.value)
        return terminals[node.name] if node.name in terminals else OPERATORS[node.name].sympy(s, *arguments)

    with s.evaluate(False):
        return expression.fold(build)


def simplify(expression: Expression, weights: Sequence[float] | None = None) -> Expression:
    """Return a shorter expression of the same value, away from singular points, by rules of sympy that end soon.

    sympy's own `simplify` tries rules without a bound on time. Here numbers are computed, equal terms and factors
    collected, common factors taken out, powers joined, products multiplied out (up to 64 terms), |p| = p and
    e^ln p = p used, and the shortest result is kept: for the argument of each function, then for the whole.

    Args:
      expression: at most `MAX_SIZE` nodes.
      weights: `[size]` edge weights, written as factors; None for none.

    Raises:
      UserError: sympy is not installed, the expression is too large, or a part without y and p has no finite value.
    """
    s = _sympy()
    expression = _fold_constants(weighted(expression, weights))
    size = expression.size
    require(size <= MAX_SIZE, f"sympy is given at most {MAX_SIZE} nodes, this expression needs {size}")
    parts = _Parts(s)

    def build(node: Node, arguments: list[Any]) -> Any:
        if node.name == CONSTANT:
            return _number(s, node.value)
        if node.name in parts.terminals:
            return parts.terminals[node.name]
        limit = _MAX_OPERAND if node.name in _ARITHMETIC else _MAX_ARGUMENT
        arguments = [parts.small(x, limit) for x in arguments]
        if node.name in _KNOWN:
            return OPERATORS[node.name].sympy(s, *arguments)
        return s.Function(node.name, real=True)(*arguments)

    shorter = parts.expression(parts.shortest(expression.fold(build)))
    return shorter if shorter.size <= expression.size else expression


class _Parts:
    """Large parts of an expression, which stand as symbols in the parts that use them."""

    def __init__(self, s: Any):
        self.s = s
        self.terminals = _terminals(s)
        self.symbols: dict[Any, Any] = {}
        self.sizes: dict[Any, int] = {}
        self.expressions = {s.Symbol(name, **known): apply(name) for name, known in _SYMBOLS.items()}

    def small(self, x: Any, limit: int) -> Any:
        """Return x, or a symbol for it where it has more than `limit` operations."""
        if x.is_Atom or self.s.count_ops(x) <= limit:
            return x
        x = self.shortest(x)
        if self.s.count_ops(x) <= limit:
            return x
        if x not in self.symbols:
            symbol = self.s.Dummy(real=True)
            self.symbols[x], self.sizes[symbol] = symbol, self.size(x)
            self.expressions[symbol] = self.expression(x)
        return self.symbols[x]

    def shortest(self, x: Any) -> Any:
        s = self.s
        forms = [x, s.factor_terms(x), s.powsimp(x)]
        if _terms(s, x) <= _MAX_TERMS:
            expanded = s.expand_mul(s.expand_multinomial(x))
            forms += [expanded, s.factor_terms(expanded)]
        return min(forms, key=self.size)

    def size(self, x: Any) -> int:
        """Return the number of operations, those of the parts that symbols stand for included."""
        inside = sum(self.sizes.get(part, 0) for part in self.s.preorder_traversal(x))
        return int(self.s.count_ops(x)) + inside

    def expression(self, x: Any) -> Expression:
        """Return what sympy made as an expression of ours."""
        if x in self.expressions:
            return self.expressions[x]
        if x.is_Number:
            return constant(float(x))
        if x.is_Add:
            return self._sum(x)
        if x.is_Mul:
            return self._product(x)
        if x.is_Pow:
            return self._power(x.base, x.exp)
        if x.func in (self.s.exp, self.s.log, self.s.Abs):
            inside = x.args[0]
            if x.func is self.s.log and inside.func is self.s.Abs:
                inside = inside.args[0]  # `ln` takes the magnitude
            name = {self.s.exp: "exp", self.s.log: "ln", self.s.Abs: "abs"}[x.func]
            return apply(name, self.expression(inside))
        require(x.func.__name__ in OPERATORS, f"sympy finds no finite value for a part of this expression: {x!s:.60}")
        return apply(x.func.__name__, *(self.expression(a) for a in x.args))

    def _sum(self, x: Any) -> Expression:
        def negative(term: Any) -> bool:
            return bool(term.as_coeff_Mul()[0] < 0)

        first, *others = sorted(x.as_ordered_terms(), key=negative)
        total = self.expression(first)
        for term in others:
            minus = negative(term)
            total = apply("sub" if minus else "add", total, self.expression(-term if minus else term))
        return total

    def _product(self, x: Any) -> Expression:
        coefficient, rest = x.as_coeff_Mul()
        above, below = [], []
        for factor in rest.as_ordered_factors():
            base, exponent = factor.as_base_exp()
            if exponent.is_Number and exponent < 0:
                below.append(self._power(base, -exponent))
            else:
                above.append(self.expression(factor))
        top, bottom = (float(c) for c in (coefficient.as_numer_denom()))
        if abs(top) != 1.0 or not above:
            above.insert(0, constant(top))
        elif top < 0.0:
            above[0] = apply("neg", above[0])
        if bottom != 1.0:
            below.insert(0, constant(bottom))
        product, divisor = (functools.reduce(functools.partial(apply, "mul"), f) if f else None for f in (above, below))
        assert product is not None
        return product if divisor is None else apply("div", product, divisor)

    def _power(self, base: Any, exponent: Any) -> Expression:
        power = float(exponent) if exponent.is_Number else None
        if power is not None and power < 0.0:
            return apply("div", constant(1.0), self._power(base, -exponent))
        if base.func is self.s.Abs and not (power is not None and power.is_integer()):
            base = base.args[0]  # `sqrt` and `^` take the magnitude
        known = {1.0: None, 2.0: "square", 0.5: "sqrt"}
        if power in known:
            name = known[power]
            return self.expression(base) if name is None else apply(name, self.expression(base))
        return apply("power", self.expression(base), self.expression(exponent))


_SYMBOLS: dict[str, dict[str, bool]] = {"y": {"nonnegative": True}, "p": {"positive": True}}


def _terminals(s: Any) -> dict[str, Any]:
    y, p = (s.Symbol(name, **known) for name, known in _SYMBOLS.items())
    with s.evaluate(False):
        return {"y": y, "p": p, "log_p": s.log(p), "log_not_p": s.log(1 - p)}


def _number(s: Any, value: float) -> Any:
    return s.Integer(int(value)) if value.is_integer() and abs(value) < 1e15 else s.Float(value)


def _sympy() -> Any:
    try:
        import sympy
    except ImportError as error:
        raise UserError("this needs sympy, which is not installed: pip install 'edl-jax[train]'") from error
    return sympy


def _fold_constants(expression: Expression) -> Expression:
    """Return the expression with the parts that hold no y and no p as numbers: sympy would compute 9^9^9 exactly."""

    def fold(node: Node, arguments: list[tuple[Node, ...]]) -> tuple[Node, ...]:
        if arguments and all(a[0].name == CONSTANT for a in arguments):
            value = _value(node.name, *(a[0].value for a in arguments))
            require(
                math.isfinite(value), f"{node.name} of numbers is {value} in this expression, expected a finite value"
            )
            return (Node(CONSTANT, value),)
        return (node, *(n for a in arguments for n in a))

    return Expression(expression.fold(fold))


@functools.cache
def _value(name: str, *arguments: float) -> float:
    with jax.enable_x64(True):
        return float(OPERATORS[name].function(*(jnp.asarray(a, jnp.float64) for a in arguments)))


def _terms(s: Any, expression: Any) -> int:
    """Return a bound on the number of terms that multiplying out gives, up to `_MAX_TERMS` + 1."""
    terms: dict[Any, int] = {}
    for part in s.postorder_traversal(expression):
        counts = [terms[a] for a in part.args]
        count = 1
        if part.is_Add:
            count = sum(counts)
        elif part.is_Mul:
            count = math.prod(counts)
        elif part.is_Pow and part.exp.is_Integer:
            count = counts[0] ** min(abs(int(part.exp)), _MAX_TERMS) if counts[0] > 1 else 1
        terms[part] = min(count, _MAX_TERMS + 1)
    return max(terms.values())
