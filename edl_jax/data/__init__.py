"""Image data: sets by name as arrays in memory, preparation of TFDS directories, augmentation."""

from edl_jax.data.augment import normalize, random_crop_flip
from edl_jax.data.prepare import prepare
from edl_jax.data.registry import Augment, Dataset, load, names

__all__ = ["Augment", "Dataset", "load", "names", "normalize", "prepare", "random_crop_flip"]
