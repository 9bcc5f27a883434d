"""Temperature scaling of a trained classifier, so that no example is scaled by a temperature that has seen it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.training.report import Report, make_report
from edl_jax.training.temperature import fit_temperature

BINS = ("count", "correct", "confidence")
"""Of the reliability diagram, by bin of confidence."""
VALIDATION, HALVES = "validation", "halves of the test images"


def scaled_by_halves(report: Report) -> dict[str, Any]:
    """Return the temperature of all examples, and the metrics of halves scaled by each other's temperature.

    Returns:
      `temperature`, `scaled` (name -> metric) and `scaled_bins`, as `bins_of` returns them, or None for all three with
      `temperature_error`.
    """
    half = np.arange(len(report.labels)) % 2 == 0
    logits = np.empty_like(report.logits)
    try:
        for fitted in (half, ~half):
            temperature = fit_temperature(report.logits[fitted], report.labels[fitted])
            logits[~fitted] = report.logits[~fitted] / np.float32(temperature)
        temperature = fit_temperature(report.logits, report.labels)
    except UserError as error:  # every example right, say: no temperature is best
        return _failed(error)
    return {"temperature": temperature, **_metrics(logits, report.labels)}


def scaled_by_validation(report: Report, validation: Report) -> dict[str, Any]:
    """Return the temperature of the validation part, and the metrics of `report` scaled by it; as `scaled_by_halves`.

    Args:
      report: of the test images.
      validation: of the validation part.
    """
    try:
        temperature = fit_temperature(validation.logits, validation.labels)
    except UserError as error:
        return _failed(error)
    return {"temperature": temperature, **_metrics(report.logits / np.float32(temperature), report.labels)}


def scaled_numbers(
    config: DownstreamConfig, report: Report, validation_report: Callable[[], Report]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what result.json says of temperature scaling, one number a key, and the bins at that temperature.

    The temperature is fitted on the validation part. Where there is none, or its labels are as wrong as those of
    training, so that a temperature would undo confidence that is due, it is fitted on each half of the test images for
    the other half.

    Args:
      config: of the run.
      report: of its test images.
      validation_report: makes that of its validation part.
    """
    validated = config.val_size > 0 and config.label_noise == 0.0
    found = scaled_by_validation(report, validation_report()) if validated else scaled_by_halves(report)
    scaled = found["scaled"] or {}
    numbers = {
        "temperature": found["temperature"],
        "temperature_from": VALIDATION if validated else HALVES,
        **{f"scaled_{name}": scaled.get(name) for name in ("nll", "ece")},
    }
    return numbers, found["scaled_bins"]


def bins_of(report: Report) -> dict[str, np.ndarray]:
    """Return examples, correct predictions and sum of confidence by bin of confidence, [bins] each, by name."""
    return dict(zip(BINS, report.sums.bins, strict=True))


def _metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    report = make_report(logits, labels)
    metrics = report.metrics()
    names = ("accuracy", "nll", "brier", "ece", "ece_equal_mass")
    return {"scaled": {name: metrics[name] for name in names}, "scaled_bins": bins_of(report)}


def _failed(error: UserError) -> dict[str, Any]:
    return {"temperature": None, "scaled": None, "scaled_bins": None, "temperature_error": str(error)}
