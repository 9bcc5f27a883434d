"""What benchmarks of the search share: a data set's split, random candidates that pass rejection, times of forms."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import data
from edl_jax.loss.expression import Expression, compile_program
from edl_jax.search import gp
from edl_jax.search.program_tables import FAMILIES, tables_of_expressions
from edl_jax.search.rejection import RejectionConfig, reject
from edl_jax.search.slopes import Tape, tape_of_programs
from edl_jax.search.split import Split, split
from edl_jax.search.students import Student
from edl_jax.search.tables import signatures

OPERATORS = FAMILIES[0]


def parser(description: str | None) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--dataset", default="fashion_mnist")
    found.add_argument("--data-dir")
    found.add_argument("--seed", type=int, default=0)
    return found


def load(flags: argparse.Namespace) -> Split:
    return split(data.load(flags.dataset, flags.data_dir), flags.seed)


def accepted(student: Student, parts: Split, count: int, seed: int) -> tuple[list[Expression], np.ndarray]:
    """Return random trees that pass the rejection protocol, no candidate twice, and their tables `[count, 2, K]`."""
    params, stats = student.init(jax.random.key(seed))
    inputs = student.prepare(jnp.asarray(student.embed(parts.train_images[:100])), None)
    logits = np.asarray(student.logits(params, stats, inputs))
    trees: list[Expression] = []
    tables: list[np.ndarray] = []
    seen: set[str] = set()
    for draw in range(1000):
        members = gp.init(gp.GPConfig(population_size=200), seed + draw).population
        drawn = tables_of_expressions([member.tree for member in members])
        rejected = reject(drawn, logits, parts.train_labels, RejectionConfig(steps=200)).rejected
        for member, table, key, bad in zip(members, drawn, signatures(drawn), rejected, strict=True):
            if not bad and key not in seen and len(trees) < count:
                seen.add(key)
                trees.append(member.tree)
                tables.append(table)
        if len(trees) == count:
            break
    return trees, np.stack(tables)


def tape_of(trees: list[Expression], length: int = 32) -> Tape:
    """Return the tape of trees as programs of one length."""
    programs = [compile_program(tree, max(length, tree.size)) for tree in trees]
    return tape_of_programs(jax.tree.map(lambda *x: np.stack(x), *programs), OPERATORS)


def in_turns(forms: dict[str, Callable[[], Any]], rounds: int, per: float = 1.0) -> dict[str, float]:
    """Print wall and CPU milliseconds of each form, divided by `per`, and return the wall's medians.

    Forms run in turns, so that other load hits all; the first call, which compiles, is apart.
    """
    first = {}
    for name, form in forms.items():
        start = time.perf_counter()
        jax.block_until_ready(form())
        first[name] = time.perf_counter() - start
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            start, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(form())
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    medians = {}
    for name, measured in seconds.items():
        wall, used = 1e3 * np.median(np.array(measured), axis=0) / per
        least = 1e3 * min(x for x, _ in measured) / per
        medians[name] = float(wall)
        print(
            f"  {name:34s} {wall:9.2f} ms (least {least:.2f})   CPU {used:9.2f} ms   first call {first[name]:.1f} s",
            flush=True,
        )
    return medians
