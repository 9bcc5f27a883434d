"""Settings of a comparison of losses: the grid, how its cells are trained, what its statistics take for granted."""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import tyro

from edl_jax import data, models
from edl_jax.core.config import CHANGES, GROWS
from edl_jax.core.errors import UserError, choose, require
from edl_jax.downstream import DownstreamConfig
from edl_jax.study.loss_spec import LossSpec, parse_loss

_RANGE = re.compile(r"(\d+)-(\d+)")
_MOST_SEEDS = 10_000
_FIRST_TUNING_SEED = 1_000_000


@dataclasses.dataclass(frozen=True)
class TrainingConfig(DownstreamConfig):
    """What the cells of a grid share; what the grid varies is no flag."""

    arch: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "resnet18"
    dataset: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "cifar10"
    loss: Annotated[str, tyro.conf.Fixed, tyro.conf.Suppress] = "edl"
    loss_parameters: Annotated[tuple[str, ...], tyro.conf.Fixed, tyro.conf.Suppress] = ()
    label_noise: Annotated[float, tyro.conf.Fixed, tyro.conf.Suppress] = 0.0
    seed: Annotated[int, tyro.conf.Fixed, tyro.conf.Suppress] = 0


def parse_seeds(words: Iterable[str]) -> tuple[int, ...]:
    """Return the seeds of words such as `0 1 2`, `0-9` or `0-4 7`.

    Raises:
      UserError: a word that is neither a number nor a range, or too many seeds.
    """
    seeds: list[int] = []
    for word in words:
        found = _RANGE.fullmatch(word)
        if found:
            first, last = int(found[1]), int(found[2])
            require(first <= last, f"--seeds has the range {word}, expected the smaller number first")
            require(last - first < _MOST_SEEDS, f"--seeds has the range {word}, expected at most {_MOST_SEEDS:,} seeds")
            seeds += range(first, last + 1)
        else:
            require(word.isdecimal(), f"{word} is among --seeds, expected numbers and ranges, such as 0-9 or 0 1 2")
            seeds.append(int(word))
    return tuple(seeds)


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """Compare losses on a grid of architectures, data sets, shares of wrong labels and seeds."""

    losses: tuple[str, ...] = dataclasses.field(default=("cross_entropy", "edl"), metadata=GROWS)
    """Losses, NAME or PATH, with hyper-parameters as in poly1:epsilon=2."""
    archs: tuple[str, ...] = dataclasses.field(default=(), metadata=GROWS)
    """Models (default: the preset's)."""
    datasets: tuple[str, ...] = dataclasses.field(default=(), metadata=GROWS)
    """Data sets (default: the preset's)."""
    label_noise: tuple[float, ...] = dataclasses.field(default=(), metadata=GROWS)
    """Shares of the training labels that are made wrong (default: the preset's)."""
    seeds: Annotated[tuple[int, ...], tyro.conf.Fixed, tyro.conf.Suppress] = dataclasses.field(
        default=tuple(range(10)), metadata=GROWS
    )
    tune_lr: int = dataclasses.field(default=0, metadata=GROWS)
    """Seeds with which the learning rate of each loss is tuned on the validation part, for a second table beside that
    of one rate for all (0: no tuning). Other seeds than --seeds; needs --val-size."""
    lr_factors: tuple[float, ...] = dataclasses.field(default=(0.25, 0.5, 1.0, 2.0, 4.0), metadata=GROWS)
    """Rates that tuning tries for every loss, as factors of --lr."""
    baseline: str | None = dataclasses.field(default=None, metadata=CHANGES)
    """Loss that the others are compared with (default: the first)."""
    margin: float = dataclasses.field(default=0.3, metadata=CHANGES)
    """Largest difference in points of accuracy, and of ECE, with which two losses are level."""
    margin_nll: float = dataclasses.field(default=0.01, metadata=CHANGES)
    """Largest difference in NLL with which two losses are level."""
    detect: float = dataclasses.field(default=0.2, metadata=CHANGES)
    """Difference in points for which the report says how many seeds it takes to see it, with a power of 80 %."""
    training: Annotated[TrainingConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=TrainingConfig)
    """How every cell is trained."""

    def __post_init__(self) -> None:
        training = self.training
        settled: dict[str, Any] = {
            "losses": tuple(parse_loss(text).text for text in self.losses),
            "archs": tuple(choose("arch", name, models.names(), models.SYNONYMS) for name in self.archs)
            or (training.arch,),
            "datasets": tuple(data.canonical_name(name) for name in self.datasets) or (training.dataset,),
            "label_noise": tuple(float(share) for share in self.label_noise) or (training.label_noise,),
            "baseline": None if self.baseline is None else parse_loss(self.baseline).text,
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        require(len(self.losses) > 0, "no loss given: --losses cross_entropy edl")
        require(len(self.seeds) > 0, "--seeds is empty, expected some numbers, such as 0-9")
        specs = [parse_loss(text).identity for text in self.losses]
        lists: tuple[tuple[str, tuple[Any, ...], Sequence[Any]], ...] = (
            ("losses", self.losses, specs),
            ("archs", self.archs, self.archs),
            ("datasets", self.datasets, self.datasets),
            ("label_noise", self.label_noise, self.label_noise),
            ("seeds", self.seeds, self.seeds),
            ("lr_factors", self.lr_factors, self.lr_factors),
        )
        for name, values, keys in lists:
            for value, key in zip(values, keys, strict=True):
                flag = name.replace("_", "-")
                require(list(keys).count(key) == 1, f"{value} is given twice in --{flag}, expected each once")
        for share in self.label_noise:
            require(0.0 <= share < 1.0, f"{share} is in --label-noise, expected at least 0 and below 1")
        for seed in self.seeds:
            require(0 <= seed < 2**31, f"{seed} is among --seeds, expected numbers from 0 to 2^31 - 1")
        self._check_tuning()
        for name in ("margin", "margin_nll", "detect"):
            value = getattr(self, name)
            require(0.0 < value < math.inf, f"{name} is {value}, expected a positive number")

    def _check_tuning(self) -> None:
        require(0 <= self.tune_lr <= _MOST_SEEDS, f"tune_lr is {self.tune_lr}, expected a number of seeds, or 0")
        for factor in self.lr_factors:
            require(0.0 < factor < math.inf, f"{factor} is among --lr-factors, expected positive numbers")
        if self.tune_lr:
            require(
                self.training.val_size > 0,
                "--tune-lr chooses on validation images, and there are none: give --val-size, such as 5000",
            )
            require(len(self.lr_factors) > 1, f"--lr-factors is {self.lr_factors}, expected at least 2 for --tune-lr")

    @property
    def specs(self) -> tuple[LossSpec, ...]:
        """Return the losses, the baseline among them."""
        return tuple(parse_loss(text) for text in self.losses)

    @property
    def baseline_loss(self) -> str:
        """Return the loss that the others are compared with.

        Raises:
          UserError: it is none of the losses.
        """
        if self.baseline is None:
            return self.losses[0]
        wanted = parse_loss(self.baseline).identity
        for text in self.losses:
            if parse_loss(text).identity == wanted:
                return text
        raise UserError(f"--baseline is {self.baseline}, expected one of --losses: {', '.join(self.losses)}")

    @property
    def tuning_seeds(self) -> tuple[int, ...]:
        """Return the seeds of tuning, which no cell of the tables has."""
        # Far from where people begin to count, and always the same, so that what was tuned need not be tuned again.
        free = (seed for seed in itertools.count(_FIRST_TUNING_SEED) if seed not in self.seeds)
        return tuple(itertools.islice(free, self.tune_lr))


def united(stored: CompareConfig, wanted: CompareConfig) -> CompareConfig:
    """Return the union of a grid that is there and one that is asked for; what is no list is that of `wanted`.

    Args:
      stored: of config.json.
      wanted: of the same class.
    """
    known = {spec.identity for spec in stored.specs}
    union: dict[str, Any] = {
        "losses": stored.losses + tuple(spec.text for spec in wanted.specs if spec.identity not in known),
        "tune_lr": max(stored.tune_lr, wanted.tune_lr),
    }
    for name in ("archs", "datasets", "label_noise", "seeds", "lr_factors"):
        union[name] = _union(getattr(stored, name), getattr(wanted, name))
    return dataclasses.replace(wanted, **union)


def _union(first: Sequence[Any], second: Sequence[Any]) -> tuple[Any, ...]:
    return (*first, *(item for item in second if item not in first))


def training_of(config: CompareConfig, **changes: Any) -> DownstreamConfig:
    """Return the settings of a cell.

    Raises:
      UserError: settings that contradict each other.
    """
    fields: Mapping[str, Any] = {
        field.name: getattr(config.training, field.name) for field in dataclasses.fields(DownstreamConfig)
    }
    return DownstreamConfig(**{**fields, **changes})
