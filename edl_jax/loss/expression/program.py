"""Programs: expressions as arrays of one fixed length, which stack, vmap and take gradients."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from edl_jax.core.errors import require
from edl_jax.loss.expression.operators import CODES, CONSTANT, NAMES, arity
from edl_jax.loss.expression.tree import Expression, Node, check_weights


class Program(NamedTuple):
    """An expression of up to L nodes, as arrays: node i of the expression, root first, is instruction i.

    The arguments of an instruction come after it, so that it is evaluated from the last instruction to the first,
    and the value of the program is the value of instruction 0. The instructions after the expression's are the
    constant 0, which nothing uses. Programs of one length have one shape: `jax.tree.map(np.stack, ...)` stacks them.

    Attributes:
      op: int32 `[L]`, codes of the names: `operators.CODES`.
      first: int32 `[L]`, instruction of the first argument; 0 where there is none.
      second: int32 `[L]`, instruction of the second argument; 0 where there is none.
      constants: float `[L]`, value of an instruction that is a constant; else 0.
      weights: float `[L]`, the factor of the instruction's value where it enters the instruction that uses it, as in
        EvoMAL: one for each edge, so that weights[0], the root's, does nothing.
    """

    op: Any
    first: Any
    second: Any
    constants: Any
    weights: Any


def compile_program(expression: Expression, length: int, weights: Sequence[float] | None = None) -> Program:
    """Return the program of an expression, as NumPy arrays (float64: kept where JAX computes in double precision).

    Args:
      expression: the expression.
      length: L, at least the expression's size.
      weights: `[size]`, one for each node in prefix order; 1 where None.

    Raises:
      UserError: the expression has more nodes than `length`, or the weights are not one finite number a node.
    """
    size = expression.size
    require(size <= length, f"an expression of {size} nodes does not fit a program of length {length}: lengthen it")
    program = Program(
        op=np.full(length, CODES[CONSTANT], np.int32),
        first=np.zeros(length, np.int32),
        second=np.zeros(length, np.int32),
        constants=np.zeros(length),
        weights=np.ones(length),
    )
    if weights is not None:
        program.weights[:size] = check_weights(expression, weights)
    program.op[:size] = [CODES[node.name] for node in expression.nodes]
    program.constants[:size] = [node.value for node in expression.nodes]
    stack: list[int] = []
    for i in range(size - 1, -1, -1):
        arguments = [stack.pop() for _ in range(arity(expression.nodes[i].name))]
        for slots, argument in zip((program.first, program.second), arguments, strict=False):
            slots[i] = argument
        stack.append(i)
    return program


def decompile(program: Program) -> tuple[Expression, list[float]]:
    """Return the expression of one program (arrays `[L]`) and its weights, one for each node.

    An instruction that is used twice, as a search may leave it, becomes two equal subtrees.

    Raises:
      UserError: the arrays are no program: an unknown code, or an argument that does not come after its user.
    """
    op, first, second = (np.asarray(x) for x in (program.op, program.first, program.second))
    length = op.shape[0]
    nodes: list[Node] = []
    weights: list[float] = []
    pending = [0]
    while pending:
        i = pending.pop()
        require(0 <= op[i] < len(NAMES), f"instruction {i} has code {op[i]}, expected 0 to {len(NAMES) - 1}")
        name = NAMES[op[i]]
        nodes.append(Node(name, float(program.constants[i]) if name == CONSTANT else 0.0))
        weights.append(float(program.weights[i]))
        arguments = [int(first[i]), int(second[i])][: arity(name)]
        for argument in arguments:
            require(i < argument < length, f"instruction {i} uses {argument}, expected {i + 1} to {length - 1}")
        pending.extend(reversed(arguments))
    expression = Expression(tuple(nodes))
    return expression, check_weights(expression, weights)
