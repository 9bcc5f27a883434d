"""scikit-learn's digits, split for good, as a source like sets on disk.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

import importlib.metadata
from collections.abc import Sequence

import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.data.source import Read, Source

IMAGE_SHAPE = (8, 8, 1)
NUM_CLASSES = 10
_LENGTHS = {"train": 1437, "test": 360}
_SEED = 0


def source() -> Source:
    """Return the 1,797 digits as a source: 360 to test with, the same share of each class; 0..16 scaled to 0..255."""

    def wrong_shape(shape: tuple[int, ...]) -> UserError:
        return UserError(f"a digit of scikit-learn has the shape {shape}, expected {IMAGE_SHAPE}")

    return Source(
        name="digits",
        key=f"digits-sklearn-{importlib.metadata.version('scikit-learn')}",
        image_shape=IMAGE_SHAPE,
        label_names=tuple(str(label) for label in range(NUM_CLASSES)),
        lengths=_LENGTHS,
        open=_open,
        wrong_shape=wrong_shape,
    )


def _open() -> Read:
    # They take over a second to import, which decoded images in the cache save.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    digits = np.rint(pixels * (255.0 / 16.0)).astype(np.uint8).reshape(-1, *IMAGE_SHAPE)
    parts = train_test_split(
        digits, labels.astype(np.int32), test_size=_LENGTHS["test"], stratify=labels, random_state=_SEED
    )
    images, targets = dict(zip(_LENGTHS, parts[:2], strict=True)), dict(zip(_LENGTHS, parts[2:], strict=True))

    def read(split: str, start: int, stop: int) -> tuple[Sequence[np.ndarray], Sequence[int]]:
        return images[split][start:stop], targets[split][start:stop]

    return read
