"""Slopes of expressions at points, and their gradients in the edge weights: what a local search asks of EvoMAL's trees.

A program becomes a tape of its operators, in which terminals and constants are rows that are there already: half of
the instructions. One interpreter carries value and slope of each operator through the operator's own JAX function, and
takes tapes as data, so that one compiled program serves all trees. Its backward pass computes a tree again: what it
keeps of one tree fits in a CPU's cache, of a generation it would not.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.loss.expression import OPERATORS, TERMINALS, Program
from edl_jax.loss.expression.operators import CODES, CONSTANT, NAMES, arity

_ROWS = (*TERMINALS, CONSTANT)  # of the buffer, before the operators' results; the last is 1


class Tape(NamedTuple):
    """Programs as their operators, in the order of evaluation: arrays of `P` programs of up to `T` operators.

    Attributes:
      op: int32 `[P, T]`, places in the choice of operators.
      rows: int32 `[P, T, 2]`, rows of the buffer that are the arguments.
      factors: int32 `[P, T, 2]`, weights that multiply the arguments; L, one beyond the last, for an absent argument.
      scales: float32 `[P, T, 2]`, what else multiplies them: the constant, where the argument is one.
      length: int32 `[P]`, operators of each program.
      root: int32 `[P]`, row of the result.
      weights: float32 `[P, L]`, the programs' own: what a search starts from.
    """

    op: Any
    rows: Any
    factors: Any
    scales: Any
    length: Any
    root: Any
    weights: Any


def tape_of_programs(programs: Program, operators: tuple[str, ...], length: int | None = None) -> Tape:
    """Return the tape of programs `[P, L]`.

    Args:
      programs: arrays `[P, L]`.
      operators: those that may occur; their order is that of the codes on the tape.
      length: T; None for the most operators of a program, rounded up to a multiple of 16.

    Raises:
      UserError: an operator that is not among `operators`, or more operators than `length`.
    """
    op, first, second = (np.asarray(x, np.int32) for x in programs[:3])
    constants, weights = (np.asarray(x, np.float32) for x in programs[3:])
    sizes = 1 + np.maximum(first, second).max(axis=1)
    kept = [
        [i for i in range(n - 1, -1, -1) if NAMES[codes[i]] in OPERATORS] for n, codes in zip(sizes, op, strict=True)
    ]
    most = max(len(nodes) for nodes in kept)
    length = -(-max(most, 1) // 16) * 16 if length is None else length
    require(most <= length, f"an expression of {most} operators does not fit a tape of {length}: lengthen it")
    count, none = len(op), weights.shape[1]
    tape = Tape(
        op=np.zeros((count, length), np.int32),
        rows=np.zeros((count, length, 2), np.int32),
        factors=np.full((count, length, 2), none, np.int32),
        scales=np.zeros((count, length, 2), np.float32),
        length=np.array([len(nodes) for nodes in kept], np.int32),
        root=np.zeros(count, np.int32),
        weights=weights,
    )
    places = {CODES[name]: i for i, name in enumerate(operators)}
    for p, nodes in enumerate(kept):
        row_of = {node: len(_ROWS) + t for t, node in enumerate(nodes)}

        def row(node: int, p: int = p, row_of: dict[int, int] = row_of) -> int:
            return row_of[node] if node in row_of else _ROWS.index(NAMES[op[p, node]])

        for t, node in enumerate(nodes):
            name = NAMES[op[p, node]]
            require(name in operators, f"operator {name} is not among those of this search: {', '.join(operators)}")
            tape.op[p, t] = places[op[p, node]]
            for side, argument in enumerate((first[p, node], second[p, node])[: arity(name)]):
                constant = NAMES[op[p, argument]] == CONSTANT
                tape.rows[p, t, side], tape.factors[p, t, side] = row(argument), argument
                tape.scales[p, t, side] = constants[p, argument] if constant else 1.0
        tape.root[p] = row(0)
    return tape


def program_slopes(operators: tuple[str, ...], weights: jax.Array, tape: Tape, y: jax.Array, u: jax.Array) -> jax.Array:
    """Return the slopes dg/du `[M]` of one program; differentiable once, in reverse, in the weights and in u.

    Args:
      operators: as those of the tape.
      weights: `[L]`.
      tape: of one program, arrays without the first axis.
      y: `[M]` label probabilities.
      u: `[M]` logarithms of the predicted ones.
    """
    return _slopes((operators, _of_classes), weights, tape, y, u)


def raw_slopes(operators: tuple[str, ...], weights: jax.Array, tape: Tape, y: jax.Array, f: jax.Array) -> jax.Array:
    """Return the slopes dg/df `[M]` of one program of which terminal p is a prediction f: as `program_slopes`.

    Args:
      operators: as those of the tape.
      weights: `[L]`.
      tape: of one program without logarithms among its terminals, arrays without the first axis.
      y: `[M]` targets, any numbers.
      f: `[M]` predictions, likewise.
    """
    return _slopes((operators, _of_numbers), weights, tape, y, f)


Terminals = Callable[[jax.Array, jax.Array], jax.Array]
# Operators, and what terminals are at (y, x)
Setting = tuple[tuple[str, ...], Terminals]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _slopes(setting: Setting, weights: jax.Array, tape: Tape, y: jax.Array, x: jax.Array) -> jax.Array:
    return _forward(setting, weights, tape, y, x)[tape.root, 1]


def _of_numbers(y: jax.Array, f: jax.Array) -> jax.Array:
    """Return value and slope in f of each terminal and of 1, `[rows, 2, M]`; of logarithms those of 1."""
    zero, one = jnp.zeros_like(f), jnp.ones_like(f)
    duals = {"y": (y, zero), "p": (f, one)}
    return jnp.stack([jnp.stack(duals.get(name, (one, zero))) for name in _ROWS])


def _of_classes(y: jax.Array, u: jax.Array) -> jax.Array:
    """Return value and slope in u of each terminal and of 1, `[rows, 2, M]`."""
    p, rest = jnp.exp(u), -jnp.expm1(u)
    # Where p is 1, ln(1 - p) is that of the smallest distance to 1 that float32 has.
    rest = jnp.maximum(rest, jnp.finfo(u.dtype).tiny)
    zero, one = jnp.zeros_like(u), jnp.ones_like(u)
    duals = {"y": (y, zero), "p": (p, p), "log_p": (u, one), "log_not_p": (jnp.log(rest), -p / rest)}
    return jnp.stack([jnp.stack(duals.get(name, (one, zero))) for name in _ROWS])


def _dual(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return the function of an operator on (value, slope) `[2, M]` of each argument."""
    operator = OPERATORS[name]

    def dual(a: jax.Array, b: jax.Array) -> jax.Array:
        arguments = (a, b)[: operator.arity]
        values, slopes = tuple(x[0] for x in arguments), tuple(x[1] for x in arguments)
        return jnp.stack(jax.jvp(operator.function, values, slopes))

    return dual


def _pull(dual: Callable[..., jax.Array]) -> Callable[..., tuple[jax.Array, ...]]:
    return lambda cotangent, *arguments: jax.vjp(dual, *arguments)[1](cotangent)


def _arguments(weights: jax.Array, tape: Tape, t: jax.Array, buffer: jax.Array) -> tuple[jax.Array, ...]:
    factors = weights.at[tape.factors[t]].get(mode="fill", fill_value=0.0) * tape.scales[t]
    return tuple(factors[side] * buffer[tape.rows[t, side]] for side in (0, 1))


def _forward(setting: Setting, weights: jax.Array, tape: Tape, y: jax.Array, x: jax.Array) -> jax.Array:
    """Return value and slope of every row, `[rows + T, 2, M]`."""
    operators, terminals = setting
    branches = [_dual(name) for name in operators]
    length = tape.op.shape[0]
    buffer = jnp.concatenate([terminals(y, x), jnp.zeros((length, 2, *x.shape), x.dtype)])

    def instruction(t: jax.Array, buffer: jax.Array) -> jax.Array:
        value = jax.lax.switch(tape.op[t], branches, *_arguments(weights, tape, t, buffer))
        return buffer.at[len(_ROWS) + t].set(value)

    return jax.lax.fori_loop(0, tape.length, instruction, buffer)


Kept = tuple[jax.Array, Tape, jax.Array, jax.Array]


def _slopes_forward(
    setting: Setting, weights: jax.Array, tape: Tape, y: jax.Array, x: jax.Array
) -> tuple[jax.Array, Kept]:
    return _slopes(setting, weights, tape, y, x), (weights, tape, y, x)


def _slopes_backward(setting: Setting, kept: Kept, cotangent: jax.Array) -> tuple[jax.Array | None, ...]:
    weights, tape, y, x = kept
    operators, terminals = setting
    buffer = _forward(setting, weights, tape, y, x)
    branches = [_pull(_dual(name)) for name in operators]

    def instruction(step: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        adjoints, gradient = carry
        t = tape.length - 1 - step
        arguments = _arguments(weights, tape, t, buffer)
        found = jax.lax.switch(tape.op[t], branches, adjoints[len(_ROWS) + t], *arguments)
        for side, adjoint in enumerate(found):
            row, factor, scale = tape.rows[t, side], tape.factors[t, side], tape.scales[t, side]
            of_weight = scale * jnp.vdot(adjoint, buffer[row])
            gradient = gradient.at[factor].add(of_weight, mode="drop")
            factor_value = scale * weights.at[factor].get(mode="fill", fill_value=0.0)
            adjoints = adjoints.at[row].add(factor_value * adjoint)
        return adjoints, gradient

    adjoints = jnp.zeros_like(buffer).at[tape.root, 1].set(cotangent)
    adjoints, gradient = jax.lax.fori_loop(0, tape.length, instruction, (adjoints, jnp.zeros_like(weights)))
    return gradient, None, None, jax.vjp(functools.partial(terminals, y), x)[1](adjoints[: len(_ROWS)])[0]


_slopes.defvjp(_slopes_forward, _slopes_backward)
