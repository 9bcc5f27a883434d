"""A cell of an ablation: what it measures, and its file."""

import dataclasses
import io
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from edl_jax.core.config import to_dict
from edl_jax.core.files import write_atomic
from edl_jax.pretrain import PretrainConfig, solve_optimum
from edl_jax.pretrain.generations import Evolution, compile_chunk, is_little_work, make_evolution
from edl_jax.study.ablate.factors import Cell, generations, same
from edl_jax.synthetic.optimum import Optimum
from edl_jax.synthetic.ranking import grouped_pairs

# A cheap cell is followed to the base run's time, but not for longer than this many times the base's generations.
_LONGEST = 4
# Chunks a run is cut into: their median is its time per generation.
_CHUNKS = 10
_TEST_KEY = 101
# Generations and rounds of a timing.
_TIMED, _ROUNDS = 20, 5


class Result(NamedTuple):
    """What a cell measured; arrays over R runs and G generations.

    Attributes:
      fitness_ratio: `[R, G]` F / F* of the best solution so far, on the held-out pairs.
      mean_ratio: `[R, G]` F / F* of the mean, on the held-out pairs.
      ranking_accuracy: `[R, G]` of the best solution, on the held-out pairs.
      population_spread: `[R, G]` mean over parameters of the population's standard deviation.
      test_ratio: `[R]` F / F* of the best solution on fresh pairs, after as many evaluations as the base run.
      evaluations_end: generations after which that was.
      seconds: seconds a generation of one run, without compilation.
      seconds_compiling: seconds of compilation.
    """

    fitness_ratio: np.ndarray
    mean_ratio: np.ndarray
    ranking_accuracy: np.ndarray
    population_spread: np.ndarray
    test_ratio: np.ndarray
    evaluations_end: int
    seconds: float
    seconds_compiling: float


def generations_within(budget: float, seconds: float) -> int:
    """Return how many generations of `seconds` fit into a budget, at least 1."""
    return max(int(budget / seconds * (1.0 + 1e-9)), 1)  # the base's own must not be one short by rounding


def runs_of(result: Result | None) -> int:
    """Return how many runs a cell has."""
    return 0 if result is None else len(result.test_ratio)


def complete(stored: Result | None, config: PretrainConfig, base: PretrainConfig, runs: int, budget: float) -> Result:
    """Return a cell of `runs` seeds; those that are stored stay as they are, and the others are as long."""
    have = runs_of(stored)
    if stored is None or have > runs:
        return measure(config, base, runs, budget)
    if have == runs:
        return stored
    others = dataclasses.replace(config, seed=config.seed + have)
    added = measure(others, base, runs - have, budget, length=stored.fitness_ratio.shape[1])
    columns: dict[str, Any] = {
        name: np.concatenate([values, getattr(added, name)])
        for name, values in stored._asdict().items()
        if np.ndim(values)
    }
    return stored._replace(**columns)


def measure(
    config: PretrainConfig, base: PretrainConfig, runs: int, budget: float, *, length: int | None = None
) -> Result:
    """Evolve `runs` seeds of one cell: equal evaluations first, then on to `budget` seconds a run.

    Args:
      config: of the cell.
      base: of the base cell.
      runs: number of seeds, from that of `config` on.
      budget: seconds a run.
      length: generations in place of those that the budget has room for.
    """
    even = generations(config, base)
    chunk = max(even // _CHUNKS, 1)
    start = time.perf_counter()
    # All cells as the base: their seconds are compared.
    evolution = make_evolution(config, chunk=chunk, quick=is_little_work(base))
    evolve = compile_chunk(evolution, runs, config.es.population_size)
    compiling = time.perf_counter() - start
    search, inputs = evolution.init(jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + runs)))
    optimum = solve_optimum(config)
    severities = np.asarray(inputs.held_out.severity)
    best_possible = np.array([optimum.fitness_on(*grouped_pairs(e, config.reuse)) for e in severities])
    columns: dict[str, list[np.ndarray]] = {}
    done, seconds, target, test = 0, [], even, np.zeros(runs)
    while done < target:
        # `even` is the end of a chunk, so that the solutions after equal evaluations can be tested.
        count = min(chunk, (even if done < even else target) - done)
        start = time.perf_counter()
        search, metrics = jax.block_until_ready(evolve(search, inputs, jnp.int32(count)))
        seconds.append((time.perf_counter() - start) / count)
        for name, values in metrics.items():
            columns.setdefault(name, []).append(np.asarray(values)[:, :count])
        done += count
        if done == even:
            test = _test(evolution, search.best, optimum, config.seed, config.reuse)
            alone = _seconds_alone(evolution, seconds, runs)
            if length is not None:
                target = length
            elif math.isfinite(budget):
                target = min(max(even, generations_within(budget, alone)), _LONGEST * base.generations)
    table = {name: np.concatenate(parts, axis=1) for name, parts in columns.items()}
    return Result(
        fitness_ratio=table["fitness_best"] / best_possible[:, None],
        mean_ratio=table["fitness_of_mean"] / best_possible[:, None],
        ranking_accuracy=table["ranking_accuracy"],
        population_spread=table["population_spread"],
        test_ratio=test,
        evaluations_end=even,
        seconds=alone,
        seconds_compiling=compiling,
    )


def _test(evolution: Evolution, solutions: jax.Array, optimum: Optimum, seed: int, reuse: int) -> np.ndarray:
    """Return F / F* `[R]` of solutions on fresh pairs, the same for all cells of a seed."""
    ratios = []
    for i, solution in enumerate(solutions):
        key = jax.random.fold_in(jax.random.key(seed + i), _TEST_KEY)
        metrics, severity = evolution.assess(key, solution)
        ratios.append(float(metrics["fitness"]) / optimum.fitness_on(*grouped_pairs(np.asarray(severity), reuse)))
    return np.nan_to_num(np.array(ratios), nan=math.inf, posinf=math.inf)  # a run without a finite loss failed


def _seconds_alone(evolution: Evolution, seconds: list[float], runs: int) -> float:
    """Return seconds a generation of a single run."""
    if jax.default_backend() == "cpu":
        return float(np.median(seconds)) / runs  # runs follow one another
    # Elsewhere runs share the device: time one by itself.
    search, inputs = evolution.init(jax.vmap(jax.random.key)(jnp.arange(1)))
    times, count = [], jnp.int32(10)
    for _ in range(4):
        start = time.perf_counter()
        search, _ = jax.block_until_ready(evolution.evolve(search, inputs, count))
        times.append((time.perf_counter() - start) / 10)
    return float(np.median(times[1:]))  # the first one compiles


def times(todo: list[Cell]) -> dict[int, float]:
    """Return seconds a generation of every cell, single runs, each timed between rounds of the base cell."""

    def prepare(config: PretrainConfig) -> Any:
        evolution = make_evolution(config, chunk=_TIMED, quick=is_little_work(todo[0].config))
        evolve = compile_chunk(evolution, 1, config.es.population_size)
        search, inputs = evolution.init(jax.vmap(jax.random.key)(jnp.arange(1)))

        def timed() -> float:
            nonlocal search
            start = time.perf_counter()
            search, _ = jax.block_until_ready(evolve(search, inputs, jnp.int32(_TIMED)))
            return (time.perf_counter() - start) / _TIMED

        timed()
        return timed

    base, ratios, bases = prepare(todo[0].config), {}, []
    for i, cell in enumerate(tqdm(todo, unit="cell", desc="time", disable=not sys.stderr.isatty())):
        other = prepare(cell.config)
        rounds = [(base(), other()) for _ in range(_ROUNDS)]
        bases += [seconds for seconds, _ in rounds]
        ratios[i] = float(np.median([mine / reference for reference, mine in rounds]))
    alone = float(np.median(bases))
    return {i: ratio * alone for i, ratio in ratios.items()}


def cell_file(folder: Path, i: int) -> Path:
    """Return the file of cell `i` of the study in `folder`."""
    return folder / "cells" / f"{i:03d}.npz"


def save(path: Path, config: PretrainConfig, result: Result) -> None:
    """Write the result of a cell and its config to `path`, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, config=np.array(json.dumps(to_dict(config))), **result._asdict())
    write_atomic(path, buffer.getvalue())


def load(path: Path, config: PretrainConfig) -> Result | None:
    """Return the stored result of a cell, or None when there is none, it is damaged, or of another config."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        if not same(json.loads(str(stored.pop("config"))), config):
            return None
        scalars = {"evaluations_end": int, "seconds": float, "seconds_compiling": float}
        return Result(**{name: scalars[name](x) if name in scalars else x for name, x in stored.items()})
    except Exception:  # whatever the layers below make of a damaged file
        return None
