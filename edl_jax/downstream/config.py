"""Settings of stage 2."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from edl_jax import data, loss, models
from edl_jax.core.config import parse_parameters
from edl_jax.core.errors import choose, require, settle
from edl_jax.data.imbalance import IMBALANCE_KINDS
from edl_jax.data.noise import NOISE_KINDS
from edl_jax.training.loop import LOOPS
from edl_jax.training.optimizer import DEFAULTS, OptimizerDefaults, optimizers
from edl_jax.training.schedule import schedules

PRECISIONS = ("auto", "float32", "bfloat16")
WARMUP_EPOCHS = 5.0


@dataclasses.dataclass(frozen=True)
class DownstreamConfig:
    """Train an image classifier with a loss. The defaults are those of preset `paper`."""

    arch: str = "resnet18"
    """Model: resnet8 ... resnet110, resnet18/34/50, preresnet18/110, wrn16_8/28_10/40_4, vgg16_bn, allcnn_c, alexnet,
    mobilenet_v2, efficientnet_v2_s, vit_tiny, mlp_mixer, lenet5 or mlp."""
    init: str = "default"
    """Initialiser of the kernels: default, kaiming_fan_in, kaiming_fan_out, lecun, orthogonal, xavier ..."""
    dataset: str = "cifar10"
    """Data set: cifar10, cifar100, digits, fashion_mnist, mnist, or any TFDS image-classification set that is prepared
    in the data directory, NAME or NAME/CONFIG, with :VERSION for another than the newest, or a folder of images: ./PATH
    with train/CLASS/FILE, val/CLASS/FILE."""
    image_size: int | None = None
    """Side in pixels that images are brought to: shorter side scaled, centre cut (None: as stored)."""
    loss: str = "edl"
    """Loss: edl, edl_optimum, cross_entropy, focal, gce or another of edl_jax.loss.names(), or the path of an
    artifact or of the run that evolved it."""
    loss_parameters: tuple[str, ...] = ()
    """Hyper-parameters of that loss, such as gamma=1."""
    epochs: int = 200
    """Passes over the training images."""
    batch_size: int = 128
    """Images of a step; the last incomplete batch of an epoch is dropped."""
    optimizer: str = "sgd"
    """Optimizer: sgd (Nesterov momentum, coupled weight decay), adamw, lion or muon (decoupled weight decay)."""
    lr: float | None = None
    """Largest learning rate (None: the optimizer's usual, 0.1 for sgd)."""
    momentum: float | None = None
    """Decay rate of the running mean of gradients (None: the optimizer's usual, 0.9 for sgd)."""
    weight_decay: float | None = None
    """Weight decay, on all parameters (None: the optimizer's usual, 5e-4 for sgd)."""
    clip_norm: float | None = None
    """Largest global norm of the gradient (None: any)."""
    schedule: str = "cosine"
    """Learning rate after the warm-up: cosine, constant, linear, onecycle or step."""
    warmup_epochs: float = WARMUP_EPOCHS
    """Epochs in which the learning rate rises from 0, fewer than epochs (5: a tenth of the epochs, of up to 5)."""
    augment: data.AugmentConfig = dataclasses.field(default_factory=data.AugmentConfig)
    """Augmentation of training images; crop and flip are those usual for the data set."""
    train_size: int | None = None
    """Number of training images, drawn by the seed with each class's share kept (None: all)."""
    label_noise: float = 0.0
    """Share of the training labels that are made wrong, in [0, 1)."""
    label_noise_kind: str = "symmetric"
    """Wrong labels: symmetric (any other class) or asymmetric (the class it is mistaken for, by data set)."""
    imbalance: float = 1.0
    """Training images of the most frequent class over those of the rarest (1: as stored)."""
    imbalance_kind: str = "long_tailed"
    """Shape of the imbalance: long_tailed or step."""
    val_size: int = 0
    """Training images held out, with labels as noisy as the others, to choose the best epoch by (0: none)."""
    ema: float = 0.0
    """Decay of a running average of the weights, which is evaluated in their place (0: none), such as 0.999."""
    target_accuracy: float | None = None
    """Accuracy in (0, 1] whose first epoch and training seconds are reported (None: none)."""
    seed: int = 0
    """Seed of everything random."""
    precision: str = "auto"
    """Precision of the computation: float32, bfloat16 or auto (bfloat16 on GPU and TPU)."""
    loop: str = "auto"
    """How an epoch runs: one scan, jitted steps, jitted steps on images that stay on the host (stream), or auto: steps
    on CPU, scan elsewhere, stream where the images would fill more than half of the device's memory."""
    checkpoint_every: int = 1
    """Epochs between two checkpoints; the last epoch always makes one."""

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """Return `loss_parameters` as a mapping."""
        return parse_parameters(self.loss_parameters)

    @property
    def loss_title(self) -> str:
        """Return what figures and lines call the loss."""
        return loss.title(self.loss, self.hyper_parameters)

    @property
    def numbers(self) -> OptimizerDefaults:
        """Return learning rate, momentum and weight decay: as set, else the optimizer's usual ones."""
        given = {name: getattr(self, name) for name in OptimizerDefaults._fields}
        return DEFAULTS[self.optimizer]._replace(**{name: x for name, x in given.items() if x is not None})

    @property
    def warmup(self) -> float:
        """Return the epochs of warm-up: as set, or a tenth of the epochs where the default would leave no others."""
        # A number in place of None for the default: config.json of every run says 5.0, and a resumed run is compared.
        short = self.warmup_epochs == WARMUP_EPOCHS >= self.epochs
        return 0.1 * self.epochs if short else self.warmup_epochs

    def beside(self, typed: Mapping[str, str]) -> "DownstreamConfig":
        """Return this preset, with a tenth of the typed epochs as warm-up where its own would take all of them.

        Args:
          typed: field -> text of the flags beside the preset; a warm-up among them is not touched.
        """
        text = typed.get("epochs", "")
        if "warmup_epochs" in typed or not text.isdecimal() or self.warmup_epochs == WARMUP_EPOCHS:
            return self
        epochs = int(text)
        if not 0 < epochs <= self.warmup_epochs:
            return self
        return dataclasses.replace(self, epochs=epochs, warmup_epochs=0.1 * epochs)

    def __post_init__(self) -> None:
        for name, value in (
            ("arch", choose("arch", self.arch, models.names(), models.SYNONYMS)),
            ("dataset", data.canonical_name(self.dataset)),
            ("loss", loss.canonical_name(self.loss)),
        ):
            object.__setattr__(self, name, value)
        data.check_image_size(self.image_size)
        parse_parameters(self.loss_parameters)
        for name, choices in (
            ("precision", PRECISIONS),
            ("loop", LOOPS),
            ("init", models.inits()),
            ("optimizer", optimizers()),
            ("schedule", schedules()),
            ("label_noise_kind", NOISE_KINDS),
            ("imbalance_kind", IMBALANCE_KINDS),
        ):
            settle(self, name, choices)
        for name, least in (("epochs", 1), ("batch_size", 1), ("checkpoint_every", 1), ("seed", 0), ("val_size", 0)):
            value = getattr(self, name)
            require(least <= value < 2**31, f"{name} is {value}, expected at least {least}")
        if self.train_size is not None:
            require(
                self.train_size >= self.batch_size,
                f"train_size is {self.train_size}, expected at least batch_size ({self.batch_size})",
            )
        require(0.0 <= self.label_noise < 1.0, f"label_noise is {self.label_noise}, expected at least 0 and below 1")
        require(1.0 <= self.imbalance < math.inf, f"imbalance is {self.imbalance}, expected a number of at least 1")
        require(0.0 <= self.ema < 1.0, f"ema is {self.ema}, expected at least 0 and below 1")
        target = self.target_accuracy
        require(target is None or 0.0 < target <= 1.0, f"target_accuracy is {target}, expected above 0 and at most 1")
        chosen = self.numbers
        require(0.0 < chosen.lr < math.inf, f"lr is {chosen.lr}, expected a positive number")
        require(0.0 <= chosen.momentum < 1.0, f"momentum is {chosen.momentum}, expected at least 0 and below 1")
        require(
            0.0 <= chosen.weight_decay < math.inf,
            f"weight_decay is {chosen.weight_decay}, expected 0 or a positive number",
        )
        clip = self.clip_norm
        require(clip is None or 0.0 < clip < math.inf, f"clip_norm is {clip}, expected a positive number")
        require(
            self.warmup_epochs >= 0.0 and self.warmup < self.epochs,
            f"warmup_epochs is {self.warmup_epochs}, expected at least 0 and below epochs ({self.epochs})",
        )
