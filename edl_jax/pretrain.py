"""Stage 1: evolve a loss network on synthetic pairs and store it as an artifact.

    python run.py pretrain --strategy chaotic_es

EDL, arXiv 2605.03722. `run` is what the command calls.
"""

import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tqdm import tqdm

from edl_jax import profile as profiling, strategies
from edl_jax.conclusion import conclude
from edl_jax.errors import UserError, require, unknown
from edl_jax.evolution import Inputs, Program, Search, make_program
from edl_jax.loss import NetworkConfig
from edl_jax.loss._network import EVOLVED_KINDS, is_separable
from edl_jax.memory import require_fit
from edl_jax.objective import EVALUATIONS, Task
from edl_jax.runs import Run
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic import MixtureConfig, severity
from edl_jax.synthetic.optimum import Optimum, solve
from edl_jax.synthetic.ranking import grouped_pairs


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Evolve a loss on synthetic pairs."""

    strategy: str = "chaotic_es"
    """Evolution strategy: chaotic_es, gaussian_es, or an evosax algorithm by its module name: ars, asebo, cma_es,
    cr_fm_nes, discovered_es, esmc, gradientless_descent, guided_es, hill_climbing, iamalgam_full, iamalgam_univariate,
    lm_ma_es, ma_es, noise_reuse_es, open_es, persistent_es, pgpe, random_search, rm_es, sep_cma_es, simple_es,
    simulated_annealing, snes or xnes."""
    generations: int = 500
    """Generations to evolve."""
    seed: int = 0
    """Seed of everything random."""
    num_classes: int = 10
    """Number of classes C of the synthetic predictions."""
    num_pairs: int = 1024
    """Pairs of predictions per generation: more make the fitness less noisy."""
    reuse: int = 1
    """Pairs that each prediction starts: num_pairs / reuse predictions are drawn."""
    held_out_pairs: int = 8192
    """Pairs in the fixed batch on which candidates are re-scored."""
    runs: int = 1
    """Independent runs in one program, with seeds from `seed` on."""
    chunk: int = 100
    """Generations between two checkpoints."""
    severity: str = "error"
    """What makes a prediction worse: brier, error, margin or nll."""
    beta: float = 1.0
    """Sharpness of the ranking objective."""
    margin: float = 0.0
    """Margin m per unit of standardised severity."""
    wrong_way: float = 0.0
    """Weight of the penalty on gradients that lower the true class's margin."""
    exploding: float = 0.0
    """Weight of the penalty on exploding gradients."""
    roughness: float = 0.0
    """Weight of the penalty on rough losses."""
    evaluation: str = "auto"
    """How members are scored: tabulated (per_class and monotone), plain (the reference), or auto."""
    es: Annotated[StrategyConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=StrategyConfig)
    """Settings of the strategy."""
    network: NetworkConfig = dataclasses.field(default_factory=NetworkConfig)
    """Loss network."""
    mixture: MixtureConfig = dataclasses.field(default_factory=MixtureConfig)
    """Mixture of synthetic predictions."""

    def __post_init__(self) -> None:
        if self.strategy not in strategies.names():
            raise unknown("strategy", self.strategy, strategies.names())
        severity.get(self.severity)
        for name, least in (
            ("generations", 1),
            ("num_classes", 2),
            ("num_pairs", 2),
            ("reuse", 1),
            ("runs", 1),
            ("held_out_pairs", 2),
            ("chunk", 1),
            ("seed", 0),
        ):
            value = getattr(self, name)
            require(value >= least, f"{name} is {value}, expected at least {least}")
            require(value < 2**31, f"{name} is {value}, expected less than 2^31")
        require(0.0 < self.beta < math.inf, f"beta is {self.beta}, expected a positive number")
        for name in ("margin", "wrong_way", "exploding", "roughness"):
            value = getattr(self, name)
            require(0.0 <= value < math.inf, f"{name} is {value}, expected 0 or a positive number")
        require(
            self.reuse <= self.num_pairs // 2,
            f"reuse is {self.reuse}, expected at most half of num_pairs ({self.num_pairs})",
        )
        require(
            self.seed + self.runs < 2**31,
            f"seed {self.seed} leaves no room for {self.runs} runs, expected less than 2^31",
        )
        if self.network.kind not in EVOLVED_KINDS:
            raise unknown("network kind", self.network.kind, EVOLVED_KINDS)
        if self.evaluation not in EVALUATIONS:
            raise unknown("evaluation", self.evaluation, EVALUATIONS)
        require(
            self.evaluation != "tabulated" or is_separable(self.network),
            f"evaluation is tabulated, but a {self.network.kind} network is no function of one variable per class: "
            "expected auto or plain",
        )
        require(
            self.roughness == 0.0 or is_separable(self.network),
            f"roughness is {self.roughness}, expected 0: a {self.network.kind} network is no function of one variable "
            "per class whose bends could be measured",
        )

    def task(self) -> Task:
        """Return what is minimised."""
        return Task(
            network=self.network,
            mixture=self.mixture,
            severity=severity.get(self.severity),
            num_classes=self.num_classes,
            num_pairs=self.num_pairs,
            reuse=self.reuse,
            beta=self.beta,
            margin=self.margin,
            wrong_way=self.wrong_way,
            exploding=self.exploding,
            roughness=self.roughness,
            evaluation=self.evaluation,
        )

    def optimum(self) -> Optimum:
        """Return the loss that is optimal for this mixture, severity, margin and beta."""
        return solve(self.mixture, self.severity, self.num_classes, beta=self.beta, margin=self.margin)


def run(
    config: PretrainConfig,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    profile: bool = False,
) -> dict[str, Any]:
    """Evolve a loss, calibrate it, and write the run directory.

    Args:
      config: what to run.
      out: run directory (default `runs/pretrain-<time>`).
      resume: continue the run in `out` from its newest checkpoint.
      overwrite: replace the run in `out`.
      profile: print achieved rates beside the machine's measured ceilings.

    Returns:
      The content of result.json: held-out metrics of the best run, shape, timings, and `artifact`, the path of the
      loss; with several runs also all of theirs.

    Raises:
      UserError: a setting that cannot be used, runs that do not fit in memory, or a run directory that may not be
        written.
    """
    task = config.task()
    program = make_program(
        task,
        config.strategy,
        config.es,
        chunk=min(config.chunk, config.generations),
        held_out_pairs=config.held_out_pairs,
    )
    start = time.perf_counter()
    evolve = compile_chunk(program, config.runs, config.es.population_size)
    compiled_after = time.perf_counter() - start
    optimum = config.optimum()
    directory = Run.open("pretrain", config, out=out, resume=resume, overwrite=overwrite)
    try:
        start = time.perf_counter()
        search, inputs = program.init(jax.vmap(jax.random.key)(jnp.arange(config.seed, config.seed + config.runs)))
        search, rate = _evolve(directory, config, search, inputs, evolve, optimum)
        seconds = time.perf_counter() - start
        if not np.any(np.isfinite(np.asarray(search.best_fitness))):
            raise UserError(
                f"{config.strategy} found no loss with a finite fitness: lower --std (now {config.es.std}) or "
                "choose another strategy"
            )
        best, best_fitness = np.asarray(search.best), np.asarray(search.best_fitness)
        result = conclude(directory, config, task, program, optimum, best, best_fitness)
        result["generations"] = config.generations
        result["seconds_compiling"] = round(compiled_after, 2)
        result["seconds_this_session"] = round(seconds, 2)
        directory.finish(result)
        if profile:
            print("\n".join(profiling.lines(evolve, rate * config.runs)))
        return result
    finally:
        directory.close()


def compile_chunk(program: Program, runs: int, population_size: int) -> Any:
    """Return the compiled `evolve` of a program for R runs, after checking that it fits in memory.

    Raises:
      UserError: it does not fit.
    """
    keys = jax.eval_shape(lambda: jax.vmap(jax.random.key)(jnp.zeros(runs, jnp.int32)))
    search, inputs = jax.eval_shape(program.init, keys)
    compiled = program.evolve.lower(search, inputs, jax.ShapeDtypeStruct((), jnp.int32)).compile()  # type: ignore[attr-defined]
    require_fit(compiled, runs, population_size)
    return compiled


def _evolve(
    directory: Run, config: PretrainConfig, search: Search, inputs: Inputs, evolve: Any, optimum: Optimum
) -> tuple[Search, float]:
    """Run the generations that are left, a checkpoint and a block of metrics per chunk; return also generations/s."""
    chunk = min(config.chunk, config.generations)
    # F* on each run's own held-out pairs, so that F / F* is not blurred by which pairs were drawn.
    best_possible = [
        optimum.fitness_on(*grouped_pairs(severities, config.reuse)) for severities in inputs.held_out.severity
    ]
    stored = directory.restore(search)
    done = 0
    if stored is not None:
        done, search = stored
    directory.rewind("generation", done)
    rates: list[float] = []
    bar = tqdm(
        total=config.generations, initial=done, unit="gen", desc=config.strategy, disable=not sys.stderr.isatty()
    )
    with bar:
        while done < config.generations:
            start = time.perf_counter()
            count = min(chunk, config.generations - done)
            search, metrics = evolve(search, inputs, jnp.int32(count))
            columns = {name: np.asarray(values) for name, values in metrics.items()}
            rates.append(count / (time.perf_counter() - start))
            rows = _rows(columns, count, best_possible)
            rows[-1]["generations_per_second"] = round(rates[-1], 3)
            done += count
            directory.log_all(rows)
            directory.save(done, search)
            bar.update(count)
            bar.set_postfix(fitness=f"{rows[-1]['fitness_best']:.4f}", accuracy=f"{rows[-1]['ranking_accuracy']:.4f}")
    return search, float(np.median(rates)) if rates else 0.0


def _rows(columns: dict[str, np.ndarray], count: int, best_possible: list[float]) -> list[dict[str, Any]]:
    """Return a line of metrics per generation and run."""
    rows = []
    for i in range(count):
        for run, optimum in enumerate(best_possible):
            row: dict[str, Any] = {name: values[run, i].item() for name, values in columns.items()}
            row["fitness_ratio"] = row["fitness_best"] / optimum
            rows.append({**row, "run": run} if len(best_possible) > 1 else row)
    return rows
