"""Every registered data set: shapes, types, classes, statistics, and errors at once."""

import functools
import shutil
import time

import jax
import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError
from edl_jax.data import decode, registry, tfds_directory, tfds_reader

PREPARED = [name for name in data.names() if registry.spec(name).tfds]


@pytest.fixture
def real(request):
    """Return a function of a name: the TFDS directory that holds the real set; skips where there is none."""

    def find(name):
        data_dir = request.getfixturevalue("real_data_dir")
        if not (data_dir / name).is_dir():
            pytest.skip(f"{name} is not prepared here")
        return data_dir

    return find


def assert_complete(name, dataset):
    spec = registry.spec(name)
    assert dataset.name == name
    assert (dataset.num_classes, dataset.augment) == (spec.num_classes, spec.augment)
    assert len(set(dataset.label_names)) == spec.num_classes
    for images, labels in (
        (dataset.train_images, dataset.train_labels),
        (dataset.test_images, dataset.test_labels),
    ):
        assert images.dtype == np.uint8
        assert images.shape == (len(labels), *spec.image_shape)
        assert labels.dtype == np.int32
        assert images.min() == 0
        assert images.max() == 255
        counts = np.bincount(labels, minlength=spec.num_classes)
        assert len(counts) == spec.num_classes
        assert counts.max() / counts.min() < 1.3
        assert not images.flags.writeable
    assert dataset.mean.dtype == dataset.std.dtype == np.float32
    assert dataset.mean.shape == dataset.std.shape == spec.image_shape[-1:]


def test_digits_are_complete(no_network):
    assert_complete("digits", data.load("digits"))


PUBLISHED = {  # examples of both splits; the first labels as TFDS stores them
    "cifar10": ((50_000, 10_000), "horse", [7, 8, 4, 4, 6]),
    "fashion_mnist": ((60_000, 10_000), "Sneaker", [2, 1, 8, 4, 1]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_real_set_has_its_published_size_and_its_first_images(name, real, no_network):
    """Decodes a few images of each split; all of them in the slow tier."""
    spec, (lengths, seventh, first) = registry.spec(name), PUBLISHED[name]
    source = tfds_reader.source(name, spec.image_shape, spec.num_classes, real(name))
    assert tuple(source.lengths[split] for split in ("train", "test")) == lengths
    assert source.label_names[7] == seventh
    read = source.open()
    for split, length in source.lengths.items():
        for start in (0, length - 50):
            images, labels = read(split, start, start + 50)
            assert {image.shape for image in images} == {spec.image_shape}
            assert {image.dtype for image in images} == {np.dtype(np.uint8)}
            assert set(labels) <= set(range(spec.num_classes))
            assert np.std(np.stack(images)) > 40
    assert read("train", 0, 5)[1] == first


@pytest.mark.slow
@pytest.mark.parametrize("name", PREPARED)
def test_a_real_set_decodes_completely(name, real, tmp_path, no_network):
    dataset = data.load(name, real(name), tmp_path)
    shutil.rmtree(tmp_path)  # 240 MB that pytest would keep
    assert_complete(name, dataset)
    if name in PUBLISHED:
        np.testing.assert_array_equal(np.bincount(dataset.train_labels), len(dataset.train_labels) // 10)
        np.testing.assert_array_equal(np.bincount(dataset.test_labels), 1000)
    if name == "cifar10":
        np.testing.assert_allclose(dataset.mean, [0.49140, 0.48216, 0.44653], atol=1e-5)
        np.testing.assert_allclose(dataset.std, [0.24703, 0.24349, 0.26159], atol=1e-5)
    if name == "fashion_mnist":
        np.testing.assert_allclose([dataset.mean, dataset.std], [[0.2860], [0.3530]], atol=1e-4)
        assert dataset.label_names[9] == "Ankle boot"


def test_statistics_are_mean_and_standard_deviation_of_each_channel():
    rng = np.random.default_rng(0)
    images = rng.integers([0, 50, 200], [256, 60, 201], (7000, 4, 5, 3)).astype(np.uint8)
    mean, std = decode.channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255.0).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (images / 255.0).std(axis=(0, 1, 2)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", data.names())
def test_default_augmentation_keeps_the_shape(name, key):
    spec = registry.spec(name)
    crop = functools.partial(data.random_crop_flip, padding=spec.augment.padding, flip=spec.augment.flip)
    cropped = jax.eval_shape(crop, key, jax.ShapeDtypeStruct((4, *spec.image_shape), "uint8"))
    assert (cropped.shape, cropped.dtype) == ((4, *spec.image_shape), "uint8")


def test_digits_are_never_mirrored():
    assert not registry.spec("digits").augment.flip
    assert not registry.spec("mnist").augment.flip


def test_digits_split_is_fixed_and_loses_nothing():
    from sklearn.datasets import load_digits

    first, second = data.load("digits"), data.load("digits")
    np.testing.assert_array_equal(first.train_images, second.train_images)
    assert (len(first.train_images), len(first.test_images)) == (1437, 360)
    images = np.concatenate([first.train_images, first.test_images]).reshape(1797, -1)
    labels = np.concatenate([first.train_labels, first.test_labels])
    pixels, targets = load_digits(return_X_y=True)
    rows = np.column_stack([np.rint(images * (16 / 255)).astype(int), labels])
    expected = np.column_stack([pixels.astype(int), targets])
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_unknown_name_lists_the_closest():
    with pytest.raises(UserError, match="unknown dataset 'cifar11': did you mean cifar10"):
        data.load("cifar11")


@pytest.mark.parametrize("name", PREPARED)
def test_absent_data_is_reported_at_once_without_network(name, tmp_path, no_network):
    start = time.perf_counter()
    with pytest.raises(UserError) as error:
        data.load(name, tmp_path, tmp_path / "cache")
    assert time.perf_counter() - start < 2.0
    assert f"edl-jax data prepare {name} --data-dir {tmp_path}" in str(error.value)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_default_directory_is_that_of_tfds(monkeypatch, tmp_path):
    from tensorflow_datasets.core import constants

    assert str(tfds_directory.default_data_dir()) == constants.get_default_data_dir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert tfds_directory.default_data_dir() == tmp_path
    with pytest.raises(UserError, match=str(tmp_path)):
        data.load("cifar10")
