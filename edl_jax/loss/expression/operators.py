"""The operators and terminals that expressions are made of.

Three families share one table: formulas that people write, the trees of EvoMAL and the genomes of NLFS. Where they
protect the same function in different ways, the name says how:

- `*_clamp` (EvoMAL): the argument's magnitude is at least 1e-7; the slope below is 0.
- `*_shift` (NLFS): 1e-7 is added to the argument.
- `ln`, `/`, `^` and `sqrt` are the plain functions. They differ from them only so close to a singular point that a
  slope would exceed 1e30 (`ln`, and powers: magnitude of the argument below 1e-30 or more; `/`: of the denominator
  below 1e-15), where the value stays that of the limit and the slope is 0 (as the slope of `sqrt` at 0);
  and `ln` and `sqrt` take magnitudes.

`exp`, `sinh` and the growing Bessel functions are constant from where they come within a factor e^8 of the largest
number of their dtype (|a| = 80.7 in float32), as an infinity would make NaN of a slope of 0. Nothing else is bounded.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy import special

EPSILON = 1e-7
"""Protection of `*_clamp` and `*_shift`."""
SMALLEST = 1e-30
"""Inverse of the steepest slope of `ln`, `/` and `^`: float32 must hold it."""
SMALLEST_DENOMINATOR = 1e-15
"""As `SMALLEST`, for the slope 1 / b^2 of 1 / b."""

SUM, PRODUCT, NEGATIVE, POWER, ATOM = range(5)
"""How tightly the printed form of a node holds together."""


@dataclass(frozen=True)
class Operator:
    """A function of one or two arguments, elementwise.

    Attributes:
      name: as written in formulas, `name(a, b)`.
      arity: number of arguments, 1 or 2.
      function: the function of JAX arrays of one shape.
      meaning: definition in plain text, in terms of `a` and `b`.
      latex: LaTeX form, `#1` and `#2` standing for the arguments.
      sympy: the function of (sympy, expressions): the same function, protection included, but for the guards of the
        plain `ln`, `/`, `^` and for the bounds of `exp` and its like.
      level: how tightly the LaTeX form holds together.
      infix: plain-text form of an operator that is not written as a call, and how tightly it holds together.
    """

    name: str
    arity: int
    function: Callable[..., jax.Array]
    meaning: str
    latex: str
    sympy: Callable[..., Any]
    level: int = ATOM
    infix: tuple[str, int] | None = None


def _ln(x: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(jnp.abs(x), SMALLEST))


def _sqrt(x: jax.Array) -> jax.Array:
    zero = x == 0.0
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.abs(jnp.where(zero, 1.0, x))))


def _div(a: jax.Array, b: jax.Array) -> jax.Array:
    floor = jnp.where(b < 0.0, -SMALLEST_DENOMINATOR, SMALLEST_DENOMINATOR)
    return a / jnp.where(jnp.abs(b) < SMALLEST_DENOMINATOR, floor, b)


def _power(a: jax.Array, b: jax.Array) -> jax.Array:
    # The slope b a^(b - 1) reaches 1e30 at this magnitude of a: 1e-15 for b = -1, as for `/`.
    exponent = jax.lax.stop_gradient(b)
    floor = jnp.exp(math.log(SMALLEST) / jnp.maximum(1.0 - exponent, 1.0))
    size = jnp.power(jnp.maximum(jnp.abs(a), floor), b)
    odd = jnp.abs(jnp.remainder(exponent, 2.0)) == 1.0
    return jnp.where((a == 0.0) & (exponent > 0.0), 0.0, jnp.where((a < 0.0) & odd, -size, size))


def _sympy_power(s: Any, a: Any, b: Any) -> Any:
    return a**b if b.is_integer else s.Abs(a) ** b


def _bounded(function: Callable[[jax.Array], jax.Array], even: bool = True) -> Callable[[jax.Array], jax.Array]:
    """Return a function that grows as e^|x| (as e^x if not `even`) without its overflow."""

    def bounded(x: jax.Array) -> jax.Array:
        limit = math.log(jnp.finfo(jnp.result_type(x)).max) - 8.0
        return function(jnp.clip(x, -limit if even else None, limit))

    return bounded


def _of_magnitude(name: str, clamped: bool = False) -> Callable[..., Any]:
    """Return the sympy builder of `name(|x| + 1e-7)`, or of `name(max(|x|, 1e-7))`."""
    if clamped:
        return lambda s, x: getattr(s, name)(s.Max(s.Abs(x), EPSILON, evaluate=False))
    return lambda s, x: getattr(s, name)(s.Abs(x) + EPSILON)


def _function(name: str) -> Callable[..., Any]:
    return lambda s, x: getattr(s, name)(x)


_TABLE = (
    # Written infix.
    Operator("add", 2, jnp.add, "a + b", "#1 + #2", lambda s, a, b: a + b, SUM, ("#1 + #2", SUM)),
    Operator("sub", 2, jnp.subtract, "a - b", "#1 - #2", lambda s, a, b: a - b, SUM, ("#1 - #2", SUM)),
    Operator("mul", 2, jnp.multiply, "a b", r"#1 \, #2", lambda s, a, b: a * b, PRODUCT, ("#1*#2", PRODUCT)),
    Operator("div", 2, _div, "a / b", r"\frac{#1}{#2}", lambda s, a, b: a / b, POWER, ("#1/#2", PRODUCT)),
    Operator("neg", 1, jnp.negative, "-a", "-#1", lambda s, x: -x, NEGATIVE, ("-#1", NEGATIVE)),
    Operator("square", 1, jnp.square, "a^2", "#1^{2}", lambda s, x: x**2, POWER, ("#1^2", POWER)),
    Operator(
        "power",
        2,
        _power,
        "a^b; |a|^b for a < 0 unless b is whole",
        "#1^{#2}",
        _sympy_power,
        POWER,
        ("#1^#2", POWER),
    ),
    # Plain functions.
    Operator("ln", 1, _ln, "ln |a|", r"\ln\left|#1\right|", lambda s, x: s.log(s.Abs(x)), POWER),
    Operator("sqrt", 1, _sqrt, "sqrt(|a|)", r"\sqrt{\left|#1\right|}", lambda s, x: s.sqrt(s.Abs(x))),
    Operator("abs", 1, jnp.abs, "|a|", r"\left|#1\right|", _function("Abs")),
    Operator("sign", 1, jnp.sign, "sign of a, slope 0", r"\mathrm{sign}\left(#1\right)", _function("sign")),
    Operator(
        "max", 2, jnp.maximum, "max(a, b)", r"\max\left(#1, #2\right)", lambda s, a, b: s.Max(a, b, evaluate=False)
    ),
    Operator(
        "min", 2, jnp.minimum, "min(a, b)", r"\min\left(#1, #2\right)", lambda s, a, b: s.Min(a, b, evaluate=False)
    ),
    Operator(
        "aq",
        2,
        lambda a, b: a / jnp.sqrt(1.0 + jnp.square(b)),
        "analytic quotient a / sqrt(1 + b^2)",
        r"\frac{#1}{\sqrt{1 + \left(#2\right)^{2}}}",
        lambda s, a, b: a / s.sqrt(1 + b**2),
        POWER,
    ),
    Operator("exp", 1, _bounded(jnp.exp, even=False), "e^a", r"e^{#1}", _function("exp"), POWER),
    Operator(
        "sigmoid",
        1,
        jax.nn.sigmoid,
        "1 / (1 + e^-a)",
        r"\sigma\left(#1\right)",
        lambda s, x: 1 / (1 + s.exp(-x)),
    ),
    Operator("tanh", 1, jnp.tanh, "tanh a", r"\tanh\left(#1\right)", _function("tanh")),
    Operator("sin", 1, jnp.sin, "sin a", r"\sin\left(#1\right)", _function("sin")),
    Operator("sinh", 1, _bounded(jnp.sinh), "sinh a", r"\sinh\left(#1\right)", _function("sinh")),
    Operator("arcsinh", 1, jnp.arcsinh, "arcsinh a", r"\mathrm{arcsinh}\left(#1\right)", _function("asinh")),
    Operator("arctan", 1, jnp.arctan, "arctan a", r"\arctan\left(#1\right)", _function("atan")),
    Operator("erf", 1, special.erf, "error function", r"\mathrm{erf}\left(#1\right)", _function("erf")),
    Operator("erfc", 1, special.erfc, "1 - erf a", r"\mathrm{erfc}\left(#1\right)", _function("erfc")),
    Operator(
        "bessel_i0",
        1,
        _bounded(special.i0),
        "modified Bessel I0(a)",
        r"I_0\left(#1\right)",
        lambda s, x: s.besseli(0, x),
    ),
    Operator(
        "bessel_i0e",
        1,
        special.i0e,
        "e^-|a| I0(a)",
        r"e^{-\left|#1\right|} I_0\left(#1\right)",
        lambda s, x: s.exp(-s.Abs(x)) * s.besseli(0, x),
        level=PRODUCT,
    ),
    Operator(
        "bessel_i1",
        1,
        _bounded(special.i1),
        "modified Bessel I1(a)",
        r"I_1\left(#1\right)",
        lambda s, x: s.besseli(1, x),
    ),
    Operator(
        "bessel_i1e",
        1,
        special.i1e,
        "e^-|a| I1(a)",
        r"e^{-\left|#1\right|} I_1\left(#1\right)",
        lambda s, x: s.exp(-s.Abs(x)) * s.besseli(1, x),
        level=PRODUCT,
    ),
    Operator(
        "relu",
        1,
        lambda x: jnp.maximum(x, 0.0),
        "max(a, 0)",
        r"\max\left(#1, 0\right)",
        lambda s, x: s.Max(x, 0, evaluate=False),
    ),
    Operator(
        "min_zero",
        1,
        lambda x: jnp.minimum(x, 0.0),
        "min(a, 0)",
        r"\min\left(#1, 0\right)",
        lambda s, x: s.Min(x, 0, evaluate=False),
    ),
    Operator(
        "softsign",
        1,
        lambda x: x / (1.0 + jnp.abs(x)),
        "a / (1 + |a|)",
        r"\frac{#1}{1 + \left|#1\right|}",
        lambda s, x: x / (1 + s.Abs(x)),
        POWER,
    ),
    Operator(
        "inverse_abs",
        1,
        lambda x: 1.0 / (1.0 + jnp.abs(x)),
        "1 / (1 + |a|)",
        r"\frac{1}{1 + \left|#1\right|}",
        lambda s, x: 1 / (1 + s.Abs(x)),
        POWER,
    ),
    Operator(
        "tanh_slope",
        1,
        lambda x: 1.0 - jnp.square(jnp.tanh(x)),
        "1 - tanh(a)^2",
        r"1 - \tanh^{2}\left(#1\right)",
        lambda s, x: 1 - s.tanh(x) ** 2,
        level=SUM,
    ),
    Operator(
        "sigmoid_slope",
        1,
        lambda x: jax.nn.sigmoid(x) * jax.nn.sigmoid(-x),
        "sigmoid(a) (1 - sigmoid(a))",
        r"\sigma'\left(#1\right)",
        lambda s, x: 1 / (1 + s.exp(-x)) / (1 + s.exp(x)),
    ),
    # EvoMAL's protections.
    Operator(
        "log_clamp",
        1,
        lambda x: jnp.log(jnp.maximum(jnp.abs(x), EPSILON)),
        "ln max(|a|, 1e-7)",
        r"\ln\max\left(\left|#1\right|, 10^{-7}\right)",
        _of_magnitude("log", clamped=True),
        POWER,
    ),
    Operator(
        "sqrt_clamp",
        1,
        lambda x: jnp.sqrt(jnp.maximum(jnp.abs(x), EPSILON)),
        "sqrt(max(|a|, 1e-7))",
        r"\sqrt{\max\left(\left|#1\right|, 10^{-7}\right)}",
        _of_magnitude("sqrt", clamped=True),
    ),
    # NLFS's protections.
    Operator(
        "log_shift",
        1,
        lambda x: jnp.log(jnp.abs(x) + EPSILON),
        "ln(|a| + 1e-7)",
        r"\ln\left(\left|#1\right| + 10^{-7}\right)",
        _of_magnitude("log"),
        POWER,
    ),
    Operator(
        "log10_shift",
        1,
        lambda x: jnp.log(jnp.abs(x) + EPSILON) / math.log(10.0),
        "log10(|a| + 1e-7)",
        r"\log_{10}\left(\left|#1\right| + 10^{-7}\right)",
        lambda s, x: s.log(s.Abs(x) + EPSILON) / s.log(10),
        POWER,
    ),
    Operator(
        "softplus_shift",
        1,
        lambda x: jnp.logaddexp(x, jnp.log1p(EPSILON)),
        "ln(1 + e^a + 1e-7)",
        r"\ln\left(1 + e^{#1} + 10^{-7}\right)",
        lambda s, x: s.log(1 + s.exp(x) + EPSILON),
        POWER,
    ),
    Operator(
        "inverse_shift",
        1,
        lambda x: _div(jnp.ones_like(x), x + EPSILON),
        "1 / (a + 1e-7)",
        r"\frac{1}{#1 + 10^{-7}}",
        lambda s, x: 1 / (x + EPSILON),
        POWER,
    ),
    Operator(
        "div_shift",
        2,
        lambda a, b: _div(a, b + EPSILON),
        "a / (b + 1e-7)",
        r"\frac{#1}{#2 + 10^{-7}}",
        lambda s, a, b: a / (b + EPSILON),
        POWER,
    ),
)

OPERATORS: dict[str, Operator] = {operator.name: operator for operator in _TABLE}
"""Every operator, by name."""

TERMINALS: dict[str, str] = {
    "y": "label probability of the class",
    "p": "softmax probability of the class",
    "log_p": "ln p, exact: finite with a finite slope for any logits",
    "log_not_p": "ln(1 - p), as exact",
}
"""The inputs of an expression, by name, with their meaning."""

CONSTANT = "constant"
CODES: dict[str, int] = {name: i for i, name in enumerate((CONSTANT, *TERMINALS, *OPERATORS))}
"""Integers that stand for the names in a `Program`."""
NAMES: tuple[str, ...] = tuple(CODES)
"""The names, by code."""


def arity(name: str) -> int:
    """Return how many arguments a node of this name has: 0 for a constant or terminal."""
    return OPERATORS[name].arity if name in OPERATORS else 0
