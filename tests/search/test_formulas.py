"""Formulas of trees: exact, rounded, simplified, LaTeX, and what happens without sympy or with large trees."""

import sys
import time

import pytest
from search_cases import CONFIG, random_trees

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex
from edl_jax.search import formulas
from edl_jax.search.formulas import MAX_SIMPLIFIED, describe


def test_a_tree_in_writing():
    tree = ex.evomal.from_tree("mul(mul(1, y), abs(log(p)))")
    found = describe(tree, [1.0, 1.0, 1.23456, 1.0, 1.0, 1.0, 0.98765])
    assert found.text == "1.23456*y*abs(log_clamp(0.98765*p))"
    assert found.rounded == "1.23*y*abs(log_clamp(0.988*p))"
    assert found.simplified == "1.23*y*abs(log_clamp(0.988*p))"
    assert found.latex.startswith(r"1.23 \, y \, \left|\ln\max")
    assert found.complexity == tree.size == 7


def test_what_can_be_said_shorter_is():
    found = describe(ex.parse("y*p + p*y - 0*p"))
    assert found.text == "y*p + p*y - 0*p"
    assert found.simplified == "2*p*y"
    assert found.latex == r"2 \, p \, y"
    assert found.complexity == 11


def test_the_text_is_the_tree():
    for tree, weights in zip(*random_trees(5, 5, max_height=4), strict=True):
        assert ex.parse(describe(tree, weights).text) == ex.weighted(tree, weights)


def test_without_sympy_a_formula_is_not_simplified(monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    found = describe(ex.parse("0.123456*p*y + 0*p"))
    assert found.simplified == found.rounded == "0.123*p*y + 0*p"
    assert found.latex == r"0.123 \, p \, y + 0 \, p"


def test_large_trees_end_soon():
    grown, _ = random_trees(2, 1, max_height=9)
    full = ex.parse("p - y")
    while full.height < CONFIG.max_height:
        full = ex.apply("mul", full, full)
    start = time.perf_counter()
    found = [describe(tree, [1.1] * tree.size) for tree in (*grown, full)]
    assert time.perf_counter() - start < 10.0
    assert found[-1].complexity > MAX_SIMPLIFIED
    assert found[-1].simplified == found[-1].rounded


def test_what_sympy_cannot_do_is_left(monkeypatch):
    for error in (UserError("sympy finds no finite value"), RecursionError()):
        monkeypatch.setattr(formulas, "simplify", lambda _, error=error: (_ for _ in ()).throw(error))
        assert describe(ex.parse("y*9^9")).simplified == "y*9^9"


def test_weights_of_another_number_are_refused():
    with pytest.raises(UserError, match="2 weights for an expression of 3 nodes"):
        describe(ex.parse("y*p"), [1.0, 2.0])
