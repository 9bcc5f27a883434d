"""Values of expressions: one interpreter for all programs of a length, or a JAX function for one expression.

The interpreter (`evaluate`) takes the program as data: a new program of the same length compiles nothing. The function
(`compile_function`) is what someone would have written by hand: for training with one loss.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edl_jax.core.errors import require, unknown
from edl_jax.loss.expression.operators import CODES, CONSTANT, NAMES, OPERATORS, TERMINALS, arity
from edl_jax.loss.expression.program import Program
from edl_jax.loss.expression.tree import Expression


class Inputs(NamedTuple):
    """What an expression is evaluated on: arrays of one shape and dtype, one element for each class.

    Attributes:
      y: `[..., C]` label probabilities.
      p: `[..., C]` predicted probabilities.
      log_p: `[..., C]` ln p.
      log_not_p: `[..., C]` ln(1 - p).
    """

    y: jax.Array
    p: jax.Array
    log_p: jax.Array
    log_not_p: jax.Array

    @classmethod
    def of(cls, y: ArrayLike, p: ArrayLike) -> "Inputs":
        """Return inputs from label probabilities and predictions `[..., C]`: logarithms as `ln` takes them.

        For predictions without logits. With logits, `loss.inputs_of` gives exact logarithms.
        """
        y, p = jnp.asarray(y), jnp.asarray(p)
        ln = OPERATORS["ln"].function
        return cls(y, p, ln(p), ln(1.0 - p))


def operators_of(expressions: Sequence[Expression]) -> tuple[str, ...]:
    """Return the operators that occur in expressions, in the order of the table: for `evaluate`."""
    names = frozenset().union(*(expression.names for expression in expressions))
    return tuple(name for name in OPERATORS if name in names)


@functools.partial(jax.jit, static_argnames="operators")
def evaluate(program: Program, inputs: Inputs, operators: tuple[str, ...] = tuple(OPERATORS)) -> jax.Array:
    """Return the values `[..., C]` of a program, elementwise, in the dtype of the inputs.

    One compilation for each length of program, shape of inputs and choice of operators. Differentiable in both modes
    with respect to the inputs and the program's weights and constants.

    Under `jax.vmap` over programs every operator is evaluated at every instruction (`jax.lax.switch` keeps the values
    and slopes of those not asked for out of the result): name the operators that can occur, or map with `jax.lax.map`,
    which evaluates one operator an instruction.

    Args:
      program: arrays `[L]`.
      inputs: arrays `[..., C]`.
      operators: names of the operators that may occur. An instruction with another one is NaN.
    """
    branch = np.full(len(NAMES), 0, np.int32)  # of each code; branch 0 is that of the operators left out
    for i, name in enumerate((CONSTANT, *TERMINALS, *operators)):
        if name not in CODES:
            raise unknown("operator", name, OPERATORS)
        branch[CODES[name]] = i + 1
    shape, dtype = inputs.y.shape, inputs.y.dtype
    program = program._replace(
        constants=jnp.asarray(program.constants, dtype), weights=jnp.asarray(program.weights, dtype)
    )

    def fill(value: ArrayLike) -> jax.Array:
        return jnp.broadcast_to(jnp.asarray(value, dtype), shape)

    def operator_branch(name: str) -> Callable[..., jax.Array]:
        operator = OPERATORS[name]
        return lambda constant, *arguments: operator.function(*arguments[: operator.arity])

    def input_branch(value: jax.Array) -> Callable[..., jax.Array]:
        return lambda *_: value

    branches = (
        lambda *_: fill(jnp.nan),
        lambda constant, *_: fill(constant),
        *(input_branch(x) for x in inputs),
        *(operator_branch(name) for name in operators),
    )

    # Only the arguments of each instruction are kept for the gradient, not what each branch would keep.
    @jax.checkpoint
    def select(op: jax.Array, constant: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.switch(jnp.asarray(branch)[op], branches, constant, a, b)

    def step(values: jax.Array, instruction: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        i, op, first, second, constant = instruction
        a, b = (program.weights[j] * values[j] for j in (first, second))
        return values.at[i].set(select(op, constant, a, b)), None

    length = program.op.shape[0]
    values = jnp.zeros((length, *shape), dtype)
    order = jnp.arange(length)
    instructions = (order, program.op, program.first, program.second, program.constants)
    return jax.lax.scan(step, values, instructions, reverse=True)[0][0]


def compile_function(expression: Expression, weights: ArrayLike | None = None) -> Callable[[Inputs], jax.Array]:
    """Return the JAX function of one expression: `Inputs` -> values `[..., C]` in the dtype of the inputs.

    Args:
      expression: the expression.
      weights: `[size]`, one for each node in prefix order, may be traced; None for none.

    Raises:
      UserError: weights of another shape.
    """
    if weights is not None:
        shape = np.shape(weights)
        require(shape == (expression.size,), f"weights have shape {shape}, expected ({expression.size},): one a node")

    def function(inputs: Inputs) -> jax.Array:
        shape, dtype = inputs.y.shape, inputs.y.dtype
        factors = None if weights is None else jnp.asarray(weights, dtype)
        stack: list[jax.Array] = []
        for i in range(expression.size - 1, -1, -1):
            name, constant = expression.nodes[i]
            arguments = [stack.pop() for _ in range(arity(name))]
            if name == CONSTANT:
                value = jnp.asarray(constant, dtype)
            elif name in TERMINALS:
                value = getattr(inputs, name)
            else:
                value = OPERATORS[name].function(*arguments)
            stack.append(value if factors is None or i == 0 else factors[i] * value)
        return jnp.broadcast_to(stack.pop(), shape)

    return function
