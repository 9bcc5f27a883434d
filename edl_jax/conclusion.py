"""What stage 1 leaves behind: tested, calibrated and stored losses, their shape, and the figures."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import environment, figures, loss
from edl_jax.config import to_dict
from edl_jax.evolution import Program
from edl_jax.objective import Task
from edl_jax.runs import Run
from edl_jax.synthetic import calibrate, gradient_norm_ratio, shape_report
from edl_jax.synthetic.optimum import Optimum
from edl_jax.synthetic.optimum_loss import OF_P_T, optimum_artifact
from edl_jax.synthetic.ranking import grouped_pairs

# Keys of a run beyond those of evolution: they never coincide with a generation's.
_TEST_KEY, _CALIBRATION_KEY, _SHAPE_KEY = 101, 102, 103


def conclude(
    directory: Run,
    config: Any,
    task: Task,
    program: Program,
    optimum: Optimum,
    solutions: np.ndarray,
    held_out_fitness: np.ndarray,
) -> dict[str, Any]:
    """Test, calibrate, store and draw the losses of finished runs.

    Args:
      directory: the run directory.
      config: the resolved config, stored with each artifact.
      task: what was minimised.
      program: the program of the runs.
      optimum: the optimum of the task.
      solutions: `[R, num_dims]` the best solution of each run.
      held_out_fitness: `[R]` their fitness on the held-out batches; not finite where a run found nothing.

    Returns:
      The content of result.json: the metrics of the best run, `artifact`, and with several runs `runs`, a list of
      all metrics, and `mean` and `std` over runs.
    """
    results = []
    for i, solution in enumerate(solutions):
        if not np.isfinite(held_out_fitness[i]):
            results.append({"seed": config.seed + i, "fitness": None})
            continue
        metrics, artifact = _one(config, task, program, optimum, jnp.asarray(solution), config.seed + i)
        path = directory.path / ("loss.safetensors" if len(solutions) == 1 else f"losses/{i}.safetensors")
        path.parent.mkdir(exist_ok=True)
        loss.save(artifact, path)
        results.append({**metrics, "artifact": str(path), "seed": config.seed + i})
    best = int(np.nanargmin(np.where(np.isfinite(held_out_fitness), held_out_fitness, np.inf)))
    chosen = loss.load_artifact(results[best]["artifact"])
    assert isinstance(chosen, loss.Artifact)
    if len(solutions) > 1:
        loss.save(chosen, directory.path / "loss.safetensors")
    known = _store_optimum(directory.path, config, optimum)
    rows = [row for row in directory.metrics() if row.get("run", 0) == best]
    figures.pretrain_figures(directory.path / "figures", rows, chosen, config.mixture, known)
    result = {**results[best], "artifact": str(directory.path / "loss.safetensors")}
    return result if len(solutions) == 1 else {**result, "runs": results, **_spread(results)}


def _one(
    config: Any, task: Task, program: Program, optimum: Optimum, solution: jax.Array, seed: int
) -> tuple[dict[str, Any], loss.Artifact]:
    """Return (metrics, artifact) of one solution."""
    key = jax.random.key(seed)
    params = program.unravel(solution)
    num_classes = task.num_classes if task.network.kind == "joint" else None
    test, severity = program.assess(jax.random.fold_in(key, _TEST_KEY), solution)
    measured = {name: float(value) for name, value in test.items()}
    best_possible = optimum.fitness_on(*grouped_pairs(severity, task.reuse))
    calibration = calibrate(jax.random.fold_in(key, _CALIBRATION_KEY), task.network, params, task.mixture, num_classes)
    artifact = loss.Artifact(task.network, params, calibration, num_classes)
    shape_key = jax.random.fold_in(key, _SHAPE_KEY)
    measured["gradient_norm_ratio"] = gradient_norm_ratio(shape_key, artifact, task.mixture, task.num_classes)
    metrics = {
        **measured,
        "fitness_optimum": best_possible,
        "fitness_ratio": measured["fitness"] / best_possible,
        "r_squared": shape_report(shape_key, artifact, task.mixture, task.severity, task.num_classes, optimum),
        "tail_slope": calibration.tail_slope * float(calibration.at(jnp.float32(task.num_classes))[0]),
        "num_parameters": program.num_dims,
    }
    metadata = {"config": to_dict(config), "seed": seed, "metrics": metrics, "versions": environment.versions()}
    return metrics, dataclasses.replace(artifact, metadata=metadata)


def _store_optimum(folder: Path, config: Any, optimum: Optimum) -> loss.Artifact | None:
    """Write the optimal loss beside the evolved one, where it is a function of p_t, and return it."""
    if optimum.severity not in OF_P_T:
        return None
    key = jax.random.fold_in(jax.random.key(config.seed), _CALIBRATION_KEY)
    artifact = optimum_artifact(key, optimum, config.mixture)
    metadata = {"config": to_dict(config), "metrics": {"fitness": optimum.fitness}, "versions": environment.versions()}
    artifact = dataclasses.replace(artifact, metadata=metadata)
    loss.save(artifact, folder / "optimum.safetensors")
    return artifact


def _spread(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean and sample standard deviation over the runs that found a loss."""
    done = [result for result in results if result["fitness"] is not None]
    names = [name for name, value in done[0].items() if isinstance(value, float)]
    table = {name: np.array([result[name] for result in done], float) for name in names}
    return {
        "mean": {name: float(np.mean(values)) for name, values in table.items()},
        "std": {name: float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for name, values in table.items()},
    }
