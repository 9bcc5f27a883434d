"""From a set on disk to decoded arrays, which are kept in the cache."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import closing

import numpy as np
import tqdm

from edl_jax.data import cache, images
from edl_jax.data.prefetch import prefetch
from edl_jax.data.source import SPLITS, Source

_CHUNK_BYTES = 8 << 20  # of decoded images; stored ones may be several times as large
_CHUNK_IMAGES = 1000  # from which on larger chunks are no faster
_AHEAD = 4  # chunks
_STATISTICS_BATCH = 5000  # images counted at a time; bincount makes int64 copies


def read(
    source: Source, cache_dir: str | os.PathLike[str] | None = None, image_size: int | None = None
) -> tuple[dict[str, np.ndarray], str]:
    """Return the decoded arrays of a set, from the cache if they are there, and a hash of their content.

    Large ones are mapped from files, so that a set may be larger than memory.

    Args:
      source: the set.
      cache_dir: where decoded arrays are kept; default the user's cache directory.
      image_size: side of the square that images are brought to (`images.resize`); `None` keeps the stored size.

    Returns:
      `train_images`, `test_images`: uint8 `[N, H, W, C]`; `train_labels`, `test_labels`: int32 `[N]`, all in stored
      order; `mean`, `std`: `channel_statistics` of the training images, or of the test images where there are none.
      The hash depends on images and labels alone, not on where and when their files were written.

    Raises:
      UserError: images of many sizes without `image_size`, damage, or neither disk nor memory for the arrays.
    """
    images.check_image_size(image_size)
    height, width, channels = source.image_shape
    if image_size is not None:
        height = width = image_size
    if height is None or width is None:
        raise images.varying_size(source.name)
    shape = (height, width, channels)
    layout: dict[str, cache.Array] = {"mean": ((channels,), np.float32), "std": ((channels,), np.float32)}
    for split in SPLITS:
        layout[f"{split}_images"] = ((source.lengths[split], *shape), np.uint8)
        layout[f"{split}_labels"] = ((source.lengths[split],), np.int32)
    size = "" if image_size is None else f"-{image_size}"
    entry = cache.directory(cache_dir) / f"{source.key}{size}"
    found = cache.load(entry, layout)
    if found is None:
        found = cache.build(entry, layout, lambda arrays: fill(arrays, source, image_size), name=source.name)
    content = {key: [layout[key][0], found.checksums[key]] for key in sorted(layout) if key not in ("mean", "std")}
    return found.arrays, hashlib.sha256(json.dumps(content).encode()).hexdigest()


def fill(arrays: Mapping[str, np.ndarray], source: Source, image_size: int | None) -> None:
    """Decode every example of both splits once, into `arrays`."""
    shape = arrays["test_images"].shape[1:]
    step = max(1, min(_CHUNK_IMAGES, _CHUNK_BYTES // max(int(np.prod(shape)), 1)))
    chunks = [
        (split, start, min(start + step, source.lengths[split]))
        for split in SPLITS
        for start in range(0, source.lengths[split], step)
    ]
    examples = source.open()

    def decode(index: int) -> tuple[np.ndarray, np.ndarray]:
        found, labels = examples(*chunks[index])
        decoded = np.empty((len(found), *shape), np.uint8)
        for row, image in enumerate(found):
            scaled = image if image_size is None else images.resize(image, image_size)
            if scaled.shape not in (shape, shape[:2]):
                raise source.wrong_shape(image.shape)
            decoded[row] = scaled.reshape(shape)
        return decoded, np.asarray(labels, np.int32)

    total = sum(source.lengths.values())
    with (
        closing(prefetch(decode, len(chunks), ahead=_AHEAD)) as results,
        tqdm.tqdm(desc=f"decoding {source.name}", total=total, unit=" images", disable=None, leave=False) as bar,
    ):
        for (split, start, stop), (decoded, labels) in zip(chunks, results, strict=True):
            arrays[f"{split}_images"][start:stop] = decoded
            arrays[f"{split}_labels"][start:stop] = labels
            bar.update(stop - start)
    counted = arrays["train_images"] if len(arrays["train_images"]) else arrays["test_images"]
    arrays["mean"][:], arrays["std"][:] = channel_statistics(counted)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of each channel in 0..1 units.

    Computed from exact counts of the 256 values, in float64.

    Args:
      images: `[N, H, W, C]` uint8.

    Returns:
      Two `[C]` float32 arrays.
    """
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), _STATISTICS_BATCH):
        batch = images[start : start + _STATISTICS_BATCH]
        for channel, count in enumerate(counts):
            count += np.bincount(batch[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255.0
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    variance = (shares * np.square(values[None, :] - mean[:, None])).sum(axis=1)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
