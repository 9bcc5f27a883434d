"""Expressions, weights and programs as data."""

import json

import jax
import numpy as np
import pytest
from expression_cases import random_expression

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex


def test_an_expression_is_a_value():
    a, b = ex.parse("-y*ln(p)"), ex.parse("- y * log( p )")
    assert a == b
    assert len({a, b}) == 1
    assert a != ex.parse("-ln(p)*y")
    assert (a.size, a.height) == (4, 2)
    assert a.arguments == (ex.parse("-y"), ex.LOG_P)
    assert a.names == {"mul", "neg", "y", "log_p"}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((ex.Node("add"), ex.Node("y")), "lacks 1 more"),
        ((ex.Node("y"), ex.Node("p")), "ends after 1 of its 2 nodes"),
        ((), "lacks 1 more"),
        ((ex.Node("sinn"), ex.Node("p")), "unknown operator 'sinn': did you mean sin"),
        ((ex.Node("constant", float("nan")),), "a constant is nan"),
    ],
)
def test_what_is_no_tree(nodes, message):
    with pytest.raises(UserError, match=message):
        ex.Expression(nodes)


def test_an_operator_takes_its_arguments():
    with pytest.raises(UserError, match="add takes 2 arguments, got 1"):
        ex.apply("add", ex.Y)
    with pytest.raises(UserError, match="unknown operator 'plus'"):
        ex.apply("plus", ex.Y, ex.P)


def test_the_logarithm_of_p_is_a_terminal_however_it_is_built():
    assert ex.apply("ln", ex.P) == ex.LOG_P
    assert ex.apply("ln", ex.apply("sub", ex.constant(1), ex.P)) == ex.LOG_NOT_P
    assert ex.apply("log_clamp", ex.P).size == 2


def test_weights_are_written_as_factors():
    expression = ex.parse("tanh(y - 1)*p")  # mul, tanh, sub, y, 1, p
    weights = [9.0, 2.0, 1.0, -0.5, 3.0, 1.0]
    assert ex.to_text(expression, weights) == "2*tanh(-0.5*y - 3)*p"
    assert ex.weighted(expression, None) == expression
    for wrong, message in (([1.0], "1 weights for an expression of 6 nodes"), ([np.inf] * 6, "weight 0 is inf")):
        with pytest.raises(UserError, match=message):
            ex.weighted(expression, wrong)


@pytest.mark.parametrize("seed", range(20))
def test_decompiled_is_compiled(seed):
    rng = np.random.default_rng(seed)
    expression = random_expression(rng, 20, constants=(0.3, -2.0))
    weights = rng.normal(size=expression.size).tolist()
    program = ex.compile_program(expression, 24, weights)
    assert ex.decompile(program) == (expression, weights)
    assert all(array.shape == (24,) for array in program)


def test_programs_of_one_length_stack():
    programs = [ex.compile_program(ex.parse(formula), 8) for formula in ("y", "-y*ln(p)")]
    stacked = jax.tree.map(lambda *arrays: np.stack(arrays), *programs)
    assert all(array.shape == (2, 8) for array in stacked)


def test_a_shared_instruction_becomes_two_subtrees():
    program = ex.compile_program(ex.parse("y*p"), 4)
    program.second[0] = program.first[0]
    assert ex.decompile(program)[0] == ex.parse("y*y")


def test_arrays_that_are_no_program():
    with pytest.raises(UserError, match="expression of 3 nodes does not fit a program of length 2"):
        ex.compile_program(ex.parse("y*p"), 2)
    cycle = ex.compile_program(ex.parse("y*p"), 4)
    cycle.first[0] = 0
    with pytest.raises(UserError, match="instruction 0 uses 0, expected 1 to 3"):
        ex.decompile(cycle)
    unknown = ex.compile_program(ex.parse("y*p"), 4)
    unknown.op[1] = 999
    with pytest.raises(UserError, match="instruction 1 has code 999"):
        ex.decompile(unknown)


def test_record_survives_json():
    expression = ex.parse("0.1*tanh(y) - p/3")
    weights = tuple(np.random.default_rng(0).normal(size=expression.size).tolist())
    record = ex.Record(expression, weights, flip=True)
    assert ex.Record.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    plain = ex.Record(expression)
    assert ex.Record.from_dict(json.loads(json.dumps(plain.to_dict()))) == plain


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "an expression is stored as formula"),
        ({"weights": None}, "an expression is stored as formula"),
        ({"formula": "y", "extra": 1}, "an expression is stored as formula"),
        ({"formula": "y*"}, "column 3"),
        ({"formula": "y", "flip": 1}, "flip is 1, expected true or false"),
        ({"formula": "y", "weights": ["a"]}, "weights are .* expected numbers"),
        ({"formula": "y", "weights": 2}, "weights are 2, expected numbers"),
        ({"formula": "y", "weights": [1.0, 2.0]}, "2 weights for an expression of 1 nodes"),
    ],
)
def test_what_is_no_record(data, message):
    with pytest.raises(UserError, match=message):
        ex.Record.from_dict(data)
