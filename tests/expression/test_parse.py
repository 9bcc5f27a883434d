"""Formulas: what they mean, how they print, where they are wrong."""

import hypothesis
import numpy as np
import pytest
from expression_cases import random_expression
from hypothesis import strategies as st

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex
from edl_jax.loss.expression.parse import MAX_DEPTH, MAX_LENGTH

Y, P, ONE, TWO = ex.Y, ex.P, ex.constant(1), ex.constant(2)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("y", Y),
        (" ( p ) ", P),
        ("y - p - 1", ex.apply("sub", ex.apply("sub", Y, P), ONE)),
        ("y / p / 2", ex.apply("div", ex.apply("div", Y, P), TWO)),
        ("y + p*2", ex.apply("add", Y, ex.apply("mul", P, TWO))),
        ("p^y^2", ex.apply("power", P, ex.apply("square", Y))),
        ("p**3", ex.apply("power", P, ex.constant(3))),
        ("-p^2", ex.apply("neg", ex.apply("square", P))),
        ("(-p)^2", ex.apply("square", ex.apply("neg", P))),
        ("p^-1", ex.apply("power", P, ex.constant(-1))),
        ("2*-3", ex.apply("mul", TWO, ex.constant(-3))),
        ("-2^p", ex.apply("neg", ex.apply("power", TWO, P))),
        ("-p*y", ex.apply("mul", ex.apply("neg", P), Y)),
        ("+p", P),
        ("--1", ex.apply("neg", ex.constant(-1))),
        ("1e-3 + .5 + 2.", ex.apply("add", ex.apply("add", ex.constant(1e-3), ex.constant(0.5)), TWO)),
        ("ln(p)", ex.LOG_P),
        ("log(p)", ex.LOG_P),
        ("log_p", ex.LOG_P),
        ("ln(1 - p)", ex.LOG_NOT_P),
        ("ln(y)", ex.apply("ln", Y)),
        ("log_clamp(p)", ex.apply("log_clamp", P)),
        ("aq(max(y, p), add(1, p))", ex.apply("aq", ex.apply("max", Y, P), ex.apply("add", ONE, P))),
    ],
)
def test_meaning(formula, expected):
    assert ex.parse(formula) == expected


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        ("-y*log(p)", "-y*ln(p)"),
        ("((y))-(p-1)", "y - (p - 1)"),
        ("y+(p+1)", "y + (p + 1)"),
        ("(p^2)^3", "(p^2)^3"),
        ("p-(-1)", "p - (-1)"),
        ("neg(1)", "neg(1)"),
        ("power(p, 2)", "power(p, 2)"),
        ("ln(1-p)/1e-20", "ln(1 - p)/1e-20"),
        ("0.1*3e15", "0.1*3000000000000000.0"),
        ("y+(-p)*2", "y + (-p*2)"),
    ],
)
def test_text(formula, text):
    assert ex.to_text(ex.parse(formula)) == text
    assert str(ex.parse(formula)) == text
    assert ex.parse(text) == ex.parse(formula)


@st.composite
def expressions(draw):
    constants = draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
    seed = draw(st.integers(0, 2**32 - 1))
    # `sub`, `neg`, `power` and numbers are where parentheses and signs matter.
    names = draw(st.sampled_from([("sub", "neg", "power", "square", "mul", "ln", "div"), tuple(ex.OPERATORS)]))
    return random_expression(np.random.default_rng(seed), 25, names, (*constants, 1.0, 2.0, -2.0))


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(expressions())
def test_text_parses_back(expression):
    assert ex.parse(ex.to_text(expression)) == expression


@pytest.mark.parametrize(
    ("formula", "column", "reason"),
    [
        ("", 1, "it is empty"),
        ("  ", 3, "it is empty"),
        ("y*", 3, "expected a number, a name or '(', got the end"),
        ("y*(p+1", 3, "'(' is never closed"),
        ("y*p)", 4, "')' closes no '('"),
        ("2 p", 3, "expected an operator before 'p'"),
        ("(y p)", 4, "expected an operator or ',' or ')', got 'p'"),
        ("y & p", 3, "unexpected character '&'"),
        ("*y", 1, "expected a number, a name or '(', got '*'"),
        ("y*lgo(p)", 3, "unknown function 'lgo': did you mean log"),
        ("y*q", 3, "unknown name 'q': did you mean aq? The inputs are y and p"),
        ("y*zzz", 3, "unknown name 'zzz': expected one of abs, add"),
        ("zzz(y)", 1, "unknown function 'zzz': expected one of abs, add"),
        ("P", 1, "unknown name 'P': did you mean p"),
        ("y*abs", 3, "abs is a function, expected abs(a)"),
        ("p(1)", 2, "p is no function; write p*(...)"),
        ("1 + tanh(y, p)", 5, "tanh takes 1 argument, got 2"),
        ("max(y)", 1, "max takes 2 arguments, got 1"),
        ("abs()", 1, "abs takes 1 argument, got 0"),
        ("1e999*y", 1, "the number 1e999 is too large"),
        ("y +\n\t$", 6, "unexpected character '$'"),
        ("__import__('os')", 1, "unknown function '__import__'"),
        ("(" * 5000, MAX_LENGTH + 1, "it has 5000 characters, expected at most 2000"),
        ("(" * 1500, MAX_DEPTH + 1, "nested more than 150 deep"),
        ("-" * 1500 + "y", MAX_DEPTH + 1, "nested more than 150 deep"),
        ("p^" * 900 + "y", 2 * MAX_DEPTH + 1, "nested more than 150 deep"),
        ("abs(" * 400, 4 * MAX_DEPTH + 1, "nested more than 150 deep"),
    ],
)
def test_errors_point_at_the_place(formula, column, reason):
    with pytest.raises(UserError) as caught:
        ex.parse(formula)
    error = caught.value
    assert isinstance(error, ex.FormulaError)
    assert error.column == column
    assert error.reason.startswith(reason)
    message = str(error)
    assert f"column {column}: {reason}" in message
    assert "\n" not in message
    text, caret, last = error.caret().split("\n")
    assert len(text) == len(formula)
    assert caret == " " * (column - 1) + "^"
    assert last == error.reason


def test_a_long_message_shows_the_surroundings():
    with pytest.raises(ex.FormulaError) as caught:
        ex.parse("y + " * 100 + "$" + " + p" * 100)
    shown = str(caught.value).split("'")[1]
    assert len(shown) < 70
    assert "$" in shown


def test_a_long_sum_is_no_deep_formula():
    terms = 900
    expression = ex.parse("+".join(terms * "p"))
    assert expression.height == terms - 1
    assert ex.parse(ex.to_text(ex.parse("+".join(400 * "p")))) == ex.parse("+".join(400 * "p"))
    assert hash(expression) == hash(ex.parse("+".join(terms * "p")))


@pytest.mark.parametrize(
    ("formula", "latex"),
    [
        ("-y*ln(p)", r"-y \, \ln\left(p\right)"),
        ("(p - y)^2", r"\left(p - y\right)^{2}"),
        ("exp(p)^2", r"\left(e^{p}\right)^{2}"),
        ("y/p^3", r"\frac{y}{p^{3}}"),
        ("(y + 1)*(p - 1)", r"\left(y + 1\right) \, \left(p - 1\right)"),
        ("y - (p - 1)", r"y - \left(p - 1\right)"),
        ("y*-1.23456", r"y \, \left(-1.235\right)"),
        ("1e-9*abs(y)", r"10^{-9} \, \left|y\right|"),
        ("-(p + 1)", r"-\left(p + 1\right)"),
    ],
)
def test_latex(formula, latex):
    assert ex.to_latex(ex.parse(formula)) == latex


@pytest.mark.parametrize("name", [*ex.OPERATORS])
def test_latex_of_every_operator_is_balanced(name):
    latex = ex.to_latex(ex.apply(name, *[Y, P][: ex.OPERATORS[name].arity]))
    assert latex.count("{") == latex.count("}")
    assert latex.count(r"\left") == latex.count(r"\right")
    assert "#" not in latex
