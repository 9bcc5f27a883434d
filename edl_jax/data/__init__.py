"""Image data: sets by name as arrays, preparation, label noise, class imbalance, augmentation."""

from edl_jax.data.augment import (
    AugmentConfig,
    AugmentFn,
    cutmix,
    cutout,
    make_augment,
    mixup,
    normalize,
    published_config,
    rand_augment,
    random_crop_flip,
    random_erasing,
)
from edl_jax.data.image_files import find_images, read_image
from edl_jax.data.images import ImageView, check_image_size, resize
from edl_jax.data.imbalance import imbalanced_counts, imbalanced_indices
from edl_jax.data.noise import add_label_noise, asymmetric_noise, confusions, symmetric_noise
from edl_jax.data.prepare import prepare
from edl_jax.data.registry import Augment, Dataset, canonical_name, file_stem, load, names

__all__ = [
    "Augment",
    "AugmentConfig",
    "AugmentFn",
    "Dataset",
    "ImageView",
    "add_label_noise",
    "asymmetric_noise",
    "canonical_name",
    "check_image_size",
    "confusions",
    "cutmix",
    "cutout",
    "file_stem",
    "find_images",
    "imbalanced_counts",
    "imbalanced_indices",
    "load",
    "make_augment",
    "mixup",
    "names",
    "normalize",
    "prepare",
    "published_config",
    "rand_augment",
    "random_crop_flip",
    "random_erasing",
    "read_image",
    "resize",
    "symmetric_noise",
]
