"""What stage 1 leaves behind: tested, calibrated and stored losses, their shape, and the pretraining."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import loss
from edl_jax.core import environment, status
from edl_jax.core.config import to_dict
from edl_jax.core.runs import Run, read_metrics
from edl_jax.loss.networks.kinds import is_function_of_p_t
from edl_jax.plot import pretraining, style
from edl_jax.pretrain.config import ObjectiveConfig, PretrainConfig
from edl_jax.pretrain.generations import Evolution
from edl_jax.synthetic import calibrate, draw_samples, gradient_norm_ratio, pull_report, severity, shape_report
from edl_jax.synthetic.optimum import Optimum, solve
from edl_jax.synthetic.optimum_loss import OF_P_T, optimum_artifact
from edl_jax.synthetic.ranking import grouped_pairs

# Keys of a run beyond those of evolution: they never coincide with a generation's.
_TEST_KEY, _CALIBRATION_KEY, _SHAPE_KEY = 101, 102, 103


def conclude(
    directory: Run,
    config: PretrainConfig,
    evolution: Evolution,
    optimum: Optimum,
    solutions: np.ndarray,
    held_out_fitness: np.ndarray,
) -> dict[str, Any]:
    """Test, calibrate and store the losses of finished runs.

    Args:
      directory: the run directory.
      config: the resolved config, stored with each artifact.
      evolution: the compiled parts of the runs.
      optimum: the optimum of the objective.
      solutions: `[R, num_dims]` the best solution of each run.
      held_out_fitness: `[R]` their fitness on the held-out batches; not finite where a run found nothing.

    Returns:
      The content of result.json: the metrics of the best run, `artifact`, and with several runs `runs`, a list of
      all metrics, and `mean` and `std` over runs.
    """
    status.say("testing and calibrating")
    results: list[dict[str, Any]] = []
    for i, solution in enumerate(solutions):
        if not np.isfinite(held_out_fitness[i]):
            results.append({"seed": config.seed + i, "fitness": None})
            continue
        metrics, artifact = _one(config, evolution, optimum, jnp.asarray(solution), config.seed + i)
        path = directory.path / ("loss.safetensors" if len(solutions) == 1 else f"losses/{i}.safetensors")
        path.parent.mkdir(exist_ok=True)
        loss.save(artifact, path)
        results.append({**metrics, "artifact": str(path), "seed": config.seed + i})
    best = int(np.nanargmin(np.where(np.isfinite(held_out_fitness), held_out_fitness, np.inf)))
    if len(solutions) > 1:
        loss.save(loss.load_artifact(results[best]["artifact"]), directory.path / "loss.safetensors")
    _store_optimum(directory.path, config, optimum)
    result = {**results[best], "artifact": str(directory.path / "loss.safetensors")}
    return result if len(solutions) == 1 else {**result, "runs": results, **_spread(results)}


def draw(path: Path, config: PretrainConfig, result: Mapping[str, Any], figure_format: str = "png") -> None:
    """Draw the figures of a run directory that holds its result.

    Args:
      path: run directory.
      config: the resolved config.
      result: the content of result.json.
      figure_format: png, pdf or svg.
    """
    status.say("drawing")
    best = result["seed"] - config.seed
    rows = [row for row in read_metrics(path) if row.get("run", 0) == best]
    chosen = loss.load_artifact(path / "loss.safetensors")
    known = loss.load_artifact(path / "optimum.safetensors") if config.severity in OF_P_T else None
    assert isinstance(chosen, loss.Artifact)  # of what evolution stores there is no other kind
    assert known is None or isinstance(known, loss.Artifact)
    pretraining.draw(path / "figures", rows, chosen, config.mixture, known, figure_format)


def prepare(config: PretrainConfig) -> None:
    """Do ahead what `conclude` needs of no evolved loss: draw the predictions of calibration, import Matplotlib."""
    key = jax.random.fold_in(jax.random.key(config.seed), _CALIBRATION_KEY)
    draw_samples(key, config.network, config.mixture, _only_classes(config))
    with contextlib.suppress(Exception):  # it is said where the figures are drawn
        style.import_matplotlib()


def solve_optimum(config: ObjectiveConfig) -> Optimum:
    """Return the loss that is optimal for the mixture, severity, margin and beta of an objective."""
    return solve(config.mixture, config.severity, config.num_classes, beta=config.beta, margin=config.margin)


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`: one line a measure."""
    several = "runs" in result
    lines = []
    for name, title in (("ranking_accuracy", "held-out ranking accuracy"), ("fitness_ratio", "fitness over optimum's")):
        spread = (
            f"   {len(result['runs'])} runs: {result['mean'][name]:.4f} ± {result['std'][name]:.4f}" if several else ""
        )
        lines.append(f"{title:<27}{result[name]:.4f}{spread}")
    if result.get("pull") is not None:
        name = "pull off the optimum's by"
        lines.append(f"{name:<27}{result['pull']['largest_deviation']:.4f}")
    shown: dict[float, str] = {}
    for name, value in result["r_squared"].items():
        shown.setdefault(value, name)  # severity may be one of the known losses
    return lines + [f"{f'R^2 with {name}':<27}{value:.4f}" for value, name in shown.items()]


def _one(
    config: PretrainConfig, evolution: Evolution, optimum: Optimum, solution: jax.Array, seed: int
) -> tuple[dict[str, Any], loss.Artifact]:
    """Return (metrics, artifact) of one solution."""
    key = jax.random.key(seed)
    params = evolution.unravel(solution)
    num_classes = _only_classes(config)
    test, severities = evolution.assess(jax.random.fold_in(key, _TEST_KEY), solution)
    measured = {name: float(value) for name, value in test.items()}
    best_possible = optimum.fitness_on(*grouped_pairs(np.asarray(severities), config.reuse))
    calibration = calibrate(
        jax.random.fold_in(key, _CALIBRATION_KEY), config.network, params, config.mixture, num_classes
    )
    artifact = loss.Artifact(config.network, params, calibration, num_classes)
    shape_key = jax.random.fold_in(key, _SHAPE_KEY)
    measured["gradient_norm_ratio"] = gradient_norm_ratio(shape_key, artifact, config.mixture, config.num_classes)
    metrics = {
        **measured,
        "fitness_optimum": best_possible,
        "fitness_ratio": measured["fitness"] / best_possible,
        "r_squared": shape_report(
            shape_key, artifact, config.mixture, severity.get(config.severity), config.num_classes, optimum
        ),
        "pull": pull_report(artifact, optimum) if optimum.curve and is_function_of_p_t(config.network) else None,
        "tail_slope": calibration.tail_slope * float(calibration.at(np.float32(config.num_classes))[0]),
        "num_parameters": evolution.num_dims,
    }
    metadata = {"config": to_dict(config), "seed": seed, "metrics": metrics, "versions": environment.versions()}
    return metrics, dataclasses.replace(artifact, metadata=metadata)


def _only_classes(config: PretrainConfig) -> int | None:
    """Return the only C that a network can be used for, or None for any."""
    return config.num_classes if config.network.kind == "joint" else None


def _store_optimum(folder: Path, config: PretrainConfig, optimum: Optimum) -> None:
    """Write the optimal loss beside the evolved one, where it is a function of p_t."""
    if optimum.severity not in OF_P_T:
        return
    key = jax.random.fold_in(jax.random.key(config.seed), _CALIBRATION_KEY)
    artifact = optimum_artifact(key, optimum, config.mixture)
    metadata = {"config": to_dict(config), "metrics": {"fitness": optimum.fitness}, "versions": environment.versions()}
    artifact = dataclasses.replace(artifact, metadata=metadata)
    loss.save(artifact, folder / "optimum.safetensors")


def _spread(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return mean and sample standard deviation over the runs that found a loss."""
    done = [result for result in results if result["fitness"] is not None]
    names = [name for name, value in done[0].items() if isinstance(value, float)]
    table = {name: np.array([result[name] for result in done], float) for name in names}
    return {
        "mean": {name: float(np.mean(values)) for name, values in table.items()},
        "std": {name: float(np.std(values, ddof=1)) if len(values) > 1 else 0.0 for name, values in table.items()},
    }
