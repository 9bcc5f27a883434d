"""Directories for reports, made without training: a grid of `compare`, runs of `downstream`, and an ablation."""

import dataclasses
import json

import numpy as np

from edl_jax.core.config import to_dict
from edl_jax.core.files import plain, write_csv
from edl_jax.downstream import DownstreamConfig
from edl_jax.study.compare import CompareConfig, TrainingConfig, gather
from edl_jax.study.compare.cells import drop_in_cells
from edl_jax.study.compare.ledger import Ledger
from edl_jax.study.compare.report import content

TRAINING = {"arch": "mlp", "dataset": "digits", "epochs": 3, "batch_size": 64, "warmup_epochs": 1.0, "val_size": 100}
VERSIONS = {"python": "3.11", "edl-jax": "0.1.0", "jax": "0.10.2"}
HOSTILE = "<script>alert('x')</script>"


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plain(value)), encoding="utf-8")


def environment(revision="a" * 40, command="compare"):
    return {
        "versions": VERSIONS,
        "device": {"platform": "cpu", "kind": "cpu", "count": 1},
        "git_revision": revision,
        "command": ["run.py", command, "--out", "it"],
        "started": "2026-01-01T00:00:00+0000",
        "wall_seconds": 3.5,
    }


def bins(ece):
    count = np.array([0, 10, 30, 60])
    correct = np.array([0, 5, 20, 55])
    return {"count": count, "correct": correct, "confidence": correct + ece * count}


def make_run(path, config, accuracy, revision="a" * 40, **changes):
    """Write what a run of `downstream` leaves."""
    record = {"command": "downstream", "config": to_dict(config)}
    write(path / "config.json", record)
    write(path / "environment.json", environment(revision, "downstream"))
    rows = [
        {
            "epoch": e,
            "train_loss": 1 / e,
            "train_accuracy": 0.3 * e,
            "test_accuracy": accuracy * e / 3,
            "test_nll": 1 / e,
        }
        for e in (1, 2, 3)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    confusion = np.eye(10, dtype=int) * 9 + 1
    stored = {"bins": bins(0.1), "scaled_bins": bins(0.02), "confusion": confusion, "per_class_accuracy": [0.9] * 10}
    write(path / "report.json", stored)
    result = {
        **{"loss": config.loss, "loss_parameters": list(config.loss_parameters), "arch": "mlp", "dataset": "digits"},
        **{"train_accuracy": accuracy + 0.04, "train_accuracy_true_labels": accuracy + 0.04, "train_nll": 0.2},
        **{"test_accuracy": accuracy, "test_nll": 1.0 - accuracy, "test_ece": 0.1, "test_brier": 0.2},
        **{"temperature": 1.25, "temperature_from": "validation", "scaled_nll": 0.9 - accuracy, "scaled_ece": 0.02},
        **{"val_accuracy": accuracy, "val_nll": 0.3, "best_epoch": 3, "test_accuracy_at_best_val": accuracy},
        **{"epochs": 3, "train_size": 512, "val_size": 100, "wrong_labels": 0.0, "wall_seconds": 0.5},
        **changes,
    }
    write(path / "result.json", result)


def make_grid(path, *, losses=("cross_entropy", "edl", "poly1:epsilon=2"), seeds=4, left=0, error=None):
    """Write what `compare` leaves: edl 2 points better than cross_entropy, the last loss as good as that.

    Args:
      path: directory.
      losses: of the grid, the baseline first.
      seeds: number of seeds.
      left: cells, from the last, that have not been run.
      error: what the last cell that has not been run has said.
    """
    config = CompareConfig(losses=losses, seeds=tuple(range(seeds)), training=TrainingConfig(**TRAINING))
    write(path / "config.json", {"command": "compare", "config": to_dict(config)})
    write(path / "environment.json", environment())
    cells = list(drop_in_cells(config))
    noise = np.random.default_rng(0).normal(size=seeds) * 0.003
    for i, cell in enumerate(cells[: len(cells) - left]):
        gain = 0.02 if cell.loss == losses[1] else 0.0002 * (i % 2)
        revision = ("b" if cell.loss == losses[-1] and cell.config.seed == 0 else "a") * 40
        make_run(path / "cells" / cell.name, cell.config, 0.9 + gain + noise[cell.config.seed], revision)
    if error:
        write(path / "failures" / f"{cells[-1].name}.json", {"kind": "error", "message": error})
    result, rows = content(config, Ledger(path))
    write(path / "result.json", result)
    for name, columns, lines in (
        ("cells.csv", list(gather.CELL_COLUMNS), result["cells"]),
        ("comparison.csv", [f.name for f in dataclasses.fields(rows[0])], result["comparison"]),
    ):
        write_csv(path / name, columns, [[plain(line)[column] for column in columns] for line in lines])
    return config


def make_ablation(path, difference, p):
    """Write what `ablate` leaves of the factor noise, as far as claims need it."""
    against = {"difference": difference, "low": difference - 0.01, "high": difference + 0.01, "p_holm": p}
    against["cliffs_delta"] = 1.0 if difference > 0 else -1.0
    levels = {"logistic": {}, "gaussian": {"test_excess_against_logistic": against}}
    write(path / "config.json", {"command": "ablate", "config": {"runs": 10}})
    write(path / "result.json", {"factors": {"noise": levels}})


DEFAULT = DownstreamConfig(**TRAINING, loss="edl")
