"""Candidates of a search in regression: trees as tapes, which training, rejection and local search take as they are.

    candidates = encode(expressions)
    reject(candidates, outputs, targets, task=REGRESSION, gradient=gradient)
    found = local_search(candidates.weights, candidates.tape)  # of `slopes`
    racing.run(trainer, evaluator, candidates._replace(weights=found.params), ...)  # of `gradient`

In classification a hard label lets a loss be two functions of one variable, and a table holds any. Here a loss is a
function of two variables, so that its tree is evaluated at every prediction: terminal y is the standardised target, p
the prediction f as the network gives it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.loss.expression import Expression, compile_program, evomal, to_text
from edl_jax.search import ml3
from edl_jax.search.slopes import Tape, raw_slopes, tape_of_programs
from edl_jax.search.tables import doubled, signatures
from edl_jax.search.tasks import REGRESSION

OPERATORS: tuple[str, ...] = tuple(evomal.OPERATORS.values())
"""Operators of candidates: EvoMAL's; TaylorGLO's polynomials are of some of them."""
_SHORTEST, _FEWEST = 16, 32  # tapes and programs are padded to, doubled as often as needed
# Where two candidates are compared: beside 0, 1 and -1, and beside y = f and y = -f, where kinks are.
_TARGETS, _PREDICTIONS = np.linspace(-2.97, 2.99, 33), np.linspace(-3.0, 2.94, 50)


class Candidates(NamedTuple):
    """Candidates as arrays.

    Attributes:
      weights: `[P, L]` float32, edge weights; those beyond a tree's are 1 and do nothing.
      tape: arrays `[P, T, ...]`.
    """

    weights: Any
    tape: Tape


def encode(expressions: Sequence[Expression], weights: Sequence[Sequence[float] | None] | None = None) -> Candidates:
    """Return candidates; L and T are powers of 2, so that programs of few lengths are compiled.

    Args:
      expressions: P of them, at least one.
      weights: for each its edge weights `[size]`, or None for ones; None for none at all.

    Raises:
      UserError: no expression, an operator that is not among `OPERATORS`, a terminal beside y and p, or weights that
        are not one finite number a node.
    """
    require(len(expressions) > 0, "no expressions are given, expected at least 1")
    for expression in expressions:
        logarithms = expression.names & {"log_p", "log_not_p"}
        require(
            not logarithms,
            f"{to_text(expression):.60} has {' and '.join(sorted(logarithms))}, expected y and p alone: "
            "in regression a prediction is no probability",
        )
    length = doubled(max(expression.size for expression in expressions), _FEWEST)
    every = [None] * len(expressions) if weights is None else weights
    programs = [compile_program(e, length, w) for e, w in zip(expressions, every, strict=True)]
    most = max(sum(node.name in OPERATORS for node in expression.nodes) for expression in expressions)
    tape = tape_of_programs(jax.tree.map(lambda *x: np.stack(x), *programs), OPERATORS, doubled(most, _SHORTEST))
    return Candidates(tape.weights, tape)


def slopes(weights: jax.Array, tape: Tape, y: jax.Array, f: jax.Array) -> jax.Array:
    """Return the slopes dg/df `[M]` of one candidate: what local search differentiates.

    Args:
      weights: `[L]`.
      tape: of one candidate.
      y: `[M]` targets.
      f: `[M]` predictions.
    """
    return raw_slopes(OPERATORS, weights, tape, y, f)


def gradient(candidate: Candidates, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the gradient `[B, 1]` of one candidate's loss of each example: for `Trainer` and `reject`.

    Args:
      candidate: arrays without the axis of candidates.
      outputs: `[B, 1]` float32 predictions.
      targets: `[B]` float32.
    """
    return REGRESSION.gradient(slopes, candidate.weights, candidate.tape, outputs, targets)


def network_gradient(params: Any, outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the gradient `[B, 1]` of an ML3 network's loss of each example, as `gradient`; its slopes are `ml3`'s."""
    return REGRESSION.gradient(ml3.raw_slopes, params, None, outputs, targets)


def keys(expressions: Sequence[Expression]) -> list[str]:
    """Return a key for each expression, equal for what is the same candidate, however it is written.

    Slopes in the prediction are compared, in float64, at 33 targets and 50 predictions from -3 to 3: two are equal
    where they differ by at most 0.012 % of their size, and by 1.9e-6 near 0 (`tables.signatures`). The scale of a loss
    counts; what is added to it that depends on the target alone does not.
    """
    if not expressions:
        return []
    candidates = encode(expressions)
    count = len(expressions)
    padded = jax.tree.map(
        lambda x: np.pad(x, [(0, doubled(count, _FEWEST) - count)] + [(0, 0)] * (x.ndim - 1)), candidates
    )
    with jax.enable_x64(True):
        found = np.asarray(_grid_slopes(padded))[:count]
    return signatures(found)


@jax.jit
def _grid_slopes(candidates: Candidates) -> jax.Array:
    """Return slopes `[P, targets, predictions]`, in float64."""
    y, f = (jnp.asarray(x.ravel()) for x in np.meshgrid(_TARGETS, _PREDICTIONS, indexing="ij"))
    found = jax.lax.map(lambda one: slopes(one.weights, one.tape, y, f), candidates)
    return found.reshape(-1, len(_TARGETS), len(_PREDICTIONS))
