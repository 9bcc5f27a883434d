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

from edl_jax import environment, figures, loss, strategies
from edl_jax.config import to_dict
from edl_jax.errors import UserError, require, unknown
from edl_jax.evolution import Program, Search, Task, make_program
from edl_jax.loss import NetworkConfig
from edl_jax.runs import Run
from edl_jax.strategies import StrategyConfig
from edl_jax.synthetic import MixtureConfig, calibrate, gradient_norm_ratio, severity, shape_report

# Keys of a run beyond those of evolution: they never coincide with a generation's.
_TEST_KEY, _CALIBRATION_KEY, _SHAPE_KEY = 101, 102, 103


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """Evolve a loss on synthetic pairs."""

    strategy: str = "chaotic_es"
    """Evolution strategy: chaotic_es, gaussian_es, open_es, sep_cma_es, simple_es or snes."""
    generations: int = 500
    """Generations to evolve."""
    seed: int = 0
    """Seed of everything random."""
    num_classes: int = 10
    """Number of classes C of the synthetic predictions."""
    num_pairs: int = 1024
    """Pairs of predictions per generation."""
    held_out_pairs: int = 8192
    """Pairs in the fixed batch on which candidates are re-scored."""
    chunk: int = 25
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


def run(
    config: PretrainConfig,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Evolve a loss, calibrate it, and write the run directory.

    Args:
      config: what to run.
      out: run directory (default `runs/pretrain-<time>`).
      resume: continue the run in `out` from its newest checkpoint.
      overwrite: replace the run in `out`.

    Returns:
      The content of result.json: held-out metrics, shape, timings, and `artifact`, the path of the loss.

    Raises:
      UserError: a setting that cannot be used, or a run directory that may not be written.
    """
    task = _task(config)
    program = make_program(
        task,
        config.strategy,
        config.es,
        seed=config.seed,
        generations=config.generations,
        chunk=config.chunk,
        held_out_pairs=config.held_out_pairs,
    )
    directory = Run.open("pretrain", config, out=out, resume=resume, overwrite=overwrite)
    try:
        start = time.perf_counter()
        search = _evolve(directory, config, program)
        seconds = time.perf_counter() - start
        result = _conclude(directory, config, task, program, search)
        result["seconds_this_session"] = round(seconds, 2)
        directory.finish(result)
        return result
    finally:
        directory.close()


def _task(config: PretrainConfig) -> Task:
    return Task(
        network=config.network,
        mixture=config.mixture,
        severity=severity.get(config.severity),
        num_classes=config.num_classes,
        num_pairs=config.num_pairs,
        beta=config.beta,
        margin=config.margin,
        wrong_way=config.wrong_way,
        exploding=config.exploding,
        roughness=config.roughness,
    )


def _evolve(directory: Run, config: PretrainConfig, program: Program) -> Search:
    """Run the generations that are left, a checkpoint and a block of metrics per chunk."""
    search = program.init()
    stored = directory.restore(search)
    done = 0
    if stored is not None:
        done, search = stored
    directory.rewind("generation", done)
    bar = tqdm(
        total=config.generations, initial=done, unit="gen", desc=config.strategy, disable=not sys.stderr.isatty()
    )
    with bar:
        while done < config.generations:
            start = time.perf_counter()
            search, metrics = program.evolve(search)
            columns = {name: np.asarray(values) for name, values in metrics.items()}
            count = min(config.chunk, config.generations - done)
            rate = count / (time.perf_counter() - start)
            rows: list[dict[str, Any]] = [
                {name: values[i].item() for name, values in columns.items()} for i in range(count)
            ]
            rows[-1]["generations_per_second"] = round(rate, 3)
            done += count
            directory.log_all(rows)
            directory.save(done, search)
            bar.update(count)
            bar.set_postfix(fitness=f"{rows[-1]['fitness_best']:.4f}", accuracy=f"{rows[-1]['ranking_accuracy']:.4f}")
    return search


def _conclude(directory: Run, config: PretrainConfig, task: Task, program: Program, search: Search) -> dict[str, Any]:
    """Test, calibrate, store and draw the best loss of a finished search."""
    if not np.all(np.isfinite(np.asarray(search.best))) or not np.isfinite(float(search.best_fitness)):
        raise UserError(
            f"{config.strategy} found no loss with a finite fitness: lower --std (now {config.es.std}) or choose "
            "another strategy"
        )
    key = jax.random.key(config.seed)
    params = program.unravel(search.best)
    test = program.assess(jax.random.fold_in(key, _TEST_KEY), search.best)
    held_out = {name: float(value) for name, value in test.items()}
    calibration = calibrate(jax.random.fold_in(key, _CALIBRATION_KEY), config.network, params, config.mixture)
    artifact = loss.Artifact(config.network, params, calibration)
    shape_key = jax.random.fold_in(key, _SHAPE_KEY)
    held_out["gradient_norm_ratio"] = gradient_norm_ratio(shape_key, artifact, config.mixture, config.num_classes)
    metrics = {
        **held_out,
        "r_squared": shape_report(shape_key, artifact, config.mixture, task.severity, config.num_classes),
        "tail_slope": calibration.tail_slope * float(calibration.at(jnp.float32(config.num_classes))[0]),
        "num_parameters": program.num_dims,
    }
    metadata = {"config": to_dict(config), "metrics": metrics, "versions": environment.versions()}
    artifact = dataclasses.replace(artifact, metadata=metadata)
    path = directory.path / "loss.safetensors"
    loss.save(artifact, path)
    figures.pretrain_figures(directory.path / "figures", directory.metrics(), artifact, config.mixture)
    return {**metrics, "generations": config.generations, "artifact": str(path)}
