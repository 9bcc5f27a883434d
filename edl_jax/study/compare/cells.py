"""The cells of a grid: what each one trains, and its name."""

import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from edl_jax import data
from edl_jax.downstream import DownstreamConfig
from edl_jax.study.compare.config import CompareConfig, training_of
from edl_jax.study.loss_spec import LossSpec, parse_loss

DROP_IN, TUNED = "drop-in", "tuned"
MODES = (DROP_IN, TUNED)
"""One learning rate for all losses, and each loss at the rate that validation images chose."""
_LONGEST = 48  # characters of a loss in a name


class Setting(NamedTuple):
    """What losses are compared on."""

    arch: str
    dataset: str
    label_noise: float

    @property
    def title(self) -> str:
        """Return what tables and figures call it."""
        noise = f", {100 * self.label_noise:g} % wrong labels" if self.label_noise else ""
        return f"{self.arch} on {data.file_stem(self.dataset)}{noise}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
      name: folder of the run, the same in every grid that has it.
      setting: what it is trained on.
      loss: as `CompareConfig.losses` has it.
      factor: of the learning rate.
      tuning: whether it only serves the choice of a rate.
      config: what is run.
    """

    name: str
    setting: Setting
    loss: str
    factor: float
    tuning: bool
    config: DownstreamConfig


def settings(config: CompareConfig) -> list[Setting]:
    """Return all settings of a grid."""
    return [Setting(a, d, n) for a in config.archs for d in config.datasets for n in config.label_noise]


def evaluation_cells(config: CompareConfig, setting: Setting, text: str, factor: float) -> list[Cell]:
    """Return the cells of a loss at a rate in a setting, one a seed of the tables."""
    return [make_cell(config, setting, text, factor, seed) for seed in config.seeds]


def tuning_cells(config: CompareConfig, setting: Setting, text: str) -> dict[float, list[Cell]]:
    """Return factor of the rate -> cells of tuning, for a loss in a setting."""
    return {
        factor: [make_cell(config, setting, text, factor, seed, tuning=True) for seed in config.tuning_seeds]
        for factor in config.lr_factors
    }


def drop_in_cells(config: CompareConfig) -> Iterator[Cell]:
    """Yield the cells of one rate for all, seed by seed, so that what is there first can be compared."""
    for seed in config.seeds:
        for setting in settings(config):
            for text in config.losses:
                yield make_cell(config, setting, text, 1.0, seed)


def make_cell(
    config: CompareConfig, setting: Setting, text: str, factor: float, seed: int, *, tuning: bool = False
) -> Cell:
    """Return a cell of a grid.

    Args:
      config: the grid.
      setting: what the cell is trained on.
      text: loss, as the grid has it.
      factor: of the grid's learning rate.
      seed: of the run.
      tuning: whether the cell only serves the choice of a rate.
    """
    spec = parse_loss(text)
    lr = config.training.numbers.lr * factor
    run = training_of(
        config,
        **setting._asdict(),
        loss=spec.name,
        loss_parameters=spec.parameters,
        seed=seed,
        # As a preset leaves it where nothing is tuned, so that such a cell is a run that `downstream` makes as well.
        lr=config.training.lr if factor == 1.0 else lr,
    )
    parts = (
        setting.arch,
        _slug(setting.dataset, data.file_stem(setting.dataset)),
        f"noise{setting.label_noise:g}",
        _slug_of_loss(spec),
        f"lr{lr:.6g}",
        f"seed{seed}",
    )
    return Cell("-".join(parts), setting, text, factor, tuning, run)


def _slug_of_loss(spec: LossSpec) -> str:
    """Return what stands for a loss in a name: `poly1,epsilon=2`, or of a path its folder and a hash of the path."""
    text = ",".join((spec.name, *spec.parameters))
    stem = os.path.basename(os.path.dirname(spec.name)) or "loss"  # noqa: PTH119, PTH120 - text that is no path, too
    return _slug(text, spec.name if os.sep not in spec.name else stem)


def _slug(text: str, short: str) -> str:
    """Return `text` where it can be a part of a file's name, else `short` and a hash of `text`."""
    if re.fullmatch(r"[\w.,=+]+", text) and len(text) <= _LONGEST:
        return text
    return f"{re.sub(r'[^A-Za-z0-9_.]+', '_', short)[:_LONGEST]}.{hashlib.sha256(text.encode()).hexdigest()[:6]}"
