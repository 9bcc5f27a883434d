"""Losses as expressions over y (label probability) and p (softmax probability), class by class.

    from edl_jax.loss import expression
    focal = expression.expression_loss("-y * (1 - p)^2 * ln(p)")

One engine for formulas that people write, EvoMAL's trees (`evomal`) and NLFS's genomes (`nlfs`).
"""

from edl_jax.loss.expression import evomal, genome_text, nlfs
from edl_jax.loss.expression.evaluate import Inputs, compile_function, evaluate, operators_of
from edl_jax.loss.expression.loss import expression_values, inputs_of
from edl_jax.loss.expression.operators import OPERATORS, TERMINALS, Operator
from edl_jax.loss.expression.parse import FormulaError, parse
from edl_jax.loss.expression.program import Program, compile_program, decompile
from edl_jax.loss.expression.record import Record, expression_loss
from edl_jax.loss.expression.symbolic import simplify, to_sympy
from edl_jax.loss.expression.tree import (
    LOG_NOT_P,
    LOG_P,
    Expression,
    Node,
    P,
    Y,
    apply,
    constant,
    to_latex,
    to_text,
    weighted,
)

__all__ = [
    "LOG_NOT_P",
    "LOG_P",
    "OPERATORS",
    "TERMINALS",
    "Expression",
    "FormulaError",
    "Inputs",
    "Node",
    "Operator",
    "P",
    "Program",
    "Record",
    "Y",
    "apply",
    "compile_function",
    "compile_program",
    "constant",
    "decompile",
    "evaluate",
    "evomal",
    "expression_loss",
    "expression_values",
    "genome_text",
    "inputs_of",
    "nlfs",
    "operators_of",
    "parse",
    "simplify",
    "to_latex",
    "to_sympy",
    "to_text",
    "weighted",
]
