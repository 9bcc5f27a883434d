"""Real TFDS directories where there are any, and a small archive of CIFAR-10's format."""

import hashlib
import io
import os
import socket
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edl_jax.data import prepare

LABEL_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
REAL_DATA_DIR = Path(os.environ.get("EDL_JAX_TFDS_DIR") or Path(__file__).parents[3] / "shared" / "tfds")


def add_file(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_cifar10_archive(path, train, test):
    """Write (images, labels) of both splits as the published archive has them: CHW records in 5 + 1 files."""
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        add_file(tar, "cifar-10-batches-bin/batches.meta.txt", ("\n".join(LABEL_NAMES) + "\n\n").encode())
        splits = [(f"data_batch_{i + 1}.bin", train, i, 5) for i in range(5)] + [("test_batch.bin", test, 0, 1)]
        for filename, (images, labels), part, parts in splits:
            pixels = np.array_split(images.transpose(0, 3, 1, 2).reshape(len(images), -1), parts)[part]
            records = np.concatenate([np.array_split(labels.astype(np.uint8), parts)[part][:, None], pixels], axis=1)
            add_file(tar, f"cifar-10-batches-bin/{filename}", records.tobytes())


def checksums_of(*paths):
    return {path.name: (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}


@pytest.fixture
def tools():
    return SimpleNamespace(add_file=add_file, write_cifar10_archive=write_cifar10_archive, checksums_of=checksums_of)


@pytest.fixture
def real_data_dir():
    if not (REAL_DATA_DIR / "cifar10").is_dir():
        pytest.skip("no TFDS directory: set EDL_JAX_TFDS_DIR")
    return REAL_DATA_DIR


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """A random data set of 300 + 60 images as an archive: path, checksums, train and test (images, labels)."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", 300), ("test", 60)):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        splits[split] = (images, rng.integers(0, 10, count).astype(np.int32))
    path = tmp_path_factory.mktemp("archive") / "cifar-10-binary.tar.gz"
    write_cifar10_archive(path, **splits)
    return SimpleNamespace(path=path, checksums=checksums_of(path), **splits)


@pytest.fixture(scope="session")
def prepared_dir(archive, tmp_path_factory):
    """The archive, prepared: a TFDS data directory. Copy it before changing it."""
    root = tmp_path_factory.mktemp("tfds")
    prepare("cifar10", archive=archive.path, data_dir=root, _checksums=archive.checksums)
    return root


@pytest.fixture
def no_network(monkeypatch):
    """Make any use of the network an error."""

    def refuse(*arguments, **_):
        raise AssertionError(f"the network was used: {arguments}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
