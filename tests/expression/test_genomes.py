"""EvoMAL's trees and NLFS's genomes as expressions."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex
from edl_jax.loss.expression.nlfs import BINARY, UNARY, Gene, Genome, binary_phenotype

IDLE = Gene(1)
CROSS_ENTROPY = Genome(
    (
        Gene(1, unary=4, inputs=(0, 0)),
        Gene(1, unary=1, inputs=(1, 0)),
        IDLE,
        IDLE,
        Gene(2, binary=2, inputs=(4, 5)),
    ),
    flip=True,
)
BAIKAL = Genome(
    (
        Gene(1, unary=1, inputs=(1, 0)),
        Gene(2, binary=5, inputs=(0, 1)),
        IDLE,
        IDLE,
        Gene(2, binary=1, inputs=(4, 5)),
    ),
    flip=True,
)


@pytest.mark.parametrize(
    ("tree", "formula"),
    [
        (["mul", "y", ["log", "p"]], "y*log_clamp(p)"),
        ("mul(y, log(p))", "y*log_clamp(p)"),
        ("mul(ARG0, log(ARG1))", "y*log_clamp(p)"),
        (["div", ["sqrt", 1], ["sub", -1, "ARG1"]], "aq(sqrt_clamp(1), -1 - p)"),
        ("div(sqrt(1), sub(-1, p))", "aq(sqrt_clamp(1), -1 - p)"),
        (("min", "y", "p"), "min(y, p)"),
        ("y", "y"),
        (-1, "-1"),
        ("-1", "-1"),
    ],
)
def test_evomal_trees(tree, formula):
    expression = ex.evomal.from_tree(tree)
    assert expression == ex.parse(formula)
    assert ex.evomal.from_tree(json.loads(json.dumps(ex.evomal.to_tree(expression)))) == expression


def test_evomal_has_twelve_operators():
    assert len(ex.evomal.OPERATORS) == 12
    assert {*ex.evomal.OPERATORS.values()} <= {*ex.OPERATORS}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (["exp", "y"], "unknown EvoMAL operator 'exp'"),
        ("exp(y)", "unknown function 'exp'"),
        (["mul", "y"], "mul takes 2 arguments, got 1"),
        (["abs", "q"], "unknown EvoMAL terminal 'q'"),
        (["abs", 2], "unknown EvoMAL terminal '2'"),
        ([], "is no tree"),
        ("abs(2)", "EvoMAL has the constants 1 and -1, got 2"),
        ("y/p", "unknown EvoMAL operator 'div'"),
        ("mul(y, log(p", "never closed"),
    ],
)
def test_what_evomal_does_not_have(tree, message):
    with pytest.raises(UserError, match=message):
        ex.evomal.from_tree(tree)


def test_nlfs_tables():
    assert (len(UNARY), len(BINARY)) == (27, 7)
    assert {*UNARY, *BINARY} <= {*ex.OPERATORS}
    # Ids as the authors number them, at a point and by value.
    x = 0.3
    values = {i: float(ex.OPERATORS[UNARY[i]].function(jnp.float32(x))) for i in (2, 6, 15, 20, 21, 24, 25, 26)}
    sigmoid = 1 / (1 + np.exp(-x))
    expected = {2: np.log10(x), 6: 1 / 1.3, 15: 1 / x, 20: x, 21: 0.0, 24: x / 1.3}
    expected |= {25: 1 - np.tanh(x) ** 2, 26: sigmoid * (1 - sigmoid)}
    np.testing.assert_allclose([values[i] for i in expected], [*expected.values()], rtol=1e-5)
    assert [ex.OPERATORS[name].meaning for name in BINARY[3:6]] == ["max(a, b)", "min(a, b)", "a / (b + 1e-7)"]


def test_nlfs_genomes_are_the_losses_they_stand_for():
    assert CROSS_ENTROPY.expression() == ex.parse("abs(y)*log_shift(p)")
    assert BAIKAL.expression() == ex.parse("log_shift(p) - div_shift(y, p)")
    for genome in (CROSS_ENTROPY, BAIKAL):
        assert genome.uses_both
        assert genome.active == {0, 1, 4, 5, 8}
        assert Genome.from_dict(json.loads(json.dumps(genome.to_dict()))) == genome


def test_binary_phenotypes():
    p, values = binary_phenotype(CROSS_ENTROPY.expression())
    np.testing.assert_allclose(-values, -np.log(p + 1e-7), rtol=1e-9)
    assert np.all(np.diff(-values) > 0.0)
    p, values = binary_phenotype(BAIKAL.expression())
    assert p[np.argmin(-values)] == pytest.approx(0.7067, abs=1e-4)


def test_a_node_used_twice_and_nodes_that_do_not_count():
    genes = (
        Gene(2, binary=0, inputs=(0, 1)),
        Gene(1, unary=22, inputs=(4, 0)),
        Gene(1, unary=3, inputs=(6, 0)),  # its own input, but nothing uses it
        IDLE,
        Gene(2, binary=2, inputs=(4, 5)),
    )
    genome = Genome(genes)
    assert genome.expression() == ex.parse("(y + p)*(y + p)^2")
    assert genome.active == {0, 1, 4, 5, 8}
    assert not Genome((IDLE, IDLE, IDLE, IDLE, Gene(1, unary=0, inputs=(4, 0)))).uses_both


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Genome((IDLE,)), "a genome has the root and 1 to 32 hidden nodes, got 1 genes"),
        (lambda: Genome((Gene(3), IDLE, IDLE, IDLE, IDLE)), "gene 4: arity is 3, expected 1 or 2"),
        (lambda: Genome((Gene(1, unary=27), IDLE, IDLE, IDLE, IDLE)), "gene 4: unary is 27, expected 0 to 26"),
        (lambda: Genome((IDLE, IDLE, IDLE, IDLE, Gene(1, inputs=(9, 0)))), "gene 8: inputs is 9, expected 0 to 8"),
        (lambda: Genome.from_dict({"flip": True}), "this is no genome"),
        (lambda: Genome.from_dict({"genes": [{"arity": 1}]}), "this is no genome"),
        (lambda: Genome.from_dict({"genes": [{"arity": 1.0, "inputs": [0, 0]}] * 5}), "expected whole numbers"),
        (lambda: Genome.from_dict([]), "this is no genome"),
    ],
)
def test_what_is_no_genome(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_cycle_is_named():
    genes = (Gene(1, inputs=(5, 0)), Gene(1, inputs=(4, 0)), IDLE, IDLE, Gene(1, inputs=(4, 0)))
    with pytest.raises(UserError, match="cycle through slots 8 -> 4 -> 5 -> 4"):
        Genome(genes).expression()
