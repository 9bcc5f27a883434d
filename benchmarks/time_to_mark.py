"""Seconds until a run of stage 1 has reached a mark, for pretrain_throughput.py.

A run is looked at after every generation, to find the generation in which its best solution first meets each mark on
the held-out batch; then it is run again from the start, that far and without looking, and timed.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.pretrain import PretrainConfig, solve_optimum
from edl_jax.pretrain.generations import Evolution, clear_programs, compile_chunk, make_evolution
from edl_jax.pretrain.objective import losses
from edl_jax.synthetic import MixtureConfig
from edl_jax.synthetic.mixture import COMPONENTS
from edl_jax.synthetic.ranking import grouped_pairs
from edl_jax.synthetic.shape import r_squared

_NOTHING: dict[str, Any] = dict.fromkeys(COMPONENTS, 0.0)
_REGIMES = ("uniform", "confident_right", "confident_wrong", "boundary", "near_uniform")
# Changes of the config. Of two classes, uniform over the simplex is uniform in p_t.
MIXTURES: dict[str, dict[str, Any]] = {
    "default": {},
    "paper-like": {"mixture": MixtureConfig(**{**_NOTHING, **dict.fromkeys(_REGIMES, 1.0)}, confidence=10.0)},
    "uniform p_t": {"mixture": MixtureConfig(**{**_NOTHING, "uniform": 1.0}), "num_classes": 2},
}
_TIMINGS = 3


class Look(NamedTuple):
    """The best solution on the held-out batch: ranking accuracy, F / F*, and R^2 with the optimal loss."""

    accuracy: float
    ratio: float
    r_squared: float


MARKS: dict[str, Callable[[Look], bool]] = {
    "99 % accuracy": lambda look: look.accuracy >= 0.99,
    "F within 1 % of F*, R² > .99": lambda look: look.ratio <= 1.01 and look.r_squared > 0.99,
    "F within 0.1 % of F*, R² > .999": lambda look: look.ratio <= 1.001 and look.r_squared > 0.999,
}


def measure(config: PretrainConfig, seeds: int, limit: int, compilations: int) -> dict[str, Any]:
    """Measure runs to all marks.

    Args:
      config: what to run.
      seeds: number of runs.
      limit: generations after which a mark counts as missed.
      compilations: how often to compile, each time from empty caches.

    Returns:
      `compile`: seconds of each compilation; `marks`: by mark, `generations` and `seconds` of each
      run, None where it missed; `last`: the last look of each run that went to the limit.
    """
    compiling = []
    for _ in range(compilations):
        evolution, init, evolve, seconds = compiled(config, limit)
        compiling.append(seconds)
    optimum = solve_optimum(config)
    values = jax.jit(
        lambda solution, batch: losses(config, jax.tree.map(lambda x: x[None], evolution.unravel(solution)), batch)
    )

    def look(metrics: Mapping[str, Any], search: Any, batch: Any, best_possible: float, known: np.ndarray) -> Look:
        found = np.asarray(values(search.best[0], batch)).ravel()
        ratio = float(metrics["fitness_best"][0, 0]) / best_possible
        return Look(float(metrics["ranking_accuracy"][0, 0]), ratio, r_squared(found, known))

    marks: dict[str, dict[str, list]] = {name: {"generations": [], "seconds": []} for name in MARKS}
    last = []
    for seed in range(seeds):
        keys = jax.random.key(seed)[None]
        search, inputs = init(keys)
        batch = jax.tree.map(lambda x: x[0], inputs.held_out)
        best_possible = optimum.fitness_on(*grouped_pairs(batch.severity, config.reuse))
        known = optimum.loss_of_severity(np.asarray(batch.severity).ravel())
        reached: dict[str, int] = {}
        for generation in range(1, limit + 1):
            search, metrics = evolve(search, inputs, jnp.int32(1))
            seen = look(metrics, search, batch, best_possible, known)
            reached |= {name: generation for name, is_met in MARKS.items() if name not in reached and is_met(seen)}
            if len(reached) == len(MARKS):
                break
        else:
            last.append(seen._asdict())
        for name, mark in marks.items():
            count = reached.get(name)
            mark["generations"].append(count)
            mark["seconds"].append(None if count is None else seconds_of(init, evolve, keys, count))
    return {"compile": compiling, "marks": marks, "last": last}


def compiled(config: PretrainConfig, chunk: int) -> tuple[Evolution, Any, Any, float]:
    """Return (evolution, init, compiled evolve, seconds that tracing and compiling took), all of it made anew."""
    jax.clear_caches()
    clear_programs()
    keys = jax.random.key(config.seed)[None]
    start = time.perf_counter()
    evolution = make_evolution(config, chunk=chunk)
    evolve = compile_chunk(evolution, 1, config.es.population_size)
    jax.block_until_ready(evolution.init(keys))
    middle = time.perf_counter()
    jax.block_until_ready(evolution.init(keys))
    return evolution, evolution.init, evolve, middle - start - (time.perf_counter() - middle)


def seconds_of(init: Any, evolve: Any, keys: jax.Array, count: int) -> float:
    """Return the median seconds of a run from its start to a generation."""
    found = []
    for _ in range(_TIMINGS):
        start = time.perf_counter()
        search, inputs = init(keys)
        jax.block_until_ready(evolve(search, inputs, jnp.int32(count)))
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the marks of all mixtures as markdown: medians over runs, and their range."""
    rows = []
    for mixture, result in found.items():
        compilation = statistics.median(result["compile"])
        for name, mark in result["marks"].items():
            runs = len(mark["generations"])
            seconds = np.array([np.inf if x is None else x for x in mark["seconds"]])
            generations = np.array([np.inf if x is None else x for x in mark["generations"]])
            there = int(np.isfinite(seconds).sum())
            cells = [spread(generations, ".0f"), spread(seconds, ".2f"), spread(seconds + compilation, ".2f")]
            rows.append([mixture, name, f"{there} of {runs}", *cells])
    head = ["mixture", "mark", "runs there", "generations", "seconds", "seconds with compilation"]
    return markdown(head, rows)


def spread(values: np.ndarray, form: str) -> str:
    """Return `median (lowest to highest)`, the upper median; a run that missed is infinite and shown as a dash."""
    middle = statistics.median_high(values.tolist())
    low, middle, high = ("–" if np.isinf(x) else format(x, form) for x in (values.min(), middle, values.max()))
    return f"{middle} ({low} to {high})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table between blank lines."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
