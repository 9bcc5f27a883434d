"""Tables of expressions: EvoMAL's trees with weighted edges, NLFS's genomes, formulas that people write.

One interpreter carries value and slope of every instruction through the operators' own JAX functions, in float64, and
takes programs as data: programs of any sizes cost what their instructions cost, and only the two lengths of the arrays,
rounded up, and the family of operators decide what is compiled.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.loss.expression import OPERATORS, TERMINALS, Expression, Program, compile_program, evomal, nlfs
from edl_jax.loss.expression.operators import CODES, CONSTANT, NAMES
from edl_jax.search.tables import EXACT_LOG_P, SIZE, doubled, table_of_slopes

FAMILIES: tuple[tuple[str, ...], ...] = (
    tuple(evomal.OPERATORS.values()),
    tuple(dict.fromkeys(nlfs.UNARY + nlfs.BINARY)),
    tuple(OPERATORS),
)
"""Sets of operators that a program is compiled for: EvoMAL's, NLFS's, all."""
_LENGTH, _COUNT = 64, 32  # what arrays are padded to, doubled as often as needed

Dual = tuple[jax.Array, jax.Array]


def tables_of_programs(programs: Program) -> np.ndarray:
    """Return the tables `[P, 2, K]` float32 of programs.

    Args:
      programs: arrays `[P, L]`, of NumPy or JAX; the weight of a node multiplies its value where it enters its parent.

    Raises:
      UserError: a code of no operator, or an argument that does not come after its user.
    """
    op, first, second = (np.asarray(x, np.int32) for x in programs[:3])
    constants, weights = (np.asarray(x, np.float64) for x in programs[3:])
    count, length = op.shape
    order = np.arange(length)
    # An instruction that nothing uses stands after the expression's.
    sizes = 1 + np.maximum(first, second).max(axis=1)
    inside = order < sizes[:, None]
    require(bool(np.all((op >= 0) & (op < len(NAMES)))), f"a program has a code outside 0 to {len(NAMES) - 1}")
    for arguments, least in ((first, 1), (second, 2)):
        used = inside & (_ARITY[op] >= least)
        late = used & ((arguments <= order) | (arguments >= length))
        require(not late.any(), "a program has an argument that does not come after the instruction that uses it")
    family = _family(np.unique(op[inside]))
    shape = (doubled(count, _COUNT), doubled(length, _LENGTH))
    arrays = [_pad(x, shape) for x in (op, first, second, constants, weights)]
    with jax.enable_x64(True):
        slopes = _program()(Program(*arrays), np.pad(sizes, (0, shape[0] - count)), family)
    return table_of_slopes(np.asarray(slopes)[:count])


def tables_of_expressions(
    expressions: Sequence[Expression], weights: Sequence[Sequence[float] | None] | None = None
) -> np.ndarray:
    """Return the tables `[P, 2, K]` float32 of expressions.

    Args:
      expressions: P expressions.
      weights: for each its edge weights `[size]`, or None; None for none at all.

    Raises:
      UserError: the weights are not one finite number a node.
    """
    if not expressions:
        return np.zeros((0, 2, SIZE), np.float32)
    length = max(expression.size for expression in expressions)
    every = [None] * len(expressions) if weights is None else weights
    programs = [compile_program(e, length, w) for e, w in zip(expressions, every, strict=True)]
    return tables_of_programs(jax.tree.map(lambda *x: np.stack(x), *programs))


_ARITY = np.array([OPERATORS[name].arity if name in OPERATORS else 0 for name in NAMES])


def _family(codes: np.ndarray) -> tuple[str, ...]:
    names = {NAMES[code] for code in codes} - {CONSTANT, *TERMINALS}
    return next(family for family in FAMILIES if names <= {*family})


def _pad(x: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.pad(x, [(0, new - old) for new, old in zip(shape, x.shape, strict=True)])


@functools.cache
def _program() -> Callable[..., jax.Array]:
    # XLA's older code generator takes two thirds of the time to compile this, and its code as long to run.
    options: dict[str, Any] = {"xla_cpu_use_fusion_emitters": False} if jax.default_backend() == "cpu" else {}
    return jax.jit(_slopes, static_argnames="operators", compiler_options=options)


def _slopes(programs: Program, sizes: jax.Array, operators: tuple[str, ...]) -> jax.Array:
    """Return slopes `[P, 2, K]` of the first `sizes` instructions of each program, in float64."""
    count, length = programs.op.shape
    branch = np.zeros(len(NAMES), np.int32)
    for i, name in enumerate((CONSTANT, *TERMINALS, *operators)):
        branch[CODES[name]] = i
    branches = [_constant, *(_terminal(*dual) for dual in _terminals()), *(_operator(name) for name in operators)]

    def instruction(p: jax.Array, step: jax.Array, buffer: jax.Array) -> jax.Array:
        i = sizes[p] - 1 - step
        arguments = []
        for column in (programs.first, programs.second):
            j = column[p, i]
            arguments.append(programs.weights[p, j] * buffer[j])
        (a, da), (b, db) = arguments
        code = jnp.asarray(branch)[programs.op[p, i]]
        dual = jax.lax.switch(code, branches, programs.constants[p, i], a, b, da, db)
        return buffer.at[i].set(jnp.stack(dual))

    def program(p: jax.Array, carry: Dual) -> Dual:
        buffer, found = carry
        buffer = jax.lax.fori_loop(0, sizes[p], functools.partial(instruction, p), buffer)
        return buffer, found.at[p].set(buffer[0, 1])

    empty = jnp.zeros((length, 2, 2, SIZE)), jnp.zeros((count, 2, SIZE))
    return jax.lax.fori_loop(0, count, program, empty)[1]


def _terminals() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Return (value, slope in u) of y, p, ln p, ln(1 - p), each `[2, K]`, in the order of `TERMINALS`."""
    u = np.broadcast_to(EXACT_LOG_P, (2, SIZE))
    p, rest = np.exp(u), -np.expm1(u)
    y = np.broadcast_to(np.array([[0.0], [1.0]]), u.shape)
    return (y, np.zeros_like(u)), (p, p), (u, np.ones_like(u)), (np.log(rest), -p / rest)


def _constant(constant: jax.Array, *_: jax.Array) -> Dual:
    return jnp.full((2, SIZE), constant), jnp.zeros((2, SIZE))


def _terminal(value: np.ndarray, slope: np.ndarray) -> Callable[..., Dual]:
    return lambda *_: (jnp.asarray(value), jnp.asarray(slope))


def _operator(name: str) -> Callable[..., Dual]:
    operator = OPERATORS[name]

    def dual(constant: jax.Array, a: jax.Array, b: jax.Array, da: jax.Array, db: jax.Array) -> Dual:
        return jax.jvp(operator.function, (a, b)[: operator.arity], (da, db)[: operator.arity])

    return dual
