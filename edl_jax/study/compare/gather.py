"""The cells of a grid as records, and as the groups that are compared."""

from collections.abc import Mapping
from typing import Any

from edl_jax.study.compare.cells import DROP_IN, TUNED, Cell, Setting, evaluation_cells, settings
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.ledger import DIVERGED, Ledger
from edl_jax.study.compare.plan import make_plan
from edl_jax.study.compare.statistics import Group
from edl_jax.study.compare.tune import choose_rate

TUNING = "tuning"
CELL_COLUMNS: Mapping[str, str] = {
    "name": "folder of the run in cells/",
    "role": "drop-in, tuned, drop-in+tuned (the rate that was chosen is the grid's own) or tuning",
    "state": "done, diverged, error, or open where it has not been run",
    "arch": "model",
    "dataset": "data set",
    "label_noise": "share of wrong training labels that was asked for",
    "loss": "as in --losses",
    "lr": "learning rate",
    "lr_factor": "that rate over the grid's",
    "seed": "of the run",
    "epochs": "that it trained",
    "train_size": "training images",
    "val_size": "validation images",
    "wrong_labels": "share of wrong training labels that was drawn",
    "train_accuracy": "on training images as labelled",
    "train_accuracy_true_labels": "on training images with their true labels",
    "test_accuracy": "after the last epoch",
    "test_nll": "after the last epoch",
    "test_ece": "after the last epoch",
    "test_brier": "after the last epoch",
    "temperature": "that was fitted",
    "temperature_from": "what it was fitted on: validation, or halves of the test images for each other",
    "scaled_nll": "at the temperature",
    "scaled_ece": "at the temperature",
    "val_accuracy": "after the last epoch, by labels as wrong as those of training",
    "val_nll": "likewise",
    "best_epoch": "epoch with the best validation accuracy, of the test set where there is no validation part",
    "test_accuracy_at_best_val": "test accuracy after that epoch",
    "wall_seconds": "of the run, resumptions included",
    "revision": "git revision of the code",
    "version": "of edl_jax",
    "jax": "version of JAX",
    "device": "that computed",
    "error": "what a cell that has failed said",
}
"""Columns of cells.csv, and keys of `cells` in result.json."""
_OF_RESULT = (
    *("epochs", "train_size", "val_size", "wrong_labels", "train_accuracy", "train_accuracy_true_labels"),
    *("test_accuracy", "test_nll", "test_ece", "test_brier", "temperature", "temperature_from", "scaled_nll"),
    *("scaled_ece", "val_accuracy", "val_nll", "best_epoch", "test_accuracy_at_best_val", "wall_seconds"),
)


def records(config: CompareConfig, ledger: Ledger) -> list[dict[str, Any]]:
    """Return a record for each cell of a grid, with the keys of `CELL_COLUMNS`."""
    tuned = {cell.name for _, _, cells in _tuned(config, ledger) for cell in cells}
    return [_record(cell, ledger, cell.name in tuned) for cell in make_plan(config, ledger).cells]


def groups(config: CompareConfig, ledger: Ledger) -> list[Group]:
    """Return the runs of each loss in each setting and mode, in the order of the grid."""
    found = [
        _group(DROP_IN, setting, text, evaluation_cells(config, setting, text, 1.0), ledger)
        for setting in settings(config)
        for text in config.losses
    ]
    found += [_group(TUNED, setting, text, cells, ledger) for setting, text, cells in _tuned(config, ledger)]
    return found


def tuning(config: CompareConfig, ledger: Ledger) -> list[dict[str, Any]]:
    """Return what tuning says of each loss in each setting."""
    rows = []
    for setting in settings(config) if config.tune_lr else ():
        for text in config.losses:
            choice = choose_rate(config, ledger, setting, text)
            base = config.training.numbers.lr
            rows.append(
                {
                    **setting._asdict(),
                    "loss": text,
                    "lr": None if choice.factor is None else base * choice.factor,
                    "lr_factor": choice.factor,
                    "edge": choice.is_edge,
                    "settled": choice.settled,
                    "rates": [
                        {"lr_factor": factor, "lr": base * factor, "val_accuracy": score}
                        for factor, score in sorted(choice.scores.items())
                    ],
                }
            )
    return rows


def _tuned(config: CompareConfig, ledger: Ledger) -> list[tuple[Setting, str, list[Cell]]]:
    """Return the cells at chosen rates, by setting and loss; none where no rate was found."""
    found = []
    for setting in settings(config) if config.tune_lr else ():
        for text in config.losses:
            factor = choose_rate(config, ledger, setting, text).factor
            cells = [] if factor is None else evaluation_cells(config, setting, text, factor)
            found.append((setting, text, cells))
    return found


def _group(mode: str, setting: Setting, text: str, cells: list[Cell], ledger: Ledger) -> Group:
    results, revisions = {}, set()
    diverged = missing = 0
    for cell in cells:
        result, failure = ledger.result(cell), ledger.failure(cell)
        if result is not None:
            results[cell.config.seed] = result
            revisions.add(str(ledger.environment(cell).get("git_revision")))
        elif failure is not None and failure.get("kind") == DIVERGED:
            diverged += 1
        else:
            missing += 1
    lr = cells[0].config.numbers.lr if cells else None
    return Group(mode, *setting, text, results, diverged, missing, lr, tuple(sorted(revisions)))


def _record(cell: Cell, ledger: Ledger, tuned: bool) -> dict[str, Any]:
    result, failure = ledger.result(cell) or {}, ledger.failure(cell) or {}
    roles = [TUNING] if cell.tuning else [DROP_IN] * (cell.factor == 1.0) + [TUNED] * tuned
    environment = ledger.environment(cell) if result else {}
    versions, device = environment.get("versions") or {}, environment.get("device") or {}
    found = {
        "name": cell.name,
        "role": "+".join(roles),
        "state": "done" if result else failure.get("kind", "open"),
        **cell.setting._asdict(),
        "loss": cell.loss,
        "lr": cell.config.numbers.lr,
        "lr_factor": cell.factor,
        "seed": cell.config.seed,
        **{name: result.get(name) for name in _OF_RESULT},
        "revision": environment.get("git_revision"),
        "version": versions.get("edl-jax"),
        "jax": versions.get("jax"),
        "device": device.get("kind"),
        "error": failure.get("message"),
    }
    return {name: found[name] for name in CELL_COLUMNS}
