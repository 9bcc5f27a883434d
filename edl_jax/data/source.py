"""What a reader gives of a set before it is decoded."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from edl_jax.core.errors import UserError

SPLITS = ("train", "test")
# (split, start, stop) -> images [H, W] or [H, W, C] uint8 and class numbers of those examples, in stored order
Read = Callable[[str, int, int], tuple[Sequence[np.ndarray], Sequence[int]]]


@dataclasses.dataclass(frozen=True)
class Source:
    """An image classification set on disk.

    Attributes:
      name: for messages.
      key: a file name that changes when the files of the set do.
      image_shape: stored `(H, W, C)`; H and W are `None` where images vary in size.
      label_names: one name for each class.
      lengths: number of examples by split, of `SPLITS`.
      open: returns the function that reads, which several threads may call at once.
      wrong_shape: image of another shape than `image_shape` -> the error that it is.
    """

    name: str
    key: str
    image_shape: tuple[int | None, int | None, int]
    label_names: tuple[str, ...]
    lengths: dict[str, int]
    open: Callable[[], Read]
    wrong_shape: Callable[[tuple[int, ...]], UserError]
