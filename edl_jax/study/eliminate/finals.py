"""The finals: survivors and known losses, trained with the same settings and seeds, on the test images."""

import dataclasses
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edl_jax import downstream
from edl_jax.core.files import read_json
from edl_jax.core.stopping import Stop
from edl_jax.downstream import DownstreamConfig
from edl_jax.stats import intervals
from edl_jax.stats.comparison import compare

MEASURES: Mapping[str, str] = {
    "test_accuracy": "test accuracy",
    "test_nll": "test NLL",
    "accuracy_gap": "train minus test accuracy",
    "nll_gap": "test minus train NLL",
}
"""What is compared; the first was named beforehand as the primary one."""
_LOGGER = logging.getLogger("edl_jax")


class Finalist(NamedTuple):
    """A loss of the finals.

    Attributes:
      name: of the loss.
      loss: name or path, as `DownstreamConfig` has it.
      parameters: its hyper-parameters.
    """

    name: str
    loss: str
    parameters: tuple[str, ...] = ()


def settings(config: DownstreamConfig, finalist: Finalist) -> DownstreamConfig:
    """Return the settings of the finals with a loss."""
    return dataclasses.replace(config, loss=finalist.loss, loss_parameters=finalist.parameters)


def train(
    finalist: Finalist,
    config: DownstreamConfig,
    seeds: Sequence[int],
    directory: Path,
    *,
    stop: Stop,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """Return the result of `downstream.run_seeds` for a loss, in a directory; a run that has ended is not made again.

    Raises:
      Stopped: `stop` was asked.
    """
    stored = finished(directory, seeds)
    if stored is not None:
        return stored
    outer = stop.path
    try:
        return downstream.run_seeds(
            settings(config, finalist),
            seeds,
            data_dir=data_dir,
            cache_dir=cache_dir,
            out=directory,
            resume=directory.is_dir(),
            figures=False,
            stop=stop,
        )
    finally:
        stop.path = outer


def measure(result: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, list[float]]:
    """Return the numbers of a loss by name, one a seed; of a run that diverged, infinitely bad ones.

    Args:
      result: what `train` returns.
      seeds: of the runs.
    """
    runs = {run["seed"]: run for run in result["runs"]}

    def value(seed: int, name: str) -> float:
        found = runs.get(seed, {}).get(name)
        return math.nan if found is None else float(found)

    columns = {name: [value(seed, name) for seed in seeds] for name in ("test_accuracy", "test_nll")}
    train = {name: [value(seed, f"train_{name}") for seed in seeds] for name in ("accuracy", "nll")}
    columns["accuracy_gap"] = [a - b for a, b in zip(train["accuracy"], columns["test_accuracy"], strict=True)]
    columns["nll_gap"] = [a - b for a, b in zip(columns["test_nll"], train["nll"], strict=True)]
    worst = {"test_accuracy": -math.inf}
    return {name: [worst.get(name, math.inf) if math.isnan(x) else x for x in columns[name]] for name in MEASURES}


def compared(measured: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, Any]]:
    """Return mean and interval of each number of each loss, and its difference from the first loss's.

    Differences are of equal seeds where runs of a seed are alike (a positive correlation), else of independent runs;
    p-values are Holm's over the losses, for each number.

    Args:
      measured: loss -> `measure`, the first the one to compare with.

    Returns:
      Loss -> number -> `values`, `mean`, `low`, `high` and, of all but the first loss, `difference`: a mapping with
      `difference`, `low`, `high`, `test`, `p`, `p_holm`, `effect_name` and `effect`.
    """
    reference, *others = measured
    table: dict[str, dict[str, Any]] = {name: {} for name in measured}
    for number in MEASURES:
        found = {}
        for name, columns in measured.items():
            mean, low, high = intervals.interval(columns[number])
            table[name][number] = {"values": list(columns[number]), "mean": mean, "low": low, "high": high}
            if name != reference:
                found[name] = compare(columns[number], measured[reference][number], family=len(others))
        adjusted = intervals.holm({name: comparison.p for name, comparison in found.items()})
        for name, c in found.items():
            table[name][number]["difference"] = {
                **{key: getattr(c, key) for key in ("difference", "low", "high", "test", "p")},
                "p_holm": adjusted[name],
                **{key: getattr(c, key) for key in ("effect_name", "effect")},
            }
    return table


def finished(directory: Path, seeds: Sequence[int]) -> dict[str, Any] | None:
    """Return the result of runs of all these seeds, or None; one that is damaged is made again from the runs."""
    try:
        result = read_json(directory / "result.json")
        ended = {*map(int, result["seeds"]), *map(int, result["diverged"])}
        return result if {*seeds} <= ended and {run["seed"] for run in result["runs"]} <= ended else None
    except FileNotFoundError:
        return None
    except (OSError, LookupError, TypeError, ValueError) as error:
        _LOGGER.warning("%s is damaged (%s): made again from the runs", directory / "result.json", error)
        return None
