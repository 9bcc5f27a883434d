"""One factor at a time around a base config: `python run.py ablate`.

Every cell evolves the same seeds with common random numbers (start, fitness batches and held-out pairs depend on the
seed alone), as many members as the base run evaluates, and then on to where the base run's time would end.
Seconds are those of a run that has the machine to itself. Finished cells are kept: --resume continues a killed study.
"""

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

from edl_jax.config import to_dict
from edl_jax.errors import require, unknown
from edl_jax.evolution import make_program
from edl_jax.pretrain import PretrainConfig, compile_chunk
from edl_jax.runs import Run, write_atomic
from edl_jax.study import ablation_report
from edl_jax.study.ablation_report import generations_within
from edl_jax.study.factors import FACTORS, Cell, cells, generations, same
from edl_jax.synthetic.ranking import grouped_pairs

# A cheap cell is followed to the base run's time, but not for longer than this many times the base's generations.
_LONGEST = 4
# Chunks a run is cut into: their median is its time per generation.
_CHUNKS = 10
_TEST_KEY = 101
# Generations and rounds of a timing.
_TIMED, _ROUNDS = 20, 5


@dataclasses.dataclass(frozen=True)
class AblateConfig:
    """Vary one factor at a time around a base config."""

    factors: tuple[str, ...] = tuple(FACTORS)
    """Factors to vary (default: all)."""
    runs: int = 10
    """Seeds per cell, from the base's seed on."""
    base: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    """The config around which factors vary."""

    def __post_init__(self) -> None:
        require(1 <= self.runs < 2**20, f"runs is {self.runs}, expected 1 or more")
        require(len(self.factors) > 0, f"no factor given, expected some of {', '.join(FACTORS)}")
        for factor in self.factors:
            if factor not in FACTORS:
                raise unknown("factor", factor, FACTORS)
        room = f"base.seed {self.base.seed} leaves no room for {self.runs} runs, expected less than 2^31"
        require(self.base.seed + self.runs < 2**31, room)
        require(self.base.runs == 1, f"base.runs is {self.base.runs}, expected 1: give --runs for seeds per cell")


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


def run(
    config: AblateConfig,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    retime: bool = False,
) -> dict[str, Any]:
    """Run the cells that are left, then test and draw.

    Args:
      config: what to vary.
      out: run directory (default `runs/ablate-<time>`).
      resume: keep the finished cells in `out`.
      overwrite: replace the study in `out`.
      retime: at the end measure every cell's time a generation again, between runs of the base: for a study whose cells
        shared the machine with other work.

    Returns:
      The content of result.json: every cell's numbers and the comparisons with the base.

    Raises:
      UserError: a level that the base does not allow, or a directory that may not be written.
    """
    todo = cells(config.base, config.factors)
    base = todo[0].config
    directory = Run.open("ablate", config, out=out, resume=resume, overwrite=overwrite)
    try:
        print(_announcement(todo, config.runs), flush=True)
        results: dict[int, Result] = {}
        bar = tqdm(todo, unit="cell", desc="ablate", disable=not sys.stderr.isatty())
        for i, cell in enumerate(bar):
            path = _cell_file(directory.path, i)
            stored = _load(path, cell.config)
            budget = results[0].seconds * base.generations if results else math.inf
            results[i] = _measure(cell.config, base, config.runs, budget) if stored is None else stored
            if stored is None:
                _save(path, cell.config, results[i])
            if i == 0:
                left = [cell for j, cell in enumerate(todo) if not _cell_file(directory.path, j).exists()]
                print(_estimate(left, base, results[0].seconds, config.runs), flush=True)
        if retime:
            for i, seconds in _times(todo).items():
                results[i] = results[i]._replace(seconds=seconds)
                _save(_cell_file(directory.path, i), todo[i].config, results[i])
        result = ablation_report.write(directory.path, todo, results, base)
        directory.finish(result)
        return result
    finally:
        directory.close()


def _measure(config: PretrainConfig, base: PretrainConfig, runs: int, budget: float) -> Result:
    """Evolve `runs` seeds of one cell: equal evaluations first, then on to `budget` seconds a run."""
    task, even = config.task(), generations(config, base)
    chunk = max(even // _CHUNKS, 1)
    start = time.perf_counter()
    program = make_program(task, config.strategy, config.es, chunk=chunk, held_out_pairs=config.held_out_pairs)
    evolve = compile_chunk(program, runs, config.es.population_size)
    compiling = time.perf_counter() - start
    search, inputs = program.init(jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + runs)))
    optimum = config.optimum()
    best_possible = np.array([optimum.fitness_on(*grouped_pairs(e, task.reuse)) for e in inputs.held_out.severity])
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
            test = _test(program, search.best, optimum, config.seed, task.reuse)
            alone = _seconds_alone(program, seconds, runs)
            if math.isfinite(budget):
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


def _test(program: Any, solutions: jax.Array, optimum: Any, seed: int, reuse: int) -> np.ndarray:
    """Return F / F* `[R]` of solutions on fresh pairs, the same for all cells of a seed."""
    ratios = []
    for i, solution in enumerate(solutions):
        key = jax.random.fold_in(jax.random.key(seed + i), _TEST_KEY)
        metrics, severity = program.assess(key, solution)
        ratios.append(float(metrics["fitness"]) / optimum.fitness_on(*grouped_pairs(severity, reuse)))
    return np.nan_to_num(np.array(ratios), nan=math.inf, posinf=math.inf)  # a run without a finite loss failed


def _seconds_alone(program: Any, seconds: list[float], runs: int) -> float:
    """Return seconds a generation of a single run."""
    if jax.default_backend() == "cpu":
        return float(np.median(seconds)) / runs  # runs follow one another
    # Elsewhere runs share the device: time one by itself.
    search, inputs = program.init(jax.vmap(jax.random.key)(jnp.arange(1)))
    times, count = [], jnp.int32(10)
    for _ in range(4):
        start = time.perf_counter()
        search, _ = jax.block_until_ready(program.evolve(search, inputs, count))
        times.append((time.perf_counter() - start) / 10)
    return float(np.median(times[1:]))  # the first one compiles


def _times(todo: list[Cell]) -> dict[int, float]:
    """Return seconds a generation of every cell, single runs, each timed between rounds of the base cell."""

    def prepare(config: PretrainConfig) -> Any:
        program = make_program(
            config.task(), config.strategy, config.es, chunk=_TIMED, held_out_pairs=config.held_out_pairs
        )
        evolve = compile_chunk(program, 1, config.es.population_size)
        state = list(program.init(jax.vmap(jax.random.key)(jnp.arange(1))))

        def timed() -> float:
            start = time.perf_counter()
            state[0], _ = jax.block_until_ready(evolve(*state, jnp.int32(_TIMED)))
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


def _announcement(todo: list[Cell], runs: int) -> str:
    total = sum(generations(cell.config, todo[0].config) for cell in todo) * runs
    return (
        f"ablate: {len(todo)} cells of {runs} runs, {total:,} generations; the base cell comes first, for an estimate"
    )


def _estimate(left: list[Cell], base: PretrainConfig, seconds: float, runs: int) -> str:
    total = 0.0
    for cell in left:
        size = cell.config.es.population_size / base.es.population_size
        # Measured: networks that cannot be tabulated cost about 25 times as much.
        size *= 25.0 if base.task().is_tabulated and not cell.config.task().is_tabulated else 1.0
        total += 6.0 + runs * generations(cell.config, base) * seconds * size
    return f"ablate: {1e3 * seconds:.2f} ms a generation; about {total / 60:.0f} minutes for the {len(left)} cells left"


def _cell_file(folder: Path, i: int) -> Path:
    return folder / "cells" / f"{i:03d}.npz"


def _save(path: Path, config: PretrainConfig, result: Result) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, config=np.array(json.dumps(to_dict(config))), **result._asdict())
    write_atomic(path, buffer.getvalue())


def _load(path: Path, config: PretrainConfig) -> Result | None:
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
