"""What the tests of the search share: random trees and genomes, and the exact gradients of their losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss import expression as ex
from edl_jax.loss.expression.nlfs import BINARY, LEAVES, UNARY, Gene, Genome
from edl_jax.search.gp import GPConfig
from edl_jax.search.gp.trees import random_tree, repair

CONFIG = GPConfig()


def random_trees(seed, count, max_height=6):
    """Return (trees with y and p, edge weights of each): most of them larger than those a search starts from."""
    rng = np.random.default_rng(seed)
    trees = [repair(rng, random_tree(rng, CONFIG, 1, max_height), CONFIG) for _ in range(count)]
    return trees, [1.0 + 0.3 * rng.standard_normal(tree.size) for tree in trees]


def random_genomes(seed, count):
    """Return the expressions of genomes with y and p and without cycles."""
    rng = np.random.default_rng(seed)
    found = []
    while len(found) < count:
        genes = tuple(
            Gene(
                int(rng.integers(1, 3)),
                int(rng.integers(len(UNARY))),
                int(rng.integers(len(BINARY))),
                tuple(int(x) for x in rng.integers(0, slot, 2)),
            )
            for slot in range(len(LEAVES), len(LEAVES) + 5)
        )
        genome = Genome(genes)
        if genome.uses_both:
            found.append(genome.expression())
    return found


def stack(expressions, weights=None):
    """Return the programs `[P, L]` of expressions."""
    length = max(expression.size for expression in expressions)
    every = [None] * len(expressions) if weights is None else weights
    programs = [ex.compile_program(e, length, w) for e, w in zip(expressions, every, strict=True)]
    return jax.tree.map(lambda *x: np.stack(x), *programs)


def random_predictions(seed, examples, num_classes):
    """Return (logits `[N, C]` float64, labels) from nearly even to nearly sure."""
    rng = np.random.default_rng(seed)
    logits = np.geomspace(0.3, 6.0, examples)[:, None] * rng.standard_normal((examples, num_classes))
    return logits, rng.integers(0, num_classes, examples, np.int32)


def exact_gradients(programs, logits, labels, operators):
    """Return `[P, N, C]` float64: the gradients in the logits of the losses that programs are, by reverse mode."""

    def total(logits, program):
        u = jax.nn.log_softmax(logits)
        inputs = ex.Inputs(jax.nn.one_hot(labels, logits.shape[-1]), jnp.exp(u), u, jnp.log(-jnp.expm1(u)))
        return jnp.sum(ex.evaluate(program, inputs, operators=operators))

    gradients = functools.partial(jax.lax.map, lambda program: jax.grad(total)(logits, program))
    with jax.enable_x64(True):
        return np.asarray(jax.jit(gradients)(programs))
