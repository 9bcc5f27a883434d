"""Genomes as arrays: drawn at random, wired into programs, many at once.

Slots are those of `loss.expression.nlfs.Genome`: four leaves, H hidden nodes, the root; gene g is the node of slot
4 + g. Which slots a node reaches is one integer of 64 bits, so that thousands of genomes take a few operations.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edl_jax.loss.expression import Program
from edl_jax.loss.expression.nlfs import BINARY, LEAVES, UNARY, Gene, Genome
from edl_jax.loss.expression.operators import CODES, CONSTANT

NUM_LEAVES = len(LEAVES)
_LEAF_CODES = np.array([CODES["y"], CODES["p"], CODES[CONSTANT], CODES[CONSTANT]], np.int32)
_LEAF_VALUES = np.array([0.0, 0.0, 1.0, -1.0])
_UNARY_CODES = np.array([CODES[name] for name in UNARY], np.int32)
_BINARY_CODES = np.array([CODES[name] for name in BINARY], np.int32)
_Y_AND_P = 0b11


class Genomes(NamedTuple):
    """P genomes of H hidden nodes, G = H + 1 genes each, the root last.

    Attributes:
      arity: int8 `[P, G]`, 1 or 2.
      unary: int8 `[P, G]`, index into `UNARY`.
      binary: int8 `[P, G]`, index into `BINARY`.
      inputs: int8 `[P, G, 2]`, slots; the second of a unary node is 0.
      flip: bool `[P]`, whether the loss is the negative of the root.
    """

    arity: np.ndarray
    unary: np.ndarray
    binary: np.ndarray
    inputs: np.ndarray
    flip: np.ndarray

    @property
    def size(self) -> int:
        """P."""
        return self.arity.shape[0]

    def take(self, rows: np.ndarray) -> "Genomes":
        """Return the genomes of some rows."""
        return Genomes(*(x[rows] for x in self))

    def unstack(self) -> list[Genome]:
        """Return the genomes one by one."""
        columns = (x.tolist() for x in self)
        return [
            Genome(tuple(Gene(a, u, b, (i[0], i[1])) for a, u, b, i in zip(*genes, strict=True)), flip)
            for *genes, flip in zip(*columns, strict=True)
        ]


class Wiring(NamedTuple):
    """Which nodes of P genomes are used, and by which.

    Attributes:
      reach: int64 `[P, G]`, bit s: whether the node of a gene reaches slot s; its own where it is part of a cycle.
      active: bool `[P, G]`, whether the root reaches the gene, or it is the root.
      uses_both: bool `[P]`, whether the root reaches y and p.
      cyclic: bool `[P]`, whether the root reaches a cycle.
    """

    reach: np.ndarray
    active: np.ndarray
    uses_both: np.ndarray
    cyclic: np.ndarray


def stack(genomes: Sequence[Genome]) -> Genomes:
    """Return genomes, at least one, all with as many hidden nodes, as arrays."""
    genes = [genome.genes for genome in genomes]
    arity, unary, binary = (
        np.array([[getattr(gene, name) for gene in row] for row in genes], np.int8)
        for name in ("arity", "unary", "binary")
    )
    inputs = np.array([[gene.inputs for gene in row] for row in genes], np.int8)
    inputs[..., 1] *= arity == 2
    return Genomes(arity, unary, binary, inputs, np.array([genome.flip for genome in genomes], bool))


def random_genomes(
    rng: np.random.Generator, count: int, hidden: int = 4, hidden_unary: float = 0.7, root_unary: float = 0.2
) -> Genomes:
    """Draw genomes as the authors' code does, valid or not.

    A hidden node takes its inputs from the leaves and the other hidden nodes, the root from the hidden nodes, two
    different ones where it is binary.

    Args:
      rng: generator.
      count: P.
      hidden: H, at least 2.
      hidden_unary: probability that a hidden node is unary.
      root_unary: probability that the root is.
    """
    genes = hidden + 1
    unary_share = np.full(genes, hidden_unary)
    unary_share[-1] = root_unary
    arity = np.where(rng.random((count, genes)) < unary_share, 1, 2).astype(np.int8)
    choices = np.full(genes, NUM_LEAVES + hidden - 1)
    choices[-1] = hidden
    first = rng.integers(0, choices, (count, genes))
    second = rng.integers(0, choices - 1, (count, genes))
    second += second >= first
    own = NUM_LEAVES + np.arange(genes)
    inputs = np.stack([first, second], -1)
    inputs[:, :-1] += inputs[:, :-1] >= own[:-1, None]  # all slots but a node's own
    inputs[:, -1] += NUM_LEAVES
    inputs[..., 1] *= arity == 2
    return Genomes(
        arity,
        rng.integers(0, len(UNARY), (count, genes)).astype(np.int8),
        rng.integers(0, len(BINARY), (count, genes)).astype(np.int8),
        inputs.astype(np.int8),
        np.zeros(count, bool),
    )


def used_slots(genomes: Genomes) -> np.ndarray:
    """Return int64 `[P, G]`: bit s, whether a node takes slot s itself."""
    bits = np.left_shift(np.int64(1), genomes.inputs.astype(np.int64))
    return bits[..., 0] | np.where(genomes.arity == 2, bits[..., 1], 0)


def wire(genomes: Genomes) -> Wiring:
    """Return which nodes are used."""
    reach = used_slots(genomes)
    genes = reach.shape[1]
    for through in range(genes):  # Warshall's closure
        bit = np.int64(1) << np.int64(NUM_LEAVES + through)
        reach |= np.where(reach & bit, reach[:, through, None], 0)
    bits = np.int64(1) << (NUM_LEAVES + np.arange(genes, dtype=np.int64))
    root = reach[:, -1]
    active = (root[:, None] & bits) != 0
    active[:, -1] = True
    cyclic = np.any(active & ((reach & bits) != 0), axis=1)
    return Wiring(reach, active, (root & _Y_AND_P) == _Y_AND_P, cyclic)


def programs_of(genomes: Genomes, wiring: Wiring | None = None) -> Program:
    """Return the programs `[P, G + 4]` of the roots, `flip` aside, of genomes without cycles.

    A node that is used twice is one instruction.
    """
    wiring = wire(genomes) if wiring is None else wiring
    count, genes = genomes.arity.shape
    # A node reaches all that a node below it reaches, and that node: the more it reaches, the earlier it stands.
    depth = np.where(wiring.active, -1 - np.bitwise_count(wiring.reach).astype(int), 2)
    depth[:, -1] = -100
    key = np.concatenate([np.ones((count, NUM_LEAVES), int), depth], axis=1)
    order = np.argsort(key, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable").astype(np.int32)
    op = np.where(genomes.arity == 1, _UNARY_CODES[genomes.unary], _BINARY_CODES[genomes.binary])
    op = np.where(wiring.active, op, CODES[CONSTANT])
    arguments = np.take_along_axis(place, genomes.inputs.reshape(count, -1).astype(int), 1).reshape(count, genes, 2)
    arguments = np.where(wiring.active[..., None], arguments, 0)
    arguments[..., 1] = np.where(genomes.arity == 2, arguments[..., 1], 0)
    leaves = np.zeros((count, NUM_LEAVES), np.int32)

    def ordered(of_leaves: np.ndarray, of_genes: np.ndarray) -> np.ndarray:
        every = np.concatenate([np.broadcast_to(of_leaves, leaves.shape), of_genes], axis=1)
        return np.take_along_axis(every, order, axis=1)

    return Program(
        op=ordered(_LEAF_CODES, op).astype(np.int32),
        first=ordered(leaves, arguments[..., 0]).astype(np.int32),
        second=ordered(leaves, arguments[..., 1]).astype(np.int32),
        constants=ordered(_LEAF_VALUES, np.zeros((count, genes))),
        weights=np.ones((count, NUM_LEAVES + genes)),
    )
