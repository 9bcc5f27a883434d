"""Stage 1: evolve a loss network on synthetic pairs and store it as an artifact. EDL, arXiv 2605.03722."""

import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from edl_jax.backend import roofline
from edl_jax.core import jax_settings, status
from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.loss.threads import Threads
from edl_jax.plot.style import check_format
from edl_jax.pretrain.config import PretrainConfig
from edl_jax.pretrain.generations import CompiledChunk, Inputs, Search, compile_chunk, make_evolution
from edl_jax.pretrain.result import conclude, draw, prepare, solve_optimum
from edl_jax.synthetic.optimum import Optimum
from edl_jax.synthetic.ranking import grouped_pairs

# A compiled call of evolution is made to take about this long: nothing stops it before its end.
_CALL_SECONDS = 1.0


@jax_settings.fixed()
def run(
    config: PretrainConfig,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    profile: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Evolve a loss, calibrate it, and write the run directory.

    Args:
      config: what to run.
      out: run directory (default `runs/pretrain-<time>`).
      resume: continue the run in `out` from its newest checkpoint.
      overwrite: replace the run in `out`.
      profile: print achieved rates beside the machine's measured ceilings.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the run to stop, within a second or after the next generation.

    Returns:
      The content of result.json: held-out metrics of the best run, shape, timings, and `artifact`, the path of the
      loss; with several runs also all of theirs.

    Raises:
      UserError: a setting that cannot be used, runs that do not fit in memory, or a run directory that may not be
        written.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    config = config.settled()
    with Run.preparing("pretrain", config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        status.say("compiling")
        start = time.perf_counter()
        evolution = make_evolution(config, chunk=min(config.chunk, config.generations))
        with Threads(3) as threads:  # what runs meanwhile needs none of these programs
            compiling = threads.submit(compile_chunk, evolution, config.runs, config.es.population_size)
            others = threads.submit(evolution.compile_others, config.runs)
            preparing = threads.submit(prepare, config)
            optimum = solve_optimum(config)
            evolve = compiling.result()
            others.result()
            preparing.result()
    compiled_after = time.perf_counter() - start
    directory = open_run()
    stop.path = directory.path
    try:
        start = time.perf_counter()
        search, inputs = evolution.init(jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.runs)))
        with stop.deferring():
            search, rate = _evolve(directory, config, search, inputs, evolve, optimum, stop)
        seconds = time.perf_counter() - start
        if not np.any(np.isfinite(np.asarray(search.best_fitness))):
            raise UserError(
                f"{config.strategy} found no loss with a finite fitness: lower --std (now {config.es.std}) or "
                "choose another strategy"
            )
        best, best_fitness = np.asarray(search.best), np.asarray(search.best_fitness)
        result = conclude(directory, config, evolution, optimum, best, best_fitness)
        result["generations"] = config.generations
        result["seconds_compiling"] = round(compiled_after, 2)
        result["seconds_this_session"] = round(seconds, 2)
        directory.finish(result)
        draw(directory.path, config, result, figure_format)
        if profile:
            print("\n".join(roofline.lines(evolve.program, rate * config.runs)))
        return result
    finally:
        directory.close()


def _evolve(
    directory: Run,
    config: PretrainConfig,
    search: Search,
    inputs: Inputs,
    evolve: CompiledChunk,
    optimum: Optimum,
    stop: Stop,
) -> tuple[Search, float]:
    """Run the generations that are left, a checkpoint and a block of metrics per chunk; return also generations/s.

    A chunk is some calls of the program, between which it may be stopped: the block is then what is done of it.
    """
    chunk = min(config.chunk, config.generations)
    # F* on each run's own held-out pairs, so that F / F* is not blurred by which pairs were drawn.
    best_possible = [
        optimum.fitness_on(*grouped_pairs(severities, config.reuse))
        for severities in np.asarray(inputs.held_out.severity)
    ]
    stored = directory.restore(search)
    done = 0
    if stored is not None:
        done, search = stored
    directory.rewind("generation", done)
    rates: list[float] = []
    most = 1  # generations a call
    bar = tqdm(
        total=config.generations, initial=done, unit="gen", desc=config.strategy, disable=not sys.stderr.isatty()
    )
    with bar:
        stop.check(_generation(done, config))
        while done < config.generations:
            start, first = time.perf_counter(), done
            end = min(done - done % chunk + chunk, config.generations)
            rows: list[dict[str, Any]] = []
            while done < end and not (rows and stop.requested):
                since, count = time.perf_counter(), min(most, end - done)
                search, metrics = evolve(search, inputs, jnp.int32(count))
                columns = {name: np.asarray(values) for name, values in metrics.items()}
                rows += _rows(columns, count, best_possible)
                done += count
                bar.update(count)
                most = min(chunk, _longer(count, time.perf_counter() - since, most))
            rates.append((done - first) / (time.perf_counter() - start))
            rows[-1]["generations_per_second"] = round(rates[-1], 3)
            directory.log_all(rows)
            directory.save(done, search)
            bar.set_postfix(fitness=f"{rows[-1]['fitness_best']:.4f}", accuracy=f"{rows[-1]['ranking_accuracy']:.4f}")
            stop.check(_generation(done, config))
    return search, float(np.median(rates)) if rates else 0.0


def _longer(count: int, seconds: float, most: int) -> int:
    """Return how many generations a call may have, after one of `count` that took so many seconds."""
    fitting = int(count * _CALL_SECONDS / max(seconds, 1e-6))
    return max(1, min(2 * count, fitting)) if count == most else most


def _generation(done: int, config: PretrainConfig) -> str:
    return f"generation {done} of {config.generations}"


def _rows(columns: dict[str, np.ndarray], count: int, best_possible: list[float]) -> list[dict[str, Any]]:
    """Return a line of metrics per generation and run."""
    rows = []
    for i in range(count):
        for run, optimum in enumerate(best_possible):
            row: dict[str, Any] = {name: values[run, i].item() for name, values in columns.items()}
            row["fitness_ratio"] = row["fitness_best"] / optimum
            rows.append({**row, "run": run} if len(best_possible) > 1 else row)
    return rows
