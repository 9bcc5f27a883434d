"""Reading a prepared directory: exact pixels, a cache that is never trusted blindly, damage reported."""

import json
import logging
import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError
from edl_jax.data import cache, decode, tfds_directory

TRAIN_SHARD = "cifar10-train.array_record-00000-of-00001"


@pytest.fixture
def data_dir(prepared_dir, tmp_path):
    return shutil.copytree(prepared_dir, tmp_path / "tfds")


@pytest.fixture
def version_dir(data_dir):
    return tfds_directory.locate("cifar10", data_dir)


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def no_decoding(monkeypatch):
    def refuse(*_):
        raise AssertionError("the images were decoded again")

    monkeypatch.setattr(decode, "fill", refuse)


def assert_same(first, second):
    for field in ("train_images", "train_labels", "test_images", "test_labels", "mean", "std"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    assert first.label_names == second.label_names


def sorted_rows(images, labels):
    rows = np.column_stack([images.reshape(len(images), -1), labels])
    return rows[np.lexsort(rows.T)]


def test_arrays_are_those_of_the_archive(data_dir, cache_dir, archive, no_network):
    dataset = data.load("cifar10", data_dir, cache_dir)
    np.testing.assert_array_equal(sorted_rows(dataset.train_images, dataset.train_labels), sorted_rows(*archive.train))
    np.testing.assert_array_equal(sorted_rows(dataset.test_images, dataset.test_labels), sorted_rows(*archive.test))
    assert dataset.label_names[:3] == ("airplane", "automobile", "bird")


def test_second_load_comes_from_the_cache(data_dir, cache_dir, monkeypatch, request):
    first = data.load("cifar10", data_dir, cache_dir)
    assert len(list(cache_dir.iterdir())) == 1
    request.getfixturevalue("no_decoding")
    assert_same(first, data.load("cifar10", data_dir, cache_dir))


def test_cache_hit_imports_neither_tfds_nor_opencv_nor_tensorflow(data_dir, cache_dir):
    data.load("cifar10", data_dir, cache_dir)
    script = (
        "import sys, edl_jax.data as data\n"
        f"data.load('cifar10', {str(data_dir)!r}, {str(cache_dir)!r})\n"
        "print([name for name in ('tensorflow', 'tensorflow_datasets', 'cv2', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_cache_directory_from_the_environment(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("EDL_JAX_CACHE_DIR", str(tmp_path / "from_environment"))
    data.load("cifar10", data_dir)
    assert len(list((tmp_path / "from_environment").iterdir())) == 1


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip_a_pixel(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 255
    path.write_bytes(content)


def replace_by_another_array(path):
    np.save(path, np.zeros((3, 32, 32, 3), np.uint8))


def replace_by_objects(path):
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


def replace_the_directory(path):
    shutil.rmtree(path.parent)
    path.parent.write_text("a file")


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_pixel,
        replace_by_another_array,
        replace_by_objects,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no array"),
        lambda path: path.unlink(),
        lambda path: (path.parent / cache.CHECKSUMS_FILENAME).write_text("[1"),
        lambda path: (path.parent / cache.CHECKSUMS_FILENAME).write_text("[1]"),
        lambda path: (path.parent / cache.CHECKSUMS_FILENAME).unlink(),
        replace_the_directory,
    ],
)
def test_damaged_cache_entry_is_rebuilt(data_dir, cache_dir, damage, caplog, monkeypatch, request):
    first = data.load("cifar10", data_dir, cache_dir)
    (entry,) = cache_dir.iterdir()
    damage(entry / "train_images.npy")
    assert_same(first, data.load("cifar10", data_dir, cache_dir))
    assert len([record for record in caplog.records if "again" in record.message]) == 1
    request.getfixturevalue("no_decoding")
    assert_same(first, data.load("cifar10", data_dir, cache_dir))


def test_changed_records_are_not_served_from_the_cache(data_dir, version_dir, cache_dir, no_network):
    data.load("cifar10", data_dir, cache_dir)
    truncate(version_dir / TRAIN_SHARD)
    with pytest.raises(UserError, match="damaged"):
        data.load("cifar10", data_dir, cache_dir)


def test_unusable_cache_directory_costs_one_warning(data_dir, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "edl_jax"):
        dataset = data.load("cifar10", data_dir, tmp_path / "file")
    assert len(dataset.train_images) == 300
    assert any("cannot write the cache" in record.message for record in caplog.records)
    assert all("\n" not in record.message for record in caplog.records)


LAYOUT = {"images": ((4 << 20,), np.uint8)}


def fill_with_ones(arrays):
    arrays["images"][:] = 1


def test_full_disk_costs_one_warning_and_leaves_nothing(tmp_path, caplog):
    """A limit on the size of files stands for the full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        arrays = cache.build(tmp_path / "entry", LAYOUT, fill_with_ones, name="a set").arrays
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert list(tmp_path.iterdir()) == []
    assert arrays["images"].sum() == 4 << 20  # in memory


def test_neither_disk_nor_memory_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    pages = {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    with pytest.raises(UserError, match=r"a set takes 0.0 GiB decoded, which fits neither .* --cache-dir on a larger"):
        cache.build(tmp_path / "file" / "entry", LAYOUT, fill_with_ones, name="a set")


def test_a_disk_that_is_full_at_the_last_file_costs_one_warning(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(cache.Path, "write_text", full)
    arrays = cache.build(tmp_path / "entry", LAYOUT, fill_with_ones, name="a set").arrays
    assert arrays["images"].sum() == 4 << 20
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert list(tmp_path.iterdir()) == []


def test_what_fails_while_it_is_filled_leaves_no_entry(tmp_path):
    def fail(arrays):
        arrays["images"][:10] = 1
        raise UserError("a broken file")

    with pytest.raises(UserError, match="a broken file"):
        cache.build(tmp_path / "entry", LAYOUT, fail, name="a set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mapped_bytes", [1, 1 << 30])
def test_arrays_outlive_their_entry_and_cannot_be_written_to(tmp_path, monkeypatch, mapped_bytes):
    monkeypatch.setattr(cache, "MAPPED_BYTES", mapped_bytes)
    cache.build(tmp_path / "entry", LAYOUT, fill_with_ones, name="a set")
    arrays = cache.load(tmp_path / "entry", LAYOUT).arrays
    shutil.rmtree(tmp_path / "entry")
    assert isinstance(arrays["images"].base, np.memmap) == (mapped_bytes == 1)
    assert arrays["images"].sum() == 4 << 20
    with pytest.raises(ValueError, match="read-only"):
        arrays["images"][0] = 2


def test_damage_inside_a_very_large_entry_is_not_looked_for(tmp_path, monkeypatch, caplog):
    cache.build(tmp_path / "entry", LAYOUT, fill_with_ones, name="a set")
    flip_a_pixel(tmp_path / "entry" / "images.npy")
    monkeypatch.setattr(cache, "MAPPED_BYTES", 1 << 20)
    assert cache.load(tmp_path / "entry", LAYOUT) is not None
    truncate(tmp_path / "entry" / "images.npy")
    assert cache.load(tmp_path / "entry", LAYOUT) is None
    assert "is damaged (ValueError): decoding again" in caplog.text
    file = tmp_path / "entry" / "images.npy"
    file.write_bytes(b"\x93NUMPY\x01\x00\x06\x00{'a': ")  # a header that Python's tokenizer stumbles over
    assert cache.load(tmp_path / "entry", LAYOUT) is None


def edit_info(version_dir, **changes):
    path = version_dir / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_features(version_dir):
    path = version_dir / "features.json"
    path.write_text(path.read_text().replace('"32"', '"16"'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "dataset_info.json").write_text("{"),
        lambda path: (path / "dataset_info.json").write_text("[]"),
        lambda path: (path / "dataset_info.json").write_bytes(b"\xff\xfe\x00"),
        lambda path: (path / "dataset_info.json").unlink(),
        lambda path: (path / "dataset_info.json").write_text("[" * 100_000),
        lambda path: edit_info(path, name=7),
        lambda path: edit_info(path, splits=[]),
        lambda path: edit_info(path, splits=[{"name": "train"}]),
        lambda path: (path / "features.json").unlink(),
        lambda path: (path / "features.json").write_text("{"),
        edit_features,
        lambda path: (path / TRAIN_SHARD).unlink(),
        lambda path: (path / TRAIN_SHARD).write_bytes(b""),
        lambda path: truncate(path / TRAIN_SHARD),
        lambda path: os.truncate(path / TRAIN_SHARD, (path / TRAIN_SHARD).stat().st_size - 100_000),
        lambda path: flip_a_pixel(path / TRAIN_SHARD),
    ],
)
def test_damaged_directory_is_one_line_that_says_what_to_do(data_dir, version_dir, cache_dir, damage, no_network):
    damage(version_dir)
    with pytest.raises(UserError) as error:
        data.load("cifar10", data_dir, cache_dir)
    message = str(error.value)
    assert "\n" not in message
    assert f"{version_dir} is damaged" in message
    assert f"delete that directory and run `edl-jax data prepare cifar10 --data-dir {data_dir}`" in message
    assert list(cache_dir.glob("*")) == []


@pytest.mark.parametrize("file_format", ["tfrecord", "riegeli"])
def test_other_file_format_is_named(data_dir, version_dir, cache_dir, file_format):
    edit_info(version_dir, fileFormat=file_format)
    with pytest.raises(UserError, match=f"prepared as {file_format}, .*expected array_record"):
        data.load("cifar10", data_dir, cache_dir)


@pytest.mark.parametrize(
    ("name", "version"),
    [("cifar10", "10.0.0"), ("CIFAR-10", "10.0.0"), ("cifar10:3.0.2", "3.0.2"), ("Cifar_10:3.*.*", "3.0.2")],
)
def test_a_version_is_chosen_as_in_tfds(data_dir, version_dir, name, version):
    shutil.copytree(version_dir, data_dir / "cifar10" / "10.0.0")
    (data_dir / "cifar10" / "11.0.0").mkdir()  # unfinished
    assert tfds_directory.locate(data.canonical_name(name), data_dir).name == version


def test_a_version_is_part_of_the_name_but_not_of_its_classes(data_dir, cache_dir):
    dataset = data.load("CIFAR-10:3.0.2", data_dir, cache_dir)
    assert (dataset.name, dataset.augment) == ("cifar10:3.0.2", data.load("cifar10", data_dir, cache_dir).augment)
    assert len(list(cache_dir.iterdir())) == 1
    assert data.file_stem(dataset.name) == "cifar10-3.0.2"
    np.testing.assert_array_equal(data.confusions(dataset.name, 10), data.confusions("cifar10", 10))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar10:3.0.1", r"no version 3\.0\.1 of cifar10 in .*tfds/cifar10 \(there: 3\.0\.2\): give one of them"),
        ("cifar10:latest", r"dataset is 'cifar10:latest', expected a version such as 3\.0\.2 after the colon"),
        ("cifar100:3.0.2", r"no prepared cifar100 in .*: run `.* data prepare cifar100 "),
        ("digits:1.0.0", r"dataset is digits:1\.0\.0, expected digits"),
        ("gs://bucket/cifar10", r"gs://bucket/cifar10 is a URL, expected a path on this machine"),
    ],
)
def test_a_version_that_is_not_there_is_one_line(data_dir, name, message):
    with pytest.raises(UserError, match=message):
        data.load(name, data_dir)


def test_a_set_that_is_spelled_otherwise_is_hinted_at(data_dir):
    (data_dir / "cifar10").rename(data_dir / "my_set")
    with pytest.raises(UserError, match=r"unknown dataset 'My-Set': did you mean my_set\? It is prepared in "):
        data.load("My-Set", data_dir)


def test_newest_version_is_read_and_unfinished_ones_are_not(data_dir, version_dir):
    for name in ("3.0.10", "3.0.9"):
        shutil.copytree(version_dir, version_dir.parent / name)
    (version_dir.parent / "4.0.0").mkdir()
    shutil.copytree(version_dir, version_dir.parent / "incomplete.ABCDEF_5.0.0")
    assert tfds_directory.locate("cifar10", data_dir).name == "3.0.10"
