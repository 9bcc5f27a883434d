"""Which augmentations a training run uses, and their composition for the training step."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax

from edl_jax.core.errors import choose, require
from edl_jax.data.augment.crop_flip import random_crop_flip
from edl_jax.data.augment.erasing import cutout, random_erasing
from edl_jax.data.augment.mixing import cutmix, mixed_dtype, mixup
from edl_jax.data.augment.rand_augment import MAX_MAGNITUDE, rand_augment

# (key, raw images [N, H, W, C], labels [N]) -> (raw images, labels [N] or label probabilities [N, K])
AugmentFn = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Method:
    """An augmentation: its function, and the published setting that switches it on in `AugmentConfig`."""

    function: Callable[..., Any]
    published: Any


METHODS = {
    "crop_flip": Method(random_crop_flip, True),
    "cutmix": Method(cutmix, 1.0),
    "cutout": Method(cutout, 16),
    "mixup": Method(mixup, 1.0),
    "rand_augment": Method(rand_augment, (2, 9)),
    "random_erasing": Method(random_erasing, 0.5),
}


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training images; each field is named after its function.

    Attributes:
      crop_flip: random crop and flip, with the data set's own padding.
      cutout: side of the hidden square in pixels, 16 for images of 32 x 32; 0 is off.
      random_erasing: probability that an image loses a random rectangle; 0 is off.
      rand_augment: number of operations and their magnitude 0..30, such as 2 9; 0 operations is off.
      mixup: alpha of mixup's Beta(alpha, alpha), 1 in the paper; 0 is off.
      cutmix: alpha of CutMix's Beta(alpha, alpha), 1 in the paper; 0 is off. With mixup on as well, each batch
        uses one of the two, with equal probability.
    """

    crop_flip: bool = True
    cutout: int = 0
    random_erasing: float = 0.0
    rand_augment: tuple[int, ...] = (0, 0)
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        """Raise UserError for a setting outside its range."""
        require(self.cutout >= 0, f"cutout is {self.cutout}, expected the side of a square in pixels, or 0 for none")
        probability = self.random_erasing
        require(0.0 <= probability <= 1.0, f"random_erasing is {probability}, expected a probability in [0, 1]")
        pair = self.rand_augment
        require(
            len(pair) == 2 and pair[0] >= 0 and 0 <= pair[1] <= MAX_MAGNITUDE,
            f"rand_augment is {pair}, expected a number of operations and a magnitude in 0..{MAX_MAGNITUDE}",
        )
        for name in ("mixup", "cutmix"):
            alpha = getattr(self, name)
            require(
                0.0 <= alpha < float("inf"),
                f"{name} is {alpha}, expected the alpha of Beta(alpha, alpha), such as 1, or 0 for none",
            )

    @property
    def mixes_labels(self) -> bool:
        """Whether the augmented labels are probabilities."""
        return self.mixup > 0 or self.cutmix > 0


def published_config(names: Iterable[str]) -> AugmentConfig:
    """Return the config with just the named augmentations on, at their published settings (`METHODS`).

    Raises:
      UserError: an unknown name.
    """
    settings: dict[str, Any] = {"crop_flip": False}
    for name in names:
        name = choose("augmentation", name, METHODS)
        settings[name] = METHODS[name].published
    return AugmentConfig(**settings)


def make_augment(
    config: AugmentConfig,
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    padding: int = 4,
    flip: bool = True,
    mean: Iterable[float] | None = None,
) -> AugmentFn:
    """Return `augment(key, images, labels) -> (images, labels)` for use inside the jitted training step.

    The order is crop and flip, RandAugment, cutout, random erasing, then mixup or CutMix, all on raw pixels before
    `normalize`. Images keep their dtype, except that mixup turns integers into float32. Labels stay as they
    are unless mixup or CutMix is on: then they become probabilities.

    Args:
      config: what to apply.
      image_shape: `(H, W, C)`.
      num_classes: number of classes K.
      padding: of the random crop; the data set's.
      flip: whether mirrored images keep their class; the data set's.
      mean: `[C]` mean of each channel in 0..1 units, which fills cutout's squares and what RandAugment's moves
        uncover, as in the papers' code; black and grey without it.

    Returns:
      A function of a PRNG key, raw images `[N, H, W, C]` and labels `[N]`, to images `[N, H, W, C]` and labels `[N]`
      or float32 label probabilities `[N, K]`.

    Raises:
      UserError: an image that the settings do not fit: cutout larger than the image, RandAugment on images with
        neither one nor three channels.
    """
    height, width, channels = image_shape
    require(
        config.cutout <= min(height, width),
        f"cutout is {config.cutout}, expected at most {min(height, width)} for images of {height} x {width}",
    )
    num_ops, magnitude = config.rand_augment
    require(
        num_ops == 0 or channels in (1, 3),
        f"rand_augment needs images with 1 or 3 channels, these have {channels}; set rand_augment to 0 0",
    )
    fills = {} if mean is None else {"fill": tuple(255.0 * float(value) for value in mean)}

    def augment(key: jax.Array, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        # A key for each method, whether on or not: switching one on leaves the draws of the others alone.
        crop_key, rand_key, cutout_key, erase_key, mix_key = jax.random.split(key, 5)
        if config.crop_flip:
            images = random_crop_flip(crop_key, images, padding=padding, flip=flip)
        if num_ops:
            images = rand_augment(rand_key, images, num_ops=num_ops, magnitude=magnitude, **fills)
        if config.cutout:
            images = cutout(cutout_key, images, size=config.cutout, **fills)
        if config.random_erasing:
            images = random_erasing(erase_key, images, probability=config.random_erasing)
        if config.mixes_labels:
            return _mix(mix_key, images, labels, config, num_classes)
        return images, labels

    return augment


def _mix(
    key: jax.Array, images: jax.Array, labels: jax.Array, config: AugmentConfig, num_classes: int
) -> tuple[jax.Array, jax.Array]:
    """Apply mixup or CutMix; one of them at random for each batch, as in timm, where both are on."""
    choice_key, method_key = jax.random.split(key)
    if config.mixup == 0:
        return cutmix(method_key, images, labels, num_classes=num_classes, alpha=config.cutmix)
    if config.cutmix == 0:
        return mixup(method_key, images, labels, num_classes=num_classes, alpha=config.mixup)
    images = images.astype(mixed_dtype(images.dtype))  # both branches must return one dtype
    return jax.lax.cond(
        jax.random.bernoulli(choice_key),
        lambda: mixup(method_key, images, labels, num_classes=num_classes, alpha=config.mixup),
        lambda: cutmix(method_key, images, labels, num_classes=num_classes, alpha=config.cutmix),
    )
