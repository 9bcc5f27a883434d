"""Settings of a study of pretraining numbers and real accuracy."""

import dataclasses
from typing import Annotated

import tyro

from edl_jax import data
from edl_jax.core.config import GROWS
from edl_jax.core.errors import require
from edl_jax.study.stages import Stage

_ADAM = "optimizer=adam,weight_decay=0,schedule=cosine,warmup=0.1"
FEWEST = 8
"""Artifacts of a study at least."""


@dataclasses.dataclass(frozen=True)
class CorrelateConfig:
    """Which pretraining number predicts the accuracy of networks that are trained with an artifact."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Finished runs of pretrain or search, and paths of artifacts, which join those that the study makes."""
    mixtures: tuple[str, ...] = (
        "default",
        "cross_entropy",
        "paper",
        "boundary",
        "early",
        "default:severity=margin",
    )
    """Presets of pretrain, or YAML files, that losses are evolved with; PRESET:KEY=VALUE,... changes settings."""
    generations: tuple[int, ...] = (1, 10, 100, 1000)
    """Generations after which the best loss of each mixture so far is an artifact."""
    losses: tuple[str, ...] = (
        "cross_entropy",
        "focal",
        "focal:gamma=0.5",
        "poly1",
        "gce",
        "mae",
        "brier",
        "label_smoothing",
        "sce",
        "taylor_cross_entropy",
        "ace",
    )
    """Known losses by name, NAME:PARAMETER=NUMBER, or formulas in y and p."""
    random: int = 6
    """Random losses that pass NLFS's integrity check."""
    best: int = 5
    """Losses of each search that is given: its best."""
    networks: tuple[str, ...] = dataclasses.field(
        default=(
            "linear:steps=500",
            "lenet5:steps=1000,batch_size=64",
            f"convnet:steps=200,batch_size=64,{_ADAM}",
            "resnet8:epochs=1,batch_size=64,crop_flip=off,train_size=10000",
        ),
        metadata=GROWS,
    )
    """Networks and their training, such as convnet:steps=300,batch_size=64 or, for an ordinary training,
    resnet8:epochs=2; --resume may add some at the end."""
    seeds: tuple[int, ...] = dataclasses.field(default=(0,), metadata=GROWS)
    """Seeds of the trainings, whose mean accuracy is what is predicted; --resume may add some."""
    pairs: int = 16384
    """Fresh pairs of predictions of preset default of pretrain, on which all artifacts are measured."""
    tasks: int = 8
    """Synthetic tasks of each kind and noise that students are trained on."""
    dataset: str = "cifar10"
    """Data set whose official training images are split in two; its test images are not read."""
    seed: int = 0
    """Seed of evolution, random losses, pairs and synthetic tasks."""

    def __post_init__(self) -> None:
        for name, least in (("random", 0), ("best", 1), ("pairs", 100), ("tasks", 1), ("seed", 0)):
            value = getattr(self, name)
            require(least <= value < 2**31 - 1, f"{name} is {value}, expected at least {least}")
        self._check_evolution()
        object.__setattr__(self, "dataset", data.canonical_name(self.dataset))
        object.__setattr__(self, "networks", tuple(str(Stage.parse(text)) for text in self.networks))
        given = " ".join(self.networks)
        require(len(self.networks) > 0, "networks is empty, expected at least one, such as linear:steps=500")
        require(len({*self.networks}) == len(self.networks), f"networks is {given}, expected each network once")
        for stage in self.stages:
            require(
                stage.survivors is None,
                f"networks is {given}, expected no survivors: every network is trained with all artifacts",
            )
        require(len(self.seeds) > 0, "seeds is empty, expected some numbers, such as 0 1 2")
        for seed in self.seeds:
            require(0 <= seed < 2**31 - 1, f"{seed} is among seeds, expected numbers from 0 to 2^31 - 2")
            require(self.seeds.count(seed) == 1, f"seed {seed} is given twice in seeds, expected each once")

    def _check_evolution(self) -> None:
        shown = " ".join(map(str, self.generations))
        ascending = all(0 < a < b for a, b in zip((0.5, *self.generations), (*self.generations, 2**31), strict=True))
        require(ascending, f"generations is {shown}, expected ascending numbers from 1 on, such as 1 10 100")
        require(
            len(self.mixtures) == 0 or len(self.generations) > 0,
            "generations is empty, expected at least one number, or no mixtures",
        )
        for text in self.mixtures:
            require(self.mixtures.count(text) == 1, f"{text} is given twice in mixtures, expected each once")
        for text in self.losses:
            require(self.losses.count(text) == 1, f"{text} is given twice in losses, expected each once")

    @property
    def stages(self) -> list[Stage]:
        """The networks and how they are trained."""
        return [Stage.parse(text) for text in self.networks]
