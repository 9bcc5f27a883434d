"""Speed of reading sets that do not fit in memory: python benchmarks/streaming.py

1. Decoding a folder of JPEG files, as `--dataset ./FOLDER --image-size N` does the first time, images/s.
2. Batches in random order from the decoded file, as `--loop stream` reads them in each epoch, images/s and MB/s;
   `--gigabytes` larger than memory shows the disk, smaller the operating system's cache.

What training itself takes of a batch is measured by cpu_loop.py. Medians over rounds.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from edl_jax.data import ImageView, decode, image_folder
from edl_jax.data.prefetch import prefetch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 64, 224], help="sides of the decoded images")
    parser.add_argument("--files", type=int, default=1000, help="JPEG files of 500 x 375 pixels")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the decoded file")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--batches", type=int, default=200, help="at most, in a round")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    print(f"{os.cpu_count()} cores, batch {flags.batch_size}")
    with tempfile.TemporaryDirectory() as scratch:
        write_files(Path(scratch) / "photos", flags.files)
        for size in flags.sizes:
            seconds = [decoding_seconds(Path(scratch), size) for _ in range(flags.rounds)]
            print(f"  decode to {size:3d}: {flags.files / statistics.median(seconds):8.0f} images/s", flush=True)
        for size in flags.sizes:
            images = decoded_file(Path(scratch) / f"{size}.npy", size, flags.gigabytes)
            steps = max(1, min(flags.batches, len(images) // flags.batch_size))
            seconds = [reading_seconds(images, steps, flags.batch_size, seed) for seed in range(flags.rounds)]
            rate = steps * flags.batch_size / statistics.median(seconds)
            print(f"  stream at {size:3d}: {rate:8.0f} images/s {rate * size * size * 3 / 1e6:8.0f} MB/s", flush=True)
            (Path(scratch) / f"{size}.npy").unlink()


def write_files(root: Path, count: int) -> None:
    """Write smooth images with some noise, which compress as photographs do."""
    rng = np.random.default_rng(0)
    for part, number in (("train", count - 2), ("val", 2)):
        for i in range(number):
            coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
            noisy = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
            path = root / part / ("cat", "dog")[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), noisy, [cv2.IMWRITE_JPEG_QUALITY, 90])


def decoding_seconds(scratch: Path, size: int) -> float:
    """Decode the folder into a new cache entry; return the seconds."""
    source = image_folder.source(str(scratch / "photos"))
    with tempfile.TemporaryDirectory(dir=scratch) as cache_dir:
        start = time.perf_counter()
        decode.read(source, cache_dir, size)
        return time.perf_counter() - start


def decoded_file(path: Path, size: int, gigabytes: float) -> ImageView:
    """Write random images to a file, and map it."""
    count = int(gigabytes * 1e9) // (size * size * 3)
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, size, size, 3))
    rng = np.random.default_rng(0)
    for start in range(0, count, 1000):
        part = images[start : start + 1000]
        part[:] = np.frombuffer(rng.bytes(part.size), np.uint8).reshape(part.shape)
    images.flush()
    return ImageView(np.load(path, mmap_mode="r"))


def reading_seconds(images: ImageView, steps: int, batch_size: int, seed: int) -> float:
    """Read an epoch's batches, as `training.stream` does; return the seconds."""
    order = np.random.default_rng(seed).permutation(len(images))[: steps * batch_size].reshape(steps, batch_size)
    start = time.perf_counter()
    for _ in prefetch(lambda step: images[order[step]], steps, ahead=8):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
