"""Genomes of neural loss function search as text: what a history stores, and what people type from a paper.

    loss = -root; root = mul(h1, h2) | neg; h1 = abs(y) | add; h2 = log_shift(p) | add

A statement for each node: its operator and what that is of (y, p, 1, -1, another node); after the bar the operator of
the other arity, which the node keeps for a mutation. `loss = root` and operators after the bar may be left out, as may
nodes that nothing uses; statements stand in any order, divided by semicolons or new lines, and # begins a remark.
"""

import re

from edl_jax.core.errors import UserError, require, unknown
from edl_jax.loss.expression.nlfs import BINARY, HIDDEN, LEAVES, MAX_HIDDEN, UNARY, Gene, Genome

LEAF_NAMES: tuple[str, ...] = ("y", "p", "1", "-1")
"""Leaves by slot, as they are written."""
MAX_LENGTH = 10_000
"""Characters of a genome."""
ROOT = "root"
_STATEMENT = re.compile(r"(\w+)\s*=\s*(\w+)\s*\(([^()]*)\)\s*(?:\|\s*(\w+))?")
_SIGN = re.compile(r"loss\s*=\s*(-?)\s*root")
_EXAMPLE = "such as root = mul(h1, h2); h1 = abs(y); h2 = log_shift(p); loss = -root"


def to_text(genome: Genome) -> str:
    """Return a genome as one line; `from_text` gives it back, operators that are not in use included."""
    names = [*LEAF_NAMES, *(f"h{i + 1}" for i in range(len(genome.genes) - 1)), ROOT]
    statements = [f"loss = {'-' if genome.flip else ''}root"]
    for slot in (genome.root, *range(len(LEAVES), genome.root)):
        gene = genome.genes[slot - len(LEAVES)]
        kept = BINARY[gene.binary] if gene.arity == 1 else UNARY[gene.unary]
        inputs = ", ".join(names[used] for used in gene.connections)
        statements.append(f"{names[slot]} = {gene.operator}({inputs}) | {kept}")
    return "; ".join(statements)


def from_text(text: str, hidden: int | None = None) -> Genome:
    """Return the genome of a text.

    Args:
      text: statements, as the module says; operators are named as in `nlfs.UNARY` and `nlfs.BINARY`.
      hidden: hidden nodes of the genome; None for those that the text has, and at least the authors' 4.

    Raises:
      UserError: the text is no genome, or its nodes form a cycle; the line names the statement.
    """
    require(len(text) <= MAX_LENGTH, f"a genome of {len(text)} characters, expected at most {MAX_LENGTH}")
    flip, found = False, dict[str, re.Match[str]]()
    for line in text.splitlines():
        for statement in line.split("#")[0].split(";"):
            if not (statement := statement.strip()):
                continue
            if sign := _SIGN.fullmatch(statement):
                flip = sign[1] == "-"
                continue
            match = _STATEMENT.fullmatch(statement)
            require(
                match is not None,
                f"{statement!r:.80} is no statement of a genome: expected NAME = OPERATOR(INPUTS), {_EXAMPLE}",
            )
            assert match is not None
            require(match[1] not in found, f"{match[1]} is given twice in the genome, expected each node once")
            found[match[1]] = match
    require(ROOT in found, f"the genome has no root: expected a statement for it, {_EXAMPLE}")
    count = max([HIDDEN if hidden is None else hidden, *map(_number, found.keys() - {ROOT})])
    limit = MAX_HIDDEN if hidden is None else hidden
    require(1 <= count <= limit, f"the genome has {count} hidden nodes, expected 1 to {limit}")
    names = [f"h{i + 1}" for i in range(count)]
    slots = {name: i for i, name in enumerate((*LEAF_NAMES, *names, ROOT))}
    genes = tuple(_gene(found[name], found, slots) if name in found else Gene(1) for name in (*names, ROOT))
    genome = Genome(genes, flip)
    genome.expression()  # names the nodes of a cycle
    return genome


def _number(name: str) -> int:
    """Return i of the name of hidden node hi."""
    match = re.fullmatch(r"h([1-9]\d{0,3})", name)
    require(match is not None, f"{name!r:.40} is no node of a genome: expected root, h1, h2, ...")
    assert match is not None
    return int(match[1])


def _gene(match: re.Match[str], found: dict[str, re.Match[str]], slots: dict[str, int]) -> Gene:
    """Return the gene of a statement."""
    statement, operator, arguments, kept = match[0], match[2], match[3], match[4]
    if operator not in UNARY + BINARY:
        raise unknown("operator of a genome", operator, UNARY + BINARY)
    arity = 1 if operator in UNARY else 2
    inputs = [part.strip() for part in arguments.split(",")]
    require(
        len(inputs) == arity, f"{statement!r:.80}: {operator} takes {arity} input{'s' * (arity > 1)}, got {len(inputs)}"
    )
    for used in inputs:
        known = used in slots and (used in LEAF_NAMES or used in found)
        require(
            known,
            f"{statement!r:.80}: {used or 'nothing'} is no input, expected {', '.join(LEAF_NAMES)} or a node with a "
            "statement",
        )
    others = BINARY if arity == 1 else UNARY
    if kept is not None and kept not in others:
        raise UserError(f"{statement!r:.80}: {kept} does not follow {operator}, expected one of {', '.join(others)}")
    other = 0 if kept is None else others.index(kept)
    first, second = (slots[used] for used in (inputs * 2)[:2])
    if arity == 1:
        return Gene(1, UNARY.index(operator), other, (first, 0))
    return Gene(2, other, BINARY.index(operator), (first, second))
