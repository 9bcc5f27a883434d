"""Preparing a TFDS directory: what comes out is what went in, and nothing half-done is ever accepted."""

import gzip
import hashlib
import importlib
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError
from edl_jax.data import registry, tfds_directory

MODULE = importlib.import_module("edl_jax.data.prepare")  # the package's attribute is the function

# What needs a process of its own: one part after another, no module of the tests is loaded, the last part is killed.
PROGRAM = """
import importlib, json, resource, socket, sys, time
import edl_jax.data as data
path, root, checksums = sys.argv[1:]
checksums = {name: tuple(value) for name, value in json.loads(checksums).items()}

def refuse(*_, **__):
    raise AssertionError("the network was used")
socket.getaddrinfo = socket.socket.connect = refuse

soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))  # unpacking fits, the train split does not
try:
    data.prepare("cifar10", archive=path, data_dir=root + "/full", _checksums=checksums)
except OSError as error:
    print(error.strerror)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

data.prepare("cifar10", archive=path, data_dir=root + "/tfds", _checksums=checksums)
dataset = data.load("cifar10", root + "/tfds", root + "/cache")
print(dataset.train_images.shape, "tensorflow" in sys.modules)

module = importlib.import_module("edl_jax.data.prepare")
encode, count = module.encode_png, 0
def encode_slowly(image):
    global count
    count += 1
    if count == 330:  # the train split is written, the test split is not
        print("ready", flush=True)
        time.sleep(600)
    return encode(image)
module.encode_png = encode_slowly
data.prepare("cifar10", archive=path, data_dir=root + "/killed", _checksums=checksums)
"""


@pytest.fixture(scope="module")
def process(archive, tmp_path_factory):
    """What `PROGRAM` leaves when it is killed inside its last part: `root`, and the lines that it wrote."""
    root = tmp_path_factory.mktemp("process")
    command = [sys.executable, "-c", PROGRAM, str(archive.path), str(root), json.dumps(archive.checksums)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        lines = [child.stdout.readline() for _ in range(3)]
        child.send_signal(signal.SIGKILL)
        return SimpleNamespace(root=root, lines=lines, errors=child.stderr.read(), more=child.stdout.read())


def examples(data_dir, split):
    import tensorflow_datasets as tfds

    source = tfds.builder_from_directory(tfds_directory.locate("cifar10", data_dir)).as_data_source(split)
    return source.__getitems__(range(len(source)))


def test_prepared_examples_are_those_of_the_archive(prepared_dir, archive):
    for split, (images, labels) in (("train", archive.train), ("test", archive.test)):
        found = examples(prepared_dir, split)
        indices = [int(example["id"].decode().removeprefix(f"{split}_")) for example in found]
        assert sorted(indices) == list(range(len(images)))
        assert indices != sorted(indices)
        np.testing.assert_array_equal([example["image"] for example in found], images[indices])
        np.testing.assert_array_equal([example["label"] for example in found], labels[indices])


def test_result_is_a_directory_of_tfds_and_nothing_else_is_left(prepared_dir):
    import tensorflow_datasets as tfds

    directory = tfds_directory.locate("cifar10", prepared_dir)
    assert [path.name for path in prepared_dir.iterdir()] == ["cifar10"]
    assert list(directory.parent.iterdir()) == [directory]
    builder = tfds.builder("cifar10", data_dir=prepared_dir)
    assert builder.is_prepared()
    assert str(builder.data_dir) == str(directory)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 300, "test": 60}
    assert int(builder.info.download_size) == 170_052_171


def test_needs_no_tensorflow_and_no_network_and_is_silent(process):
    assert process.lines[1:] == ["(300, 32, 32, 3) False\n", "ready\n"], process.errors
    assert (process.errors, process.more) == ("", "")


def test_everything_replaced_is_restored(prepared_dir):
    from tensorflow_datasets.core.download import download_manager
    from tensorflow_datasets.core.features import image_feature
    from tensorflow_datasets.core.utils import lazy_imports_utils, tqdm_utils
    from tensorflow_datasets.image_classification import cifar

    assert cifar.tf is lazy_imports_utils.tensorflow
    assert image_feature._ImageEncoder._encode_image.__module__ == image_feature.__name__
    assert download_manager.DownloadManager.download_and_extract.__module__ == download_manager.__name__
    assert tqdm_utils._active is True


def test_prepared_data_is_left_as_it_is(prepared_dir, no_network, caplog):
    directory = tfds_directory.locate("cifar10", prepared_dir)
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    with caplog.at_level("INFO", "edl_jax"):
        assert data.prepare("cifar10", data_dir=prepared_dir) == directory
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before
    assert any("already prepared" in record.message for record in caplog.records)


def test_remains_without_description_are_not_taken_for_data(tmp_path):
    """TFDS itself would reuse the directory and succeed without writing anything."""
    (tmp_path / "cifar10" / "3.0.2").mkdir(parents=True)
    with pytest.raises(UserError, match=r"dataset_info\.json is missing"):
        data.prepare("cifar10", data_dir=tmp_path)


def write_idx_files(directory, train, test):
    """Write (images, labels) of both splits as the four files of the MNIST family."""
    for prefix, (images, labels) in (("train", train), ("t10k", test)):
        header = np.array([0x803, len(images), 28, 28], ">i4").tobytes()
        (directory / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes(), 1))
        header = np.array([0x801, len(labels)], ">i4").tobytes()
        content = gzip.compress(header + labels.astype(np.uint8).tobytes(), 1)
        (directory / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(content)
    return sorted(directory.iterdir())


def sorted_rows(images, labels):
    rows = np.column_stack([np.asarray(images).reshape(len(images), -1), labels])
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("as_list", [False, True])
def test_mnist_family_from_its_four_files(name, as_list, tmp_path, monkeypatch, tools, no_network):
    from tensorflow_datasets.image_classification import mnist

    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", 200)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", 40)
    rng = np.random.default_rng(1)
    splits = {
        split: (rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8), rng.integers(0, 10, count))
        for split, count in (("train", 200), ("test", 40))
    }
    (tmp_path / "files").mkdir()
    files = write_idx_files(tmp_path / "files", **splits)
    archive = files if as_list else tmp_path / "files"
    data.prepare(name, archive=archive, data_dir=tmp_path / "tfds", _checksums=tools.checksums_of(*files))
    dataset = data.load(name, tmp_path / "tfds", tmp_path / "cache")
    np.testing.assert_array_equal(
        sorted_rows(dataset.train_images, dataset.train_labels), sorted_rows(*splits["train"])
    )
    np.testing.assert_array_equal(sorted_rows(dataset.test_images, dataset.test_labels), sorted_rows(*splits["test"]))
    assert len(set(dataset.label_names)) == 10


def test_cifar100_keeps_the_fine_labels(tmp_path, tools):
    rng = np.random.default_rng(2)
    path = tmp_path / "cifar-100-binary.tar.gz"
    splits = {}
    with tarfile.open(path, "w:gz") as tar:
        for filename, count in (("train.bin", 200), ("test.bin", 100)):
            coarse, fine = rng.integers(0, 20, (count, 1)), np.arange(count)[:, None] % 100
            pixels = rng.integers(0, 256, (count, 3072))
            content = np.concatenate([coarse, fine, pixels], axis=1).astype(np.uint8)
            splits[filename] = content
            tools.add_file(tar, f"cifar-100-binary/{filename}", content.tobytes())
        for filename, count in (("coarse_label_names.txt", 20), ("fine_label_names.txt", 100)):
            names = "".join(f"{filename[:4]}{index}\n" for index in range(count))
            tools.add_file(tar, f"cifar-100-binary/{filename}", names.encode())
    data.prepare("cifar100", archive=path, data_dir=tmp_path / "tfds", _checksums=tools.checksums_of(path))
    dataset = data.load("cifar100", tmp_path / "tfds", tmp_path / "cache")
    pixels = dataset.train_images.transpose(0, 3, 1, 2)
    content = splits["train.bin"]
    np.testing.assert_array_equal(sorted_rows(pixels, dataset.train_labels), sorted_rows(content[:, 2:], content[:, 1]))
    assert dataset.label_names[99] == "fine99"


def test_archive_that_is_not_the_published_one_is_refused(archive, tmp_path):
    with pytest.raises(UserError) as error:
        data.prepare("cifar10", archive=archive.path, data_dir=tmp_path / "tfds")
    message = str(error.value)
    published = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    for part in (str(archive.path), published, archive.checksums[archive.path.name][1], "nothing was written"):
        assert part in message
    assert "\n" not in message
    assert not (tmp_path / "tfds").exists()


def test_archive_that_is_not_a_tar_is_refused(tmp_path, tools):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(b"not a tar"))
    with pytest.raises(UserError, match=r"cannot be unpacked.*expected a cifar-10-binary\.tar\.gz"):
        data.prepare("cifar10", archive=path, data_dir=tmp_path / "tfds", _checksums=tools.checksums_of(path))
    assert tfds_directory.find("cifar10", tmp_path / "tfds") is None


@pytest.mark.skipif(not hasattr(tarfile, "data_filter"), reason="this Python has no safe extraction")
def test_archive_cannot_write_outside_its_directory(tmp_path, tools):
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tools.add_file(tar, "../../../escaped", b"content")
    with pytest.raises(UserError, match="cannot be unpacked"):
        data.prepare("cifar10", archive=path, data_dir=tmp_path / "tfds", _checksums=tools.checksums_of(path))
    assert not list(tmp_path.rglob("escaped"))


def test_digits_need_no_preparation():
    with pytest.raises(UserError, match="nothing to prepare"):
        data.prepare("digits")


def test_unknown_name_lists_the_closest():
    with pytest.raises(UserError, match="did you mean mnist"):
        data.prepare("mnst")


def test_no_network_names_the_url_and_the_way_out(tmp_path, no_network):
    start = time.perf_counter()
    with pytest.raises(UserError, match=r"cannot download https?://.*cifar-10-binary\.tar\.gz .*--archive"):
        data.prepare("cifar10", data_dir=tmp_path)
    assert time.perf_counter() - start < 16
    assert tfds_directory.find("cifar10", tmp_path) is None


def test_kill_in_the_middle_leaves_nothing_that_is_accepted(process, archive, tmp_path):
    root = process.root / "killed"
    assert list((root / "cifar10").iterdir())  # remains, but none that counts
    with pytest.raises(UserError, match="no prepared cifar10"):
        data.load("cifar10", root)
    directory = data.prepare("cifar10", archive=archive.path, data_dir=root, _checksums=archive.checksums)
    assert len(data.load("cifar10", root, tmp_path / "cache").train_images) == 300
    assert directory == root / "cifar10" / "3.0.2"


def test_full_disk_is_an_os_error_and_leaves_nothing(process):
    """A limit on the size of files stands for the full disk."""
    assert process.lines[0] == "File too large\n", process.errors
    assert list((process.root / "full" / "cifar10").iterdir()) == []


@pytest.mark.parametrize("name", [name for name in data.names() if registry.spec(name).tfds])
def test_published_checksums_come_from_tfds(name):
    import tensorflow_datasets as tfds

    sources = MODULE._sources(tfds.builder_cls(name), None)
    assert len(sources) == (4 if "mnist" in name else 1)
    for source in sources:
        assert source.filename.endswith(".gz")
        assert len(source.sha256) == len(hashlib.sha256().hexdigest())
        assert source.size > 1000


@pytest.mark.slow
def test_whole_cifar10_is_prepared_exactly_as_the_given_directory(real_data_dir, tmp_path, tools):
    """The archive is rebuilt from the record ids; what TFDS made of the real one has the same order."""
    splits = {}
    for split, count in (("train", 50_000), ("test", 10_000)):
        images, labels = np.empty((count, 32, 32, 3), np.uint8), np.empty(count, np.int32)
        for example in examples(real_data_dir, split):
            index = int(example["id"].split(b"_")[1])
            images[index], labels[index] = example["image"], example["label"]
        splits[split] = (images, labels)
    path = tmp_path / "cifar-10-binary.tar.gz"
    tools.write_cifar10_archive(path, **splits)
    data.prepare("cifar10", archive=path, data_dir=tmp_path / "tfds", _checksums=tools.checksums_of(path))
    first = examples(tmp_path / "tfds", "train")[0]
    assert (first["id"], first["label"]) == (b"train_16399", 7)
    for split in splits:
        for ours, given in zip(examples(tmp_path / "tfds", split), examples(real_data_dir, split), strict=True):
            assert (ours["id"], ours["label"]) == (given["id"], given["label"])
            assert ours["image"].tobytes() == given["image"].tobytes()
    shutil.rmtree(tmp_path)  # 330 MB that pytest would keep
