"""Runs of `downstream` for a report: one, or several seeds in one directory."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.core.files import read_json
from edl_jax.core.runs import read_metrics
from edl_jax.plot import classifier, learning
from edl_jax.plot.learning import Bins
from edl_jax.study.loss_spec import parse_loss
from edl_jax.study.report.drawing import drawn
from edl_jax.study.report.grid_figures import bins_of
from edl_jax.study.report.page import Block, Cell, Column, Section, Table, Text, cell, facts
from edl_jax.study.report.sources import Source

# (key of result.json, heading, factor, format)
_NUMBERS = (
    ("test_accuracy", "test accuracy (%)", 100.0, ".2f"),
    ("train_accuracy", "train accuracy (%)", 100.0, ".2f"),
    ("test_nll", "NLL", 1.0, ".4f"),
    ("test_ece", "ECE (points)", 100.0, ".2f"),
    ("test_brier", "Brier", 1.0, ".4f"),
    ("temperature", "temperature", 1.0, ".3f"),
    ("scaled_nll", "NLL at its temperature", 1.0, ".4f"),
    ("scaled_ece", "ECE at its temperature (points)", 100.0, ".2f"),
    ("val_accuracy", "validation accuracy (%)", 100.0, ".2f"),
    ("best_epoch", "best epoch", 1.0, ""),
    ("epochs", "epochs", 1.0, ""),
    ("train_size", "training images", 1.0, ","),
    ("num_params", "parameters", 1.0, ","),
    ("images_per_second", "images a second", 1.0, ",.0f"),
    ("wall_seconds", "wall seconds", 1.0, ".1f"),
)


def spec_text(config: Mapping[str, Any]) -> str:
    """Return the loss of a run's settings as one types it: `poly1:epsilon=2`."""
    return ":".join((str(config.get("loss")), *map(str, config.get("loss_parameters") or ())))


def one(source: Source) -> list[Section]:
    """Return the sections of one run."""
    blocks: list[Block] = []
    if source.result is not None:
        blocks.append(numbers([("", _with_evaluation(source.path, source.result))], "what"))
    return [Section("Numbers", blocks)] * bool(blocks) + _figures(source)


def several(source: Source) -> list[Section]:
    """Return the sections of several seeds in one directory."""
    result = source.result
    if result is None:
        return []
    runs = [(f"seed {run.get('seed')}", run) for run in result.get("runs", ())]
    lines = [*runs]
    for name in ("mean", "std"):
        if isinstance(result.get(name), Mapping):
            lines.append(("standard deviation" if name == "std" else name, result[name]))
    blocks: list[Block] = [numbers(lines, "run")] if lines else []
    blocks += [Text(f"seed {seed} diverged: {why}", "warning") for seed, why in (result.get("diverged") or {}).items()]
    return [Section("Numbers", blocks)]


def numbers(lines: Sequence[tuple[str, Mapping[str, Any]]], first: str) -> Table:
    """Return a table of results: of a single one a number a line, else a result a line.

    Args:
      lines: (name, result).
      first: heading of the names.
    """
    known = [each for each in _NUMBERS if any(_is_number(result.get(each[0])) for _, result in lines)]
    if len(lines) == 1:
        found = {title: _shown(lines[0][1].get(key), unit, form).text for key, title, unit, form in known}
        return facts("Result", found)
    columns = [Column(first), *(Column(title, True) for _, title, _, _ in known)]
    rows = [
        [Cell(name), *(_shown(result.get(key), unit, form) for key, _, unit, form in known)] for name, result in lines
    ]
    return Table("Results", columns, rows)


def evaluation_of(path: Path) -> Mapping[str, Any]:
    """Return the evaluation of a run on its own data set that has a temperature; empty where there is none."""
    for file in sorted((path / "evaluation").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            found, dataset = read_json(file), read_json(path / "config.json")["config"]["dataset"]
            if found["dataset"] == dataset and found.get("scaled"):
                return found
    return {}


def _with_evaluation(path: Path, result: Mapping[str, Any]) -> Mapping[str, Any]:
    found = evaluation_of(path)
    if not found or result.get("temperature") is not None:
        return result
    scaled = found["scaled"]
    return {
        **result,
        "temperature": found["temperature"],
        "scaled_nll": scaled.get("nll"),
        "scaled_ece": scaled.get("ece"),
    }


def _figures(source: Source) -> list[Section]:
    """Return the section of a run's curves, reliability and confusion."""
    title = parse_loss(spec_text(source.config)).title
    wanted: dict[tuple[str, str], Any] = {}
    notes: list[Block] = []
    try:
        rows = read_metrics(source.path)
    except (OSError, UserError) as error:
        rows = []
        notes.append(Text(f"No curves: {error}", "warning"))
    if rows:
        wanted["Learning curves", ""] = partial(classifier.training_curves, rows=rows, loss=title)
    report: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        report = read_json(source.path / "report.json")
    before, after = _bins(report, "bins"), _bins(report, "scaled_bins")
    if after is None:
        after = _bins(evaluation_of(source.path), "scaled_bins")
    if before is not None:
        caption = "A point below 0 is a bin that was too sure, one above 0 one that was not sure enough."
        if after is None:
            caption += " The run holds no bins at a temperature: `evaluate RUN --temperature` adds them."
        wanted["Reliability before and after temperature scaling", caption] = partial(
            learning.draw_reliability, panels={title: (before, after)}
        )
    with contextlib.suppress(LookupError, TypeError, ValueError):
        matrix = np.array(report["confusion"], np.float64)
        wanted["Confusion matrix", ""] = partial(classifier.confusion_matrix, matrix=matrix)
    found = drawn(wanted)
    return [Section("Figures", [*notes, *found])] if found or notes else []


def _bins(stored: Mapping[str, Any], name: str) -> Bins | None:
    with contextlib.suppress(LookupError, TypeError, ValueError):
        bins = bins_of(stored[name])
        return bins if bins.examples.sum() > 0 else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _shown(value: Any, unit: float, form: str) -> Cell:
    return cell(value if _is_number(value) else None, form, unit=unit)
