"""How a student is trained: architecture, images, optimizer, learning rates, augmentation, dropout."""

import dataclasses
import math

import jax
import optax

from edl_jax.core.errors import require, settle
from edl_jax.data import check_image_size, rand_augment
from edl_jax.data.augment.rand_augment import MAX_MAGNITUDE
from edl_jax.search.split import Images
from edl_jax.search.students import nlfs, registry
from edl_jax.search.students.base import Inputs, Student
from edl_jax.training.optimizer import make_optimizer, make_schedule, sgd

OPTIMIZERS = ("sgd", "adam")
SCHEDULES = ("constant", "cosine")
_ADAM_LR = 1e-3
_OPERATIONS = 2  # of RandAugment


@dataclasses.dataclass(frozen=True)
class StudentConfig:
    """How a student is trained. The defaults are EvoMAL's: SGD at a constant learning rate, images as they are."""

    arch: str = "lenet5"
    """Student: convnet, lenet5, linear, mlp, mlp_small or resnet9v2."""
    image_size: int | None = None
    """Side in pixels that images are brought to: shorter side scaled, centre cut (default: as stored)."""
    batch_size: int = 128
    """Examples of a training step."""
    steps: int = 500
    """Training steps of a student in full: in a race, the last rung."""
    optimizer: str = "sgd"
    """sgd (Nesterov momentum, coupled weight decay) or adam (decoupled weight decay)."""
    lr: float | None = None
    """Largest learning rate (default: for sgd 0.5 for linear and 0.01 for the others, for adam 0.001)."""
    momentum: float = 0.9
    """Nesterov momentum of sgd, decay rate of adam's first moment."""
    weight_decay: float = 5e-4
    """Weight decay."""
    schedule: str = "constant"
    """Learning rate after the warm-up: constant, or cosine, down to 0 at the last step."""
    warmup: float = 0.0
    """Share of the steps in which the learning rate rises from 0."""
    rand_augment: int = 0
    """Magnitude of RandAugment's two operations on each image, the same for all candidates (0: none)."""
    dropout: bool = False
    """Whether the dropout of convnet (0.1) and resnet9v2 (0.5) is on."""

    def __post_init__(self) -> None:
        settle(self, "arch", registry.names(), "student")
        settle(self, "optimizer", OPTIMIZERS)
        settle(self, "schedule", SCHEDULES)
        check_image_size(self.image_size)
        for name in ("batch_size", "steps"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, expected at least 1")
        require(self.lr is None or 0.0 < self.lr < math.inf, f"lr is {self.lr}, expected a positive number")
        require(0.0 <= self.momentum < 1.0, f"momentum is {self.momentum}, expected at least 0 and below 1")
        require(
            0.0 <= self.weight_decay < math.inf,
            f"weight_decay is {self.weight_decay}, expected 0 or a positive number",
        )
        require(0.0 <= self.warmup < 1.0, f"warmup is {self.warmup}, expected a share of the steps, from 0 to below 1")
        require(
            0 <= self.rand_augment <= MAX_MAGNITUDE,
            f"rand_augment is {self.rand_augment}, expected a magnitude in 0..{MAX_MAGNITUDE}, 0 for none",
        )
        require(
            self.rand_augment == 0 or self.arch != "linear",
            f"rand_augment is {self.rand_augment}, expected 0 for linear, whose features are computed once: choose "
            "another student",
        )
        require(
            not self.dropout or self.arch in nlfs.DROPOUT,
            f"dropout is on, expected off for {self.arch}, which has none: choose {' or '.join(nlfs.DROPOUT)}",
        )

    @property
    def varied(self) -> list[str]:
        """The settings that a local search, which follows plain SGD, cannot follow: `name value`."""
        plain = {"optimizer": "sgd", "schedule": "constant", "warmup": 0.0, "rand_augment": 0, "dropout": False}
        return [f"{name} {getattr(self, name)}" for name, value in plain.items() if getattr(self, name) != value]

    def learning_rate(self, student: Student) -> float:
        """Return the largest learning rate for a student."""
        if self.lr is not None:
            return self.lr
        return student.lr if self.optimizer == "sgd" else _ADAM_LR

    def make_optimizer(self, student: Student) -> optax.GradientTransformation:
        """Return what updates the parameters of a student."""
        lr: optax.ScalarOrSchedule = self.learning_rate(student)
        if self.schedule != "constant" or self.warmup > 0.0:
            lr = make_schedule(self.schedule, self.learning_rate(student), self.steps, round(self.warmup * self.steps))
        if self.optimizer == "sgd":
            return sgd(lr, momentum=self.momentum, weight_decay=self.weight_decay)
        return make_optimizer("adamw", lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def noisy(self, student: Student, images: Images) -> Student:
        """Return a student whose batches, where there is a key, are augmented and have dropout as set.

        Args:
          student: any that takes images.
          images: what the data set is like; what RandAugment's moves uncover has the mean of its channels.

        Raises:
          UserError: images that cannot be augmented.
        """
        channels = images.shape[2]
        require(
            self.rand_augment == 0 or channels in (1, 3),
            f"rand_augment needs images with 1 or 3 channels, these have {channels}; set rand_augment to 0",
        )
        fill = tuple(255.0 * mean for mean in images.mean)

        def prepare(batch: jax.Array, key: jax.Array | None) -> Inputs:
            if key is None:
                return student.prepare(batch, None)
            if self.rand_augment:
                drawn = jax.random.fold_in(key, 1)
                batch = rand_augment(drawn, batch, num_ops=_OPERATIONS, magnitude=self.rand_augment, fill=fill)
            return student.prepare(batch, key if self.dropout else None)

        return dataclasses.replace(student, prepare=prepare) if self.rand_augment or self.dropout else student
