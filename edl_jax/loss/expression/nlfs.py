"""Genomes of neural loss function search (Morgan and Hougen 2024, arXiv 2403.08793), as the authors' code has them.

Slots: the leaves 0 to 3 are y, p, 1 and -1, then come the hidden nodes, 4 in the authors' code, and the root. A node
keeps a unary and a binary operator, of which its arity chooses one, and its connections; only the nodes that the root
reaches count. `genome_text` writes and reads them as text.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import UserError, require
from edl_jax.loss.expression.evaluate import Inputs, compile_function
from edl_jax.loss.expression.record import expression_loss
from edl_jax.loss.expression.tree import Expression, Node, P, Y, constant, to_text
from edl_jax.loss.function import LossFunction

UNARY: tuple[str, ...] = (
    *("neg", "log_shift", "log10_shift", "exp", "abs", "sigmoid", "inverse_abs", "softplus_shift", "erf", "erfc"),
    *("sin", "sinh", "arcsinh", "tanh", "arctan", "inverse_shift", "bessel_i0", "bessel_i0e", "bessel_i1"),
    *("bessel_i1e", "relu", "min_zero", "square", "sqrt", "softsign", "tanh_slope", "sigmoid_slope"),
)
"""Unary operators by id."""
BINARY: tuple[str, ...] = ("add", "sub", "mul", "max", "min", "div_shift", "aq")
"""Binary operators by id."""
LEAVES: tuple[Expression, ...] = (Y, P, constant(1.0), constant(-1.0))
"""Leaves by slot."""
HIDDEN = 4
"""Hidden nodes of the authors' genomes."""
MAX_HIDDEN = 32
"""Hidden nodes of a genome at most."""


@dataclasses.dataclass(frozen=True)
class Gene:
    """A node of a genome.

    Attributes:
      arity: 1 or 2, which of the operators is in use.
      unary: index into `UNARY`.
      binary: index into `BINARY`.
      inputs: slots of the first and of the second argument; a unary node uses the first.
    """

    arity: int
    unary: int = 0
    binary: int = 0
    inputs: tuple[int, int] = (0, 0)

    @property
    def operator(self) -> str:
        """Return the name of the operator in use."""
        return UNARY[self.unary] if self.arity == 1 else BINARY[self.binary]

    @property
    def connections(self) -> tuple[int, ...]:
        """Return the slots in use."""
        return self.inputs[: self.arity]


@dataclasses.dataclass(frozen=True)
class Genome:
    """A loss of the search space: the sum over classes of the root, times -1 if `flip`.

    Attributes:
      genes: the hidden nodes, slots 4 and on, then the root.
      flip: whether the loss is the negative of the root.

    Raises:
      UserError: a number of genes, arity, operator or slot that the space does not have.
    """

    genes: tuple[Gene, ...]
    flip: bool = False

    def __post_init__(self) -> None:
        require(
            2 <= len(self.genes) <= MAX_HIDDEN + 1,
            f"a genome has the root and 1 to {MAX_HIDDEN} hidden nodes, got {len(self.genes)} genes",
        )
        for slot, gene in enumerate(self.genes, len(LEAVES)):
            require(gene.arity in (1, 2), f"gene {slot}: arity is {gene.arity}, expected 1 or 2")
            for name, value, stop in (
                ("unary", gene.unary, len(UNARY)),
                ("binary", gene.binary, len(BINARY)),
                *(("inputs", value, self.root + 1) for value in gene.inputs),
            ):
                require(0 <= value < stop, f"gene {slot}: {name} is {value}, expected 0 to {stop - 1}")

    @property
    def root(self) -> int:
        """Return the slot of the root, the last one."""
        return len(LEAVES) + len(self.genes) - 1

    @property
    def active(self) -> frozenset[int]:
        """Return the slots that the root reaches, itself included, leaves included."""
        found: set[int] = set()
        pending = [self.root]
        while pending:
            slot = pending.pop()
            if slot not in found:
                found.add(slot)
                pending.extend(self._gene(slot).connections if slot >= len(LEAVES) else ())
        return frozenset(found)

    @property
    def uses_both(self) -> bool:
        """Return whether y and p are active: a loss without one of them is none."""
        return {0, 1} <= self.active

    def expression(self) -> Expression:
        """Return the expression of the root, `flip` aside; a node that is used twice becomes two subtrees.

        Raises:
          UserError: the active nodes form a cycle.
        """
        return Expression(self._nodes(self.root, ()))

    def loss(self) -> LossFunction:
        """Return the loss: that of its expression, `flip` included.

        Raises:
          UserError: the active nodes form a cycle, or y or p is not among them.
        """
        expression = self.expression()
        require(self.uses_both, f"the genome is {to_text(expression):.80}, expected a loss of y and p")
        return expression_loss(expression, flip=self.flip)

    def _nodes(self, slot: int, above: tuple[int, ...]) -> tuple[Node, ...]:
        if slot < len(LEAVES):
            return LEAVES[slot].nodes
        path = (*above, slot)
        require(slot not in above, f"the genome has a cycle through slots {' -> '.join(map(str, path))}")
        gene = self._gene(slot)
        return (Node(gene.operator), *(node for used in gene.connections for node in self._nodes(used, path)))

    def _gene(self, slot: int) -> Gene:
        return self.genes[slot - len(LEAVES)]

    def to_dict(self) -> dict[str, Any]:
        """Return the genome as data that JSON can hold."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Genome":
        """Return the genome that `to_dict` gave.

        Raises:
          UserError: the data are not those of a genome.
        """
        try:
            genes = tuple(Gene(**{**gene, "inputs": _pair(gene["inputs"])}) for gene in data["genes"])
            flip = data.get("flip", False)
            numbers = [n for g in genes for n in (g.arity, g.unary, g.binary, *g.inputs)]
            if not isinstance(flip, bool) or any(not isinstance(n, int) or isinstance(n, bool) for n in numbers):
                raise TypeError("expected whole numbers, and flip true or false")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"this is no genome ({type(error).__name__}: {error}): expected flip, and genes with arity, unary, "
                "binary, inputs"
            ) from error
        return cls(genes, flip)


def _pair(inputs: Any) -> tuple[int, int]:
    first, second = inputs
    return first, second


def binary_phenotype(expression: Expression, points: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Return (p of the true class, value), each float64 `[points]`: two classes, p from 1 - 1e-7 down to 1e-7.

    What the search judges a genome by before any training; `flip` is not applied.
    """
    wrong = np.linspace(1e-7, 1.0 - 1e-7, points)
    with jax.enable_x64(True):
        p = jnp.asarray(np.stack([wrong, 1.0 - wrong], axis=-1))
        y = jnp.broadcast_to(jnp.asarray([[0.0, 1.0]]), p.shape)
        values = np.asarray(jnp.sum(compile_function(expression)(Inputs.of(y, p)), axis=-1))
    return 1.0 - wrong, values
