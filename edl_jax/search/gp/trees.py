"""Operations on trees: growth, crossover, mutation and repair, as in DEAP, which EvoMAL uses.

Trees are small and differ in shape: Python on their nodes takes microseconds a tree, where arrays would pad all of them
to the largest. Every function draws from the generator that it is given and returns a new tree.
"""

import numpy as np

from edl_jax.loss.expression import Expression, Node
from edl_jax.loss.expression.evomal import OPERATORS, TERMINALS
from edl_jax.loss.expression.operators import arity
from edl_jax.search.gp.config import BINARY, GPConfig

_REPAIRS = 4  # of `BINARY`


def random_tree(rng: np.random.Generator, config: GPConfig, min_height: int, max_height: int) -> Expression:
    """Return a tree by half and half: full or grown, of a height drawn from those given.

    In a grown tree a node between the two heights is a terminal as often as terminals are among the primitives.
    """
    full = rng.random() < 0.5
    height = int(rng.integers(min_height, max_height + 1))
    ratio = len(config.terminals) / (len(config.terminals) + len(config.operators))
    nodes: list[Node] = []
    depths = [0]
    while depths:
        depth = depths.pop()
        if depth == height or (not full and depth >= min_height and rng.random() < ratio):
            nodes += TERMINALS[config.terminals[rng.integers(len(config.terminals))]].nodes
        else:
            name = OPERATORS[config.operators[rng.integers(len(config.operators))]]
            nodes.append(Node(name))
            depths += [depth + 1] * arity(name)
    return Expression(tuple(nodes))


def crossover(rng: np.random.Generator, tree: Expression, mate: Expression) -> Expression:
    """Return `tree` with one of its subtrees, not the whole, replaced by one of `mate`; a terminal stays as it is."""
    if tree.size < 2 or mate.size < 2:
        return tree
    start, other = int(rng.integers(1, tree.size)), int(rng.integers(1, mate.size))
    return _replaced(tree, start, mate.nodes[other : mate.end(other)])


def mutate(rng: np.random.Generator, tree: Expression, config: GPConfig) -> Expression:
    """Return `tree` with a subtree, perhaps the whole, replaced by a random one."""
    start = int(rng.integers(tree.size))
    return _replaced(tree, start, random_tree(rng, config, 0, config.max_mutation_height).nodes)


def repair(rng: np.random.Generator, tree: Expression, config: GPConfig) -> Expression | None:
    """Return `tree`, or one that holds y and p: a terminal becomes a binary operator of both.

    Returns:
      None where every terminal is at the greatest height already (never with `released_quirks`, which exceeds it).
    """
    if {"y", "p"} <= tree.names:
        return tree
    depths = _depths(tree)
    places = [
        i
        for i, node in enumerate(tree.nodes)
        if arity(node.name) == 0 and (config.released_quirks or depths[i] < config.max_height)
    ]
    if not places:
        return None
    names = [name for name in BINARY[:_REPAIRS] if name in config.operators]
    names = names or [name for name in BINARY if name in config.operators]
    place = places[rng.integers(len(places))]
    name = OPERATORS[names[rng.integers(len(names))]]
    arguments = [Node("y"), Node("p")]
    return _replaced(tree, place, (Node(name), *(arguments if rng.random() < 0.5 else reversed(arguments))))


def _replaced(tree: Expression, start: int, nodes: tuple[Node, ...]) -> Expression:
    return Expression((*tree.nodes[:start], *nodes, *tree.nodes[tree.end(start) :]))


def _depths(tree: Expression) -> list[int]:
    """Return the depth of each node, the root's 0."""
    depths, pending = [], [0]
    for node in tree.nodes:
        depth = pending.pop()
        depths.append(depth)
        pending += [depth + 1] * arity(node.name)
    return depths
