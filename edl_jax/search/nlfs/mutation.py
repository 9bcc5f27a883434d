"""NLFS's mutation, many at once: a change of an operator, of a connection, or of the number of inputs."""

import numpy as np

from edl_jax.loss.expression.nlfs import BINARY, UNARY
from edl_jax.search.nlfs.genomes import NUM_LEAVES, Genomes, used_slots, wire

OPERATOR, CONNECTION, ARITY = range(3)
_SWAP = 0.2  # of the changes of a connection of a binary node


def mutate(rng: np.random.Generator, genomes: Genomes, operator: float = 0.7, connection: float = 0.15) -> Genomes:
    """Return a mutant of each genome, valid or not, with `flip` cleared.

    The mutated node is one that the root reaches, or the root, each equally probable. A new input is any slot that the
    node does not use, itself and the root among them, which makes a cycle.

    Args:
      rng: generator.
      genomes: P genomes.
      operator: probability that the operator becomes another of as many inputs.
      connection: probability that an input is replaced, or the two of a binary node are swapped (a fifth of those);
        else a unary node becomes binary or the reverse.
    """
    count, genes = genomes.arity.shape
    rows = np.arange(count)
    node = _choose(rng, wire(genomes).active)
    draw = rng.random(count)
    kind = np.where(draw < operator, OPERATOR, np.where(draw < operator + connection, CONNECTION, ARITY))
    slots = NUM_LEAVES + genes
    used = used_slots(genomes)[rows, node]
    source = _choose(rng, (used[:, None] >> np.arange(slots)) & 1 == 0)
    swap = np.asarray(rng.random(count) < _SWAP)
    second = np.asarray(rng.random(count) < 0.5)
    unary_step, binary_step = rng.integers(1, len(UNARY), count), rng.integers(1, len(BINARY), count)

    arity, unary, binary, inputs, _ = (x.copy() for x in genomes)
    is_unary = arity[rows, node] == 1
    before = inputs[rows, node].copy()
    a, b = before[:, 0], before[:, 1]
    same = kind == OPERATOR
    unary[rows, node] = np.where(same & is_unary, (unary[rows, node] + unary_step) % len(UNARY), unary[rows, node])
    binary[rows, node] = np.where(
        same & ~is_unary, (binary[rows, node] + binary_step) % len(BINARY), binary[rows, node]
    )
    # (first, second) after a change of a connection, and of the arity.
    zero = np.zeros_like(a)
    moved = _pick(
        [is_unary, swap, second],
        [(source, zero), (b, a), (a, source)],
        (source, b),
    )
    flipped = _pick(
        [is_unary & second, is_unary, second],
        [(a, source), (source, a), (a, zero)],
        (b, zero),
    )
    inputs[rows, node] = np.where(
        (kind == CONNECTION)[:, None], moved, np.where((kind == ARITY)[:, None], flipped, before)
    )
    arity[rows, node] = np.where(kind == ARITY, 3 - arity[rows, node], arity[rows, node])
    return Genomes(arity, unary, binary, inputs, np.zeros(count, bool))


def _choose(rng: np.random.Generator, allowed: np.ndarray) -> np.ndarray:
    """Return for each row `[P, N]` of bool the index of a True, each equally probable."""
    order = np.cumsum(allowed, axis=1)
    wanted = 1 + np.floor(rng.random(len(allowed)) * order[:, -1]).astype(int)
    return np.argmax(order >= wanted[:, None], axis=1)


def _pick(
    conditions: list[np.ndarray], pairs: list[tuple[np.ndarray, np.ndarray]], default: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return `[P, 2]`: the pair of the first condition that holds."""
    columns = zip(*pairs, strict=True)
    return np.stack([np.select(conditions, column, other) for column, other in zip(columns, default, strict=True)], -1)
