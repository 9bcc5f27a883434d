"""NLFS's integrity check: is a genome a loss at all? It looks at two classes, and trains nothing.

The phenotype of a genome is the curve of its root, summed over the two classes, at 1,000 points from p_t = 1 - 1e-7
down to 1e-7, in single precision as in the authors' code, scaled to 0..1. A genome is refused for the first of these
that holds:

1. cyclic: the root reaches a cycle.
2. lacks y or p: the root does not reach both.
3. not finite: a point of the curve is not.
4. extremum at half: the least or greatest point is at p_t = 0.49 to 0.51.
5. plateau: more than 10 neighbours are equal.
6. oscillates: the curve turns more than once.

What is left is oriented, so that it falls towards p_t = 1 or has one minimum, and `flip` says how. Orientation looks at
the root itself: in the authors' code it looks at the loss with the `flip` that a child inherits, which orients every
child of a flipped parent the wrong way. There, too, a curve without a turn that has up to 10 equal neighbours is
oriented as one with a minimum, and curves that are not finite may pass.
"""

import functools
import os
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.expression import OPERATORS, Program
from edl_jax.loss.expression.nlfs import BINARY, UNARY
from edl_jax.loss.expression.operators import CODES, CONSTANT, NAMES
from edl_jax.loss.threads import Threads
from edl_jax.search.nlfs.genomes import Genomes, programs_of, wire

REASONS: tuple[str, ...] = (
    *("accepted", "cyclic", "lacks y or p", "not finite", "extremum at half", "plateau", "oscillates"),
)
"""What becomes of a genome, by code."""
ACCEPTED, CYCLIC, INCOMPLETE, NOT_FINITE, HALF, PLATEAU, OSCILLATES = range(len(REASONS))
POINTS = 1000
_HALF = (490, 510)  # points, the second excluded
_MOST_EQUAL, _MOST_TURNS = 10, 2  # turns of the curve closed to a circle
_FLAT = 1e-4  # range up to which a curve is not scaled
_THIRD = 2  # the difference that tells which way a curve with a turn begins
_SIZES = (64, 1024)  # genomes that a program is compiled for

_TERMINALS = ("y", "p")
_CODE_OF_BRANCH = (CONSTANT, *_TERMINALS, *dict.fromkeys(UNARY + BINARY))


class Check(NamedTuple):
    """Outcome of the check of P genomes.

    Attributes:
      reason: int8 `[P]`, index into `REASONS`.
      flip: bool `[P]`, whether the loss is the negative of the root; False for what is refused.
      phenotype: float32 `[A, 1000]` of the accepted ones in their order: scaled, `flip` applied.
    """

    reason: np.ndarray
    flip: np.ndarray
    phenotype: np.ndarray

    @property
    def accepted(self) -> np.ndarray:
        """Return bool `[P]`."""
        return self.reason == ACCEPTED


def check(genomes: Genomes) -> Check:
    """Check genomes; the `flip` that they have makes no difference."""
    wiring = wire(genomes)
    reason = np.where(wiring.cyclic, CYCLIC, np.where(wiring.uses_both, ACCEPTED, INCOMPLETE)).astype(np.int8)
    flip = np.zeros(genomes.size, bool)
    rows = np.flatnonzero(reason == ACCEPTED)
    curves = np.zeros((0, POINTS), np.float32)
    if len(rows):
        wired = type(wiring)(*(x[rows] for x in wiring))
        found, flipped, curves = _judge(programs_of(genomes.take(rows), wired))
        reason[rows], flip[rows] = found, flipped & (found == ACCEPTED)
        curves = curves[found == ACCEPTED]
    return Check(reason, flip, curves)


def _judge(programs: Program) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (reason, flip, curve) of programs `[P, L]`: in parts of two sizes, as many at once as there are cores."""
    count = len(programs.op)
    sizes = 1 + np.maximum(programs.first, programs.second).max(axis=1).astype(np.int32)
    part = _SIZES[count > _SIZES[0]]
    starts = range(0, count, part)
    arrays = (programs.op, programs.first, programs.second, programs.constants.astype(np.float32), sizes)

    def judge(start: int) -> tuple[np.ndarray, ...]:
        chunk = [x[start : start + part] for x in arrays]
        given = len(chunk[0])
        padded = [np.pad(x, [(0, part - given)] + [(0, 0)] * (x.ndim - 1)) for x in chunk]
        return tuple(np.asarray(x)[:given] for x in _program()(*padded, np.int32(given)))

    with Threads(min(len(starts), os.cpu_count() or 1)) as threads:
        found = [task.result() for task in [threads.submit(judge, start) for start in starts]]
    reason, flip, curve = (np.concatenate(x) for x in zip(*found, strict=True))
    return reason, flip, curve


@functools.cache
def _program() -> Callable[..., tuple[jax.Array, ...]]:
    # XLA's older code generator takes two thirds of the time to compile this.
    options = {"xla_cpu_use_fusion_emitters": False} if jax.default_backend() == "cpu" else {}
    return jax.jit(_judged, compiler_options=options)


def _judged(
    op: jax.Array, first: jax.Array, second: jax.Array, constants: jax.Array, sizes: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return int8 `[P]`, bool `[P]`, float32 `[P, 1000]` for the first `count` programs, one after another."""
    branch = np.zeros(len(NAMES), np.int32)
    for i, name in enumerate(_CODE_OF_BRANCH):
        branch[CODES[name]] = i
    wrong = np.linspace(1e-7, 1.0 - 1e-7, POINTS)
    p = np.stack([wrong, 1.0 - wrong]).astype(np.float32)
    y = np.broadcast_to(np.array([[0.0], [1.0]], np.float32), p.shape)
    terminals = [lambda *_, x=x: jnp.asarray(x) for x in (y, p)]
    operators = [_branch(name) for name in _CODE_OF_BRANCH[1 + len(_TERMINALS) :]]
    branches = [lambda constant, *_: jnp.full(p.shape, constant), *terminals, *operators]

    def instruction(i: jax.Array, step: jax.Array, buffer: jax.Array) -> jax.Array:
        at = sizes[i] - 1 - step
        a, b = buffer[first[i, at]], buffer[second[i, at]]
        return buffer.at[at].set(jax.lax.switch(jnp.asarray(branch)[op[i, at]], branches, constants[i, at], a, b))

    def one(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        buffer, reason, flip, curve = carry
        buffer = jax.lax.fori_loop(0, sizes[i], functools.partial(instruction, i), buffer)
        found = _look(jnp.sum(buffer[0], axis=0))
        return buffer, reason.at[i].set(found[0]), flip.at[i].set(found[1]), curve.at[i].set(found[2])

    size, length = op.shape
    empty = (
        jnp.zeros((length, *p.shape), p.dtype),
        jnp.zeros(size, jnp.int8),
        jnp.zeros(size, bool),
        jnp.zeros((size, POINTS), p.dtype),
    )
    return jax.lax.fori_loop(0, count, one, empty)[1:]  # type: ignore[return-value]


def _branch(name: str) -> Callable[..., jax.Array]:
    operator = OPERATORS[name]
    return lambda constant, *arguments: operator.function(*arguments[: operator.arity])


def _look(curve: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (reason, flip, scaled curve with `flip` applied) of a curve `[1000]` of a root."""
    low, high = jnp.min(curve), jnp.max(curve)
    at_half = (jnp.arange(POINTS) >= _HALF[0]) & (jnp.arange(POINTS) < _HALF[1])
    extremum = at_half[jnp.argmin(curve)] | at_half[jnp.argmax(curve)]
    differences = jnp.diff(curve)
    sign = jnp.sign(differences).astype(jnp.int32)
    equal = jnp.sum(sign == 0)
    sign = jax.lax.cond(equal > 0, _filled, lambda x: x, sign)
    turns = jnp.sum(sign != jnp.roll(sign, 1))
    # Falling to the right is falling towards p_t = 0; a curve with a turn must begin by falling.
    flip = jnp.where(turns == 0, sign[0] < 0, sign[_THIRD] >= 0)
    flat = high - low < _FLAT
    # From the nearer end, so that a minimum keeps its digits beside a pole.
    raised = jnp.where(flip, jnp.where(flat, 0.0, high) - curve, curve - jnp.where(flat, 0.0, low))
    scaled = raised / jnp.where(flat, 1.0, high - low)
    reason = jnp.select(
        [~jnp.all(jnp.isfinite(curve)), extremum, equal > _MOST_EQUAL, turns > _MOST_TURNS],
        [NOT_FINITE, HALF, PLATEAU, OSCILLATES],
        ACCEPTED,
    )
    return reason.astype(jnp.int8), flip, scaled


def _filled(sign: jax.Array) -> jax.Array:
    """Return signs `[999]` with that before it in place of each 0, the last before the first."""
    place = jnp.where(sign != 0, jnp.arange(len(sign)), -1)
    last = jax.lax.cummax(place)
    return sign[jnp.where(last < 0, jnp.max(place), last)]
