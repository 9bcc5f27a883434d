"""Settings of an elimination."""

import dataclasses
import itertools
from typing import Annotated

import tyro

from edl_jax import data, loss
from edl_jax.core.config import GROWS
from edl_jax.core.errors import UserError, require
from edl_jax.downstream import DownstreamConfig
from edl_jax.study.loss_spec import parse_loss
from edl_jax.study.stages import Stage

_ADAM = "optimizer=adam,schedule=cosine,warmup=0.1"
# Of 0.001 and 0.003, what cross-entropy, poly1 and focal do better with in two epochs of resnet8 on 18,000 images.
_CLASSIFIER = "optimizer=adamw,lr=0.003,batch_size=64,crop_flip=off"


@dataclasses.dataclass(frozen=True)
class EliminateConfig:
    """Eliminate the losses of searches stage by stage, and train the survivors in full beside known losses."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Directories of finished searches."""
    count: int = 100
    """Losses that begin: the best of the searches, no loss twice."""
    distance: float = 0.05
    """How far each must train from every better one, 0 for any: a search crowds about its best. Cross-entropy is 0.06
    from poly1, 0.5 from gce; a factor of a loss makes no difference."""
    stages: tuple[str, ...] = (
        f"convnet:steps=300,batch_size=64,{_ADAM},survivors=25",
        f"resnet9v2:steps=400,batch_size=64,{_ADAM},survivors=10",
        f"resnet8:epochs=1,{_CLASSIFIER},train_size=20000,survivors=3",
    )
    """Networks, their training, and how many losses go on from each: convnet:steps=300,batch_size=64,survivors=25 for
    students, resnet8:epochs=1,survivors=3 for other models."""
    baselines: tuple[str, ...] = ("cross_entropy", "baikal", "poly1:epsilon=2", "label_smoothing")
    """Losses that take part in the finals alone; the others are compared with the first."""
    final: str = f"resnet8:epochs=4,{_CLASSIFIER}"
    """Network and training of the finals, on all training images, tested on the test images: the same for all."""
    seeds: tuple[int, ...] = dataclasses.field(default=(0, 1, 2, 3, 4), metadata=GROWS)
    """Seeds of the finals; --resume may add some."""
    dataset: str = "cifar10"
    """Data set."""
    seed: int = 0
    """Seed of the stages: the split of the training images, first weights and batches."""

    def __post_init__(self) -> None:
        require(self.count >= 1, f"count is {self.count}, expected at least 1 loss")
        require(0.0 <= self.distance < 2.0, f"distance is {self.distance}, expected at least 0 and below 2")
        require(0 <= self.seed < 2**30, f"seed is {self.seed}, expected 0 to 2^30 - 1")
        require(len(self.seeds) > 0, "seeds is empty, expected some numbers, such as 0 1 2")
        for seed in self.seeds:
            require(0 <= seed < 2**31, f"{seed} is among seeds, expected numbers from 0 to 2^31 - 1")
            require(self.seeds.count(seed) == 1, f"seed {seed} is given twice in seeds, expected each once")
        object.__setattr__(self, "dataset", data.canonical_name(self.dataset))
        object.__setattr__(self, "stages", tuple(str(Stage.parse(text)) for text in self.stages))
        object.__setattr__(self, "final", str(Stage.parse(self.final)))
        self._check_stages()
        self._check_final()
        require(len(self.baselines) > 0, "baselines is empty, expected at least cross_entropy, to compare with")
        specs = [parse_loss(text) for text in self.baselines]
        for spec in specs:
            loss.get(spec.name, **spec.hyper_parameters)
        named = tuple(spec.text for spec in specs)
        object.__setattr__(self, "baselines", named)
        for name in named:
            require(named.count(name) == 1, f"{name} is given twice in baselines, expected each loss once")

    @property
    def rounds(self) -> list[Stage]:
        """The stages."""
        return [Stage.parse(text) for text in self.stages]

    @property
    def classifier(self) -> DownstreamConfig:
        """The run of the finals, whose loss and seed are put in for each."""
        final = Stage.parse(self.final)
        assert final.model is not None
        return dataclasses.replace(final.model, dataset=self.dataset, train_size=final.train_size)

    def _check_stages(self) -> None:
        require(len(self.stages) > 0, "stages is empty, expected at least one, such as linear:steps=500,survivors=10")
        for stage in self.rounds:
            require(
                stage.survivors is not None,
                f"stage '{stage}' has no survivors: say how many losses go on, as in survivors=10",
            )
        kept = [stage.survivors or 0 for stage in self.rounds]
        require(
            all(after < before for before, after in itertools.pairwise(kept)),
            f"survivors of the stages are {', '.join(map(str, kept))}, expected descending numbers",
        )
        require(
            kept[0] < self.count,
            f"count is {self.count} and the first stage keeps {kept[0]}, expected more losses than it keeps",
        )

    def _check_final(self) -> None:
        final = Stage.parse(self.final)
        require(
            final.model is not None,
            f"final is {self.final}, expected a model that is trained for epochs, such as resnet8:epochs=4",
        )
        for key in ("survivors", "validation"):
            default = Stage.__dataclass_fields__[key].default
            require(
                getattr(final, key) == default,
                f"final is {self.final}, expected no {key}: all of the finals are trained on all images and tested",
            )
        try:
            self.classifier  # noqa: B018 - says what does not go together
        except UserError as error:
            raise UserError(f"final is {self.final}: {error}") from error
