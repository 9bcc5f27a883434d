"""Settings of a study of surrogates."""

import dataclasses
from typing import Annotated

import tyro

from edl_jax import data
from edl_jax.core.config import GROWS
from edl_jax.core.errors import require
from edl_jax.study.stages import Stage

# As NLFS trains: what a loss is multiplied by makes no difference then, where it is a learning rate to SGD.
_ADAM = "optimizer=adam,weight_decay=0,schedule=cosine,warmup=0.1"
FEWEST = 10
"""Candidates of a study at least."""


@dataclasses.dataclass(frozen=True)
class SurrogateConfig:
    """How far small networks rank losses as larger ones do."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Finished searches by NLFS, whose history the candidates are drawn from (default: random losses)."""
    surrogates: tuple[str, ...] = dataclasses.field(
        default=(
            f"linear:steps=500,lr=0.1,{_ADAM}",
            f"convnet:steps=200,batch_size=64,{_ADAM}",
            f"resnet9v2:steps=200,batch_size=64,{_ADAM}",
            f"lenet5:steps=1000,batch_size=64,{_ADAM}",
        ),
        metadata=GROWS,
    )
    """Networks and their training, the smaller first, such as convnet:steps=300,batch_size=64 or, for an ordinary
    training, resnet8:epochs=2; --resume may add larger ones."""
    candidates: int = 150
    """Losses that every network is trained with."""
    repeat: bool = dataclasses.field(default=False, metadata=GROWS)
    """Whether each network is trained with a second seed too, for the agreement of a network with itself; --resume may
    turn it on."""
    dataset: str = "cifar10"
    """Data set whose official training images are split in two; its test images are not read."""
    seed: int = 0
    """Seed of the candidates, the split, the first weights and the batches."""

    def __post_init__(self) -> None:
        require(
            self.candidates >= FEWEST,
            f"candidates is {self.candidates}, expected at least {FEWEST}: the ranks of fewer say nothing",
        )
        require(0 <= self.seed < 2**31 - 1, f"seed is {self.seed}, expected 0 to 2^31 - 2")
        object.__setattr__(self, "dataset", data.canonical_name(self.dataset))
        object.__setattr__(self, "surrogates", tuple(str(Stage.parse(text)) for text in self.surrogates))
        stages, given = self.stages, " ".join(self.surrogates) or "empty"
        require(
            len(stages) >= 2, f"surrogates is {given}, expected at least two networks: one is compared with another"
        )
        require(len({*self.surrogates}) == len(stages), f"surrogates is {given}, expected each network once")
        for stage in stages:
            require(
                stage.survivors is None,
                f"surrogates is {given}, expected no survivors: all losses are trained by every network",
            )

    @property
    def stages(self) -> list[Stage]:
        """The networks and how they are trained."""
        return [Stage.parse(text) for text in self.surrogates]
