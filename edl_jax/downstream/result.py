"""What a finished run of stage 2 leaves behind: result.json, report.json and figures."""

import logging
import resource
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import numpy as np

from edl_jax import data, training
from edl_jax.core import status
from edl_jax.core.config import parse_parameters
from edl_jax.core.errors import UserError, command, reason
from edl_jax.core.files import read_json, write_json
from edl_jax.core.runs import read_metrics
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.scaling import BINS, bins_of, scaled_numbers
from edl_jax.downstream.task import Task
from edl_jax.downstream.trainer import Trainer
from edl_jax.plot import classifier

_TRAIN_EVAL_SIZE = 10_000  # training images of the final evaluation
# What a person is told of a result.
SHOWN = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "train accuracy",
    "test_nll": "NLL",
    "test_ece": "ECE",
}
_LOGGER = logging.getLogger("edl_jax")


def finished_result(path: Path) -> dict[str, Any] | None:
    """Return the result of a run directory, or None where the run has not finished or what it left is damaged.

    A damaged one costs a warning: the checkpoint, from which it is made again, is worth more than the file.
    """
    file = path / "result.json"
    if not file.exists():
        return None
    try:
        result = read_json(file)
        for name in ("loss", "arch", "dataset"):
            if not isinstance(result[name], str):
                raise ValueError(f"{name} is {result[name]!r}, expected text")
        for name in SHOWN:
            if not isinstance(result[name], (int, float, NoneType)):
                raise ValueError(f"{name} is {result[name]!r}, expected a number")
        parse_parameters(result.get("loss_parameters", ()))
    except KeyError as error:
        why = f"it has no {error.args[0]}"
    except (OSError, ValueError, UserError, AttributeError, TypeError) as error:
        why = reason(error)
    else:
        return result
    _LOGGER.warning("%s is damaged (%s): making it again from the checkpoint", file, why)
    return None


def number(value: float | None) -> str:
    """Return a number of a result as a person is told it; those that are not finite are stored as null."""
    return "-" if value is None else f"{value:.4f}"


def conclude(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    config: DownstreamConfig,
    task: Task,
    trainer: Trainer,
    state: training.TrainState,
    *,
    temperature: bool = False,
) -> dict[str, Any]:
    """Return the result of a finished training; write report.json into its directory.

    Args:
      path: run directory.
      rows: lines of metrics.jsonl.
      config: what was run.
      task: likewise.
      trainer: its compiled functions.
      state: after the last step.
      temperature: whether to report temperature scaling as well, see `scaling.scaled_numbers`.
    """
    status.say("evaluating")
    last = rows[-1]
    train = _train_metrics(config, task, trainer, state.averaged)
    report = trainer.report()(state.averaged.variables, trainer.test_batches)
    metrics = report.metrics()
    told = {"dataset": config.dataset, "epoch": last["epoch"], **metrics, "bins": bins_of(report)}
    result = {
        "loss": config.loss,
        "loss_parameters": list(config.loss_parameters),
        "arch": config.arch,
        "dataset": config.dataset,
        **train,
        "generalization_gap": train["train_accuracy"] - last["test_accuracy"],
        **{name: last.get(name) for name in ("test_accuracy", "test_nll", "test_ece")},
        **{f"test_{name}": metrics[name] for name in ("top5_accuracy", "brier", "ece_equal_mass") if name in metrics},
        **{name: last[name] for name in ("val_accuracy", "val_nll") if name in last},
        **best_epoch(rows),
        **time_to_target(rows, config.target_accuracy),
    }
    if temperature:
        val_batches = trainer.batches(task.val_images, task.val_labels)
        numbers, told["scaled_bins"] = scaled_numbers(
            config, report, lambda: trainer.report()(state.averaged.variables, val_batches)
        )
        result |= numbers
    write_json(path / "report.json", told)
    if config.ema:
        test = jax.device_get(trainer.evaluate(state, trainer.test_batches)).means()
        result["test_accuracy_last_weights"] = test["accuracy"]
    return {
        **result,
        "epochs": config.epochs,
        "train_size": len(task.images),
        "val_size": len(task.val_images),
        "wrong_labels": float(np.mean(task.labels != task.true_labels)),
        "num_params": training.count_params(state.params),
        "precision": task.precision,
        "loop": task.loop,
        "images_per_second": statistics.median(row["images_per_second"] for row in rows),
        "peak_memory_mib": peak_memory_mib(),
        "compile_seconds": round(trainer.compile_seconds, 2),
    }


def draw(path: Path, config: DownstreamConfig, names: Sequence[str], figure_format: str) -> None:
    """Draw the figures of a finished run, from its report.json and metrics.jsonl, where one is not there yet.

    What goes wrong costs a line in the log "edl_jax".

    Args:
      path: run directory.
      config: what was run.
      names: [C] names of the classes.
      figure_format: png, pdf or svg.
    """
    folder = path / "figures"
    if all((folder / f"{name}.{figure_format}").is_file() for name in classifier.FIGURES):
        return
    status.say("drawing")
    try:
        report = read_json(path / "report.json")
        count, correct, confidence = (np.array(report["bins"][name]) for name in BINS)
        confusion = np.array(report["confusion"])
    except (OSError, ValueError, LookupError, TypeError) as error:  # damaged, or of an earlier release
        _LOGGER.warning(
            "not drawn in %s: its report.json has not what they show (%s); %s draws them anew",
            folder,
            reason(error, kind=True),
            command(f"evaluate {path}"),
        )
        return
    name = config.loss_title
    classifier.draw(
        folder,
        read_metrics(path),
        bins=(count, correct, confidence),
        confusion=confusion,
        loss=name,
        names=names,
        title=f"{name} on {data.file_stem(config.dataset)}",
        figure_format=figure_format,
    )


def best_epoch(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the epoch with the best accuracy on the validation part, or on the test set where there is none.

    With a validation part nothing is chosen on the test set, whose accuracy of that epoch is reported as it is.
    """
    if "val_accuracy" in rows[0]:
        best = max(rows, key=lambda row: row["val_accuracy"])
        return {
            "best_epoch": best["epoch"],
            "best_val_accuracy": best["val_accuracy"],
            "test_accuracy_at_best_val": best["test_accuracy"],
        }
    best = max(rows, key=lambda row: row["test_accuracy"])
    return {"best_epoch": best["epoch"], "best_test_accuracy": best["test_accuracy"]}


def time_to_target(rows: Sequence[Mapping[str, Any]], target: float | None) -> dict[str, Any]:
    """Return the first epoch whose accuracy reaches `target`, and the seconds of training, without evaluation, to it.

    The accuracy is that of the validation part, or of the test set where there is none. Both are None where it is never
    reached; without a target nothing is returned.
    """
    if target is None:
        return {}
    name = "val_accuracy" if "val_accuracy" in rows[0] else "test_accuracy"
    seconds = 0.0
    for row in rows:
        seconds += row["train_seconds"]
        if row[name] >= target:
            return {"epochs_to_target": row["epoch"], "seconds_to_target": round(seconds, 3)}
    return {"epochs_to_target": None, "seconds_to_target": None}


def peak_memory_mib() -> float:
    """Return the most memory that this process has used: of the device, or of the host where that is the device."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return round(stats["peak_bytes_in_use"] / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _train_metrics(
    config: DownstreamConfig, task: Task, trainer: Trainer, state: training.TrainState
) -> dict[str, float]:
    """Return accuracy and NLL on training images without augmentation, with labels as given and with the true ones."""
    size = min(_TRAIN_EVAL_SIZE, len(task.images))

    def means(labels: np.ndarray) -> dict[str, float]:
        batches = trainer.batches(task.images.select(slice(size)), labels[:size])
        return jax.device_get(trainer.evaluate(state, batches)).means()

    train = means(task.labels)
    clean = means(task.true_labels) if config.label_noise > 0.0 else train
    return {
        "train_accuracy": train["accuracy"],
        "train_nll": train["nll"],
        "train_accuracy_true_labels": clean["accuracy"],
    }
