"""Cost of what a search does with candidates before it trains any: python benchmarks/candidates.py

Tables of a generation of trees, in three forms: the engine's interpreter under `jax.vmap`, the same under
`jax.lax.map`, and the search's own. Gradients of a batch from tables: by the place in the grid, by a binary search
(`jnp.interp`), and cross-entropy's own formula. The rejection protocol, signatures, and a generation of genetic
programming. What is compared runs in turns, so that other load hits all; medians and ratios to the last form are
printed, compilation apart. About a minute.
"""

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.expression import Inputs, Program, compile_program, evaluate, to_text
from edl_jax.search import gp
from edl_jax.search.program_tables import FAMILIES, tables_of_expressions
from edl_jax.search.rejection import PRESETS, reject
from edl_jax.search.tables import EXACT_LOG_P, LOG_P, SIZE, logit_gradient, signatures

EVOMAL = FAMILIES[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--population-size", type=int, default=25)
    parser.add_argument("--length", type=int, default=32, help="nodes that programs are padded to")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each")
    flags = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind} ({os.cpu_count()} cores)")
    config = gp.GPConfig(population_size=flags.population_size)
    trees = [member.tree for member in gp.init(config, 0).population]
    tables = tables_of_expressions(trees)
    nodes = sum(tree.size for tree in trees)
    print(f"\ntables of {len(trees)} trees of {nodes} nodes, float64")
    programs = [compile_program(tree, flags.length) for tree in trees]
    stacked = jax.tree.map(lambda *x: np.stack(x), *programs)
    by_vmap, by_map = jax.jit(jax.vmap(slopes)), jax.jit(lambda p: jax.lax.map(slopes, p))
    forms: dict[str, Callable[[], Any]] = {
        "evaluate, vmap": lambda: in_float64(by_vmap, stacked),
        "evaluate, lax.map": lambda: in_float64(by_map, stacked),
        "tables_of_expressions": lambda: tables_of_expressions(trees),
    }
    compare(forms, flags.rounds)

    print(f"\ngradients of {flags.population_size} x {flags.batch} x {flags.classes} logits, float32")
    key = jax.random.key(0)
    logits = 3.0 * jax.random.normal(key, (flags.population_size, flags.batch, flags.classes))
    labels = jax.random.randint(key, (flags.batch,), 0, flags.classes)
    gradients: dict[str, Callable[[], Any]] = {
        name: bound(jax.jit(jax.vmap(function, in_axes=(0, 0, None))), jnp.asarray(tables), logits, labels)
        for name, function in {
            "binary search": by_search,
            "cross-entropy": cross_entropy,
            "logit_gradient": logit_gradient,
        }.items()
    }
    compare(gradients, flags.rounds)

    print(f"\na generation of {flags.population_size}")
    outputs = np.asarray(jax.random.normal(key, (100, flags.classes)))
    truth = np.asarray(jax.random.randint(key, (100,), 0, flags.classes))
    compare(
        {
            "rejection, 1,000 steps": lambda: reject(tables, outputs, truth),
            "rejection, 100 steps": lambda: reject(tables, outputs, truth, PRESETS["mnist"]),
            "signatures": lambda: signatures(tables),
            "selection, variation": generation_of(config),
        },
        max(flags.rounds // 3, 1),
    )


def compare(forms: dict[str, Callable[[], Any]], rounds: int) -> None:
    first = {}
    for name, form in forms.items():
        start = time.perf_counter()
        jax.block_until_ready(form())
        first[name] = time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            start = time.perf_counter()
            jax.block_until_ready(form())
            seconds[name].append(time.perf_counter() - start)
    last = np.array(seconds[list(forms)[-1]])
    for name, measured in seconds.items():
        ratio = np.median(np.array(measured) / last)
        print(f"{name:24s} {1e3 * np.median(measured):9.2f} ms   ratio {ratio:7.2f}   first call {first[name]:5.2f} s")


def bound(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def in_float64(function: Callable[..., Any], program: Program) -> Any:
    with jax.enable_x64(True):
        return function(program)


def slopes(program: Program) -> jax.Array:
    """Return the slopes `[2, K]` of a program by the engine's interpreter."""
    y = jnp.broadcast_to(jnp.array([[0.0], [1.0]]), (2, SIZE))

    def values(u: jax.Array) -> jax.Array:
        return evaluate(program, Inputs(y, jnp.exp(u), u, jnp.log(-jnp.expm1(u))), operators=EVOMAL)

    u = jnp.broadcast_to(jnp.asarray(EXACT_LOG_P), (2, SIZE))
    return jax.jvp(values, (u,), (jnp.ones_like(u),))[1]


def by_search(table: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    u = jax.nn.log_softmax(logits)
    is_true = labels[:, None] == jnp.arange(logits.shape[1])[None]
    others, true = (jnp.interp(u, jnp.asarray(LOG_P), row) for row in table)
    d = jnp.where(is_true, true, others)
    return d - jnp.exp(u) * jnp.sum(d, axis=1, keepdims=True)


def cross_entropy(table: jax.Array, logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[1])


def generation_of(config: gp.GPConfig) -> Callable[[], Any]:
    """Return what asks and tells a generation whose fitness costs nothing."""
    state = gp.init(config, 0)
    keys = [to_text(member.tree) for member in state.population]
    found = {i: gp.Evaluation(float(len(keys[i]))) for i in gp.ask(config, state, keys)}
    return lambda: gp.tell(config, state, keys, found).generation


if __name__ == "__main__":
    main()
