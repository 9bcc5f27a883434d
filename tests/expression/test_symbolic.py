"""Expressions in sympy: the same function, shorter, and never for long."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy
from expression_cases import FORMULAS, random_expression

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex


@pytest.mark.parametrize(
    ("formula", "shorter"),
    [
        ("y*1 + 0*p", "y"),
        ("p - (p - y)", "y"),
        ("-1*y*ln(p)", "-y*ln(p)"),
        ("y*p + y*p", "2*p*y"),
        ("exp(ln(p))", "p"),
        ("abs(p)", "p"),
        ("sqrt(p)^2", "p"),
        ("ln(abs(p - y))", "ln(p - y)"),
        ("p^0.5*p^1.5", "p^2"),
        ("y*tanh(p) - 2*tanh(p + y - y)*y", "-y*tanh(p)"),
        ("y/(p*p)", "y/p^2"),
        ("1/(y + p)/p", "1/(p*(p + y))"),
        ("max(y, y*1)", "max(y, y)"),
        ("2*(3 - 1)*0.25*y", "y"),
        ("y - 3*p", "y - 3*p"),
        ("-p/3 - 2", "-(p/3 + 2)"),
        ("(p - y)*(-2.5)", "2.5*(y - p)"),
    ],
)
def test_simplified(formula, shorter):
    assert ex.to_text(ex.simplify(ex.parse(formula))) == shorter


def test_weights_are_part_of_it():
    expression = ex.evomal.from_tree("mul(mul(1, y), add(p, p))")
    assert ex.simplify(expression, [1.0, 2.0, 3.0, 0.5, 1.0, 1.0, 1.0]) == ex.parse("6*p*y")


def test_numbers_are_rounded_for_reading():
    assert ex.to_text(ex.simplify(ex.parse("0.123456*p*1")), digits=3) == "0.123*p"


def test_plain_formulas_stay_as_short():
    for formula in FORMULAS.values():
        assert ex.simplify(ex.parse(formula)).size <= ex.parse(formula).size


def test_simplified_is_the_same_function():
    rng = np.random.default_rng(4)
    shorter = compared = 0
    y, p = np.array([0.3, 1.0]), np.array([0.45, 0.8])
    interpreted = jax.jit(lambda program: ex.evaluate(program, ex.Inputs.of(jnp.asarray(y), jnp.asarray(p))))
    with jax.enable_x64(True):
        for i in range(90):
            names = (
                tuple(ex.evomal.OPERATORS.values()),
                ("add", "sub", "mul", "div", "square", "ln"),
                tuple(ex.OPERATORS),
            )
            expression = random_expression(rng, 15, names[i % 3], (1.0, -1.0, 2.5))
            simplified = ex.simplify(expression)
            values, found = (interpreted(ex.compile_program(e, 16)) for e in (expression, simplified))
            if np.all(np.abs(values) < 1e6):
                np.testing.assert_allclose(found, values, rtol=1e-8, atol=1e-8, err_msg=str(expression))
                compared += 1
            shorter += simplified.size < expression.size
    assert compared > 35
    assert shorter > 12


def test_sympy_is_given_the_function():
    y, p = sympy.Symbol("y", nonnegative=True), sympy.Symbol("p", positive=True)
    built = ex.to_sympy(ex.parse("-y*ln(p) + abs(p)"))
    assert sympy.simplify(built.doit() - (p - y * sympy.log(p))) == 0


@pytest.mark.parametrize(
    "formula",
    [
        "(p + y)^1000*(p - y)^999",
        "*".join(["(y + p)"] * 90),
        "+".join(["p*y"] * 200),
        *(f"{name}(" * 80 + "y*p - 2" + ")" * 80 for name in ("exp", "log_shift", "softsign", "sqrt", "relu", "abs")),
        "1/(1 + " * 45 + "p" + ")" * 45,
        "(y + " * 40 + "p" + ")^2" * 40,
        "p^(y + " * 35 + "p" + ")" * 35,
    ],
)
def test_hard_expressions_end(formula):
    start = time.perf_counter()
    expression = ex.parse(formula)
    assert ex.simplify(expression).size <= expression.size
    assert time.perf_counter() - start < 10.0


@pytest.mark.parametrize(
    ("function", "formula", "message"),
    [
        (ex.to_sympy, "+".join(["p"] * 43), "sympy is given a height of at most 40, this expression has 42"),
        (ex.to_sympy, "softsign(" * 30 + "p" + ")" * 30, "at most 1000 nodes, this expression needs 2147483647"),
        (ex.simplify, "+".join(["p"] * 501), "at most 1000 nodes, this expression needs 1001"),
        (ex.simplify, "y*9^9^9^9", "power of numbers is inf in this expression"),
    ],
)
def test_what_sympy_is_not_given(function, formula, message):
    with pytest.raises(UserError, match=message):
        function(ex.parse(formula))
