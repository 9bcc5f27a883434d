"""Augmentation on the device: pure jitted functions of a key and a batch of raw images."""

from edl_jax.data.augment.crop_flip import normalize, random_crop_flip
from edl_jax.data.augment.erasing import cutout, random_erasing
from edl_jax.data.augment.mixing import cutmix, mixup
from edl_jax.data.augment.pipeline import METHODS, AugmentConfig, AugmentFn, make_augment, published_config
from edl_jax.data.augment.rand_augment import rand_augment

__all__ = [
    "METHODS",
    "AugmentConfig",
    "AugmentFn",
    "cutmix",
    "cutout",
    "make_augment",
    "mixup",
    "normalize",
    "published_config",
    "rand_augment",
    "random_crop_flip",
    "random_erasing",
]
