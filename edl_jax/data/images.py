"""Images brought to one size, and images of a set that are read when they are asked for."""

import math

import numpy as np
import numpy.typing as npt

from edl_jax.core.errors import UserError, require

MAX_IMAGE_SIZE = 4096
_LONGEST = 32  # times the side asked for, of an image that is scaled


class ImageView:
    """Some images of a set, in an order: as an array of arrays, but nothing is read before it is indexed.

    The set may be larger than memory, as arrays mapped from files are.
    """

    def __init__(self, images: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Take images [M, H, W, C] of a set: its `rows` [N], all of them by default."""
        self._images, self._rows = images, rows
        self.shape: tuple[int, ...] = (len(images) if rows is None else len(rows), *images.shape[1:])
        self.dtype = images.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Return the size of all images in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Return the images of a slice, or of integers or booleans [N]."""
        return self._images[index if self._rows is None else self._rows[index]]

    def select(self, index: slice | np.ndarray) -> "ImageView":
        """Return the view of a slice, or of integers or booleans [N]."""
        rows = np.arange(len(self)) if self._rows is None else self._rows
        return ImageView(self._images, rows[index])

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        """Return all images."""
        return np.array(self[:], dtype=dtype, copy=copy)


def check_image_size(image_size: int | None) -> None:
    """Raise unless `image_size` is `None` or a side in pixels that images can be brought to.

    Raises:
      UserError: it is no integer, below 1 or above `MAX_IMAGE_SIZE`.
    """
    whole = isinstance(image_size, (int, np.integer)) and not isinstance(image_size, bool)
    require(
        image_size is None or (whole and 1 <= image_size <= MAX_IMAGE_SIZE),
        f"image_size is {image_size}, expected the side of the images in pixels, 1 to {MAX_IMAGE_SIZE} (--image-size)",
    )


def resize(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Scale an image to the smallest that covers a square or a rectangle, which is then cut from its centre.

    For a square the shorter side becomes `size`. Area averages when shrinking, bicubic when growing; an image of the
    right size is returned as it is.

    Args:
      image: `[H, W]` or `[H, W, C]` uint8.
      size: side of the square, or height and width, in pixels.

    Returns:
      `[size, size]` or `[height, width]`, with the channels that `image` has, uint8.
    """
    import cv2

    target = size if isinstance(size, tuple) else (size, size)
    # The side that needs the larger factor, in integers: a product of each with the other's target.
    row = image.shape[0] * target[1] <= image.shape[1] * target[0]
    wanted, have = (target[0], image.shape[0]) if row else (target[1], image.shape[1])
    if wanted != have:
        # Of a long strip, which would take gigabytes when it grows, the ends are cut before.
        limit = [math.ceil(_LONGEST * side * have / wanted) for side in target]
        image = _centre(image, min(image.shape[0], limit[0]), min(image.shape[1], limit[1]))
        height, width = (max(t, round(s * wanted / have)) for t, s in zip(target, image.shape[:2], strict=True))
        interpolation = cv2.INTER_AREA if wanted < have else cv2.INTER_CUBIC
        scaled = cv2.resize(image, (width, height), interpolation=interpolation)
        image = scaled.reshape(height, width, *image.shape[2:])  # OpenCV drops an axis of one channel
    return np.ascontiguousarray(_centre(image, *target))


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def varying_size(what: str) -> UserError:
    """Return the error for images of several sizes where no size was asked for."""
    return UserError(f"the images of {what} vary in size: give the side to bring them all to, --image-size 64 say")
