"""Sets that are not listed: any image classification that TFDS has prepared, by name, with configs and resizing."""

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core.features import image_feature

from edl_jax import data
from edl_jax.core.errors import UserError
from edl_jax.data import images
from edl_jax.data.prepare import encode_png


def write_set(root, name, splits, *, config=None, shape=(None, None, 3), **features):
    """Write a set as TFDS does. `splits`: name to (images, labels)."""
    described = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(num_classes=3),
        **features,
    }

    def info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(described))

    def split_generators(self, _):
        return {split: self._generate_examples(*found) for split, found in splits.items()}

    def generate(self, pictures, labels):
        for i, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
            yield i, {"image": picture, "label": int(label), **dict.fromkeys(features, 0)}

    members = {
        "name": name,
        "pkg_dir_path": epath.Path(root),  # where TFDS would look for a list of checksums
        "VERSION": tfds.core.Version("1.0.0"),
        "BUILDER_CONFIGS": [tfds.core.BuilderConfig(name=config)] if config else [],
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": generate,
    }
    with tfds.core.registered.skip_registration():
        builder = type("Builder", (tfds.core.GeneratorBasedBuilder,), members)(data_dir=str(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_feature._ImageEncoder, "_encode_image", lambda _, image: encode_png(image))
        builder.download_and_prepare(file_format="array_record")


def pictures(count, *, side=None, channels=3, seed=0):
    """Return images of one size, or of sizes between 20 and 40, and labels 0, 1, 2, 0 ..."""
    rng = np.random.default_rng(seed)
    sizes = [(side, side)] * count if side else rng.integers(20, 41, (count, 2))
    return [rng.integers(0, 256, (*size, channels), np.uint8) for size in sizes], np.arange(count) % 3


def in_order(found):
    """Return images sorted by their bytes: TFDS shuffles what it writes."""
    return sorted((np.asarray(image) for image in found), key=lambda image: image.tobytes())


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("EDL_JAX_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "tfds").mkdir()
    return tmp_path / "tfds"


def test_a_set_with_a_validation_split_is_read_as_it_is(root, no_network):
    train, labels = pictures(7, side=16)
    write_set(root, "flowers", {"train": (train, labels), "validation": (train[:2], labels[:2])}, shape=(16, 16, 3))
    dataset = data.load("flowers", root)
    np.testing.assert_array_equal(in_order(dataset.train_images), in_order(train))
    label_of = {image.tobytes(): label for image, label in zip(train, labels, strict=True)}
    assert dataset.train_labels.tolist() == [label_of[image.tobytes()] for image in dataset.train_images]
    np.testing.assert_array_equal(in_order(dataset.test_images), in_order(train[:2]))
    assert (dataset.num_classes, dataset.augment) == (3, data.Augment(padding=2, flip=True))
    again = data.load("flowers", root)  # from the cache
    np.testing.assert_array_equal(again.train_images, dataset.train_images)


def test_images_of_many_sizes_are_resized(root):
    train, labels = pictures(5)
    write_set(root, "food", {"train": (train, labels), "test": (train[:2], labels[:2])})
    with pytest.raises(UserError, match=r"vary in size: give the side .* --image-size 64"):
        data.load("food", root)
    small, large = data.load("food", root, image_size=8), data.load("food", root, image_size=48)
    assert (small.train_images.shape, large.test_images.shape) == ((5, 8, 8, 3), (2, 48, 48, 3))
    expected = []
    for image in train:
        height, width = image.shape[:2]
        scale = 8 / min(height, width)
        scaled = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        top, left = (scaled.shape[0] - 8) // 2, (scaled.shape[1] - 8) // 2
        expected.append(scaled[top : top + 8, left : left + 8])
    np.testing.assert_array_equal(in_order(small.train_images), in_order(expected))


def test_a_config_with_test_images_alone_can_be_evaluated_on(root):
    test, labels = pictures(4, side=12, channels=1)
    write_set(root, "moved", {"test": (test, labels)}, config="left_1", shape=(12, 12, 1))
    dataset = data.load("moved/left_1", root)
    assert (dataset.train_images.shape, dataset.train_labels.shape) == ((0, 12, 12, 1), (0,))
    np.testing.assert_array_equal(in_order(dataset.test_images), in_order(test))
    np.testing.assert_allclose(dataset.mean, np.stack(test).mean((0, 1, 2)) / 255, rtol=1e-6)
    with pytest.raises(UserError, match=r"unknown dataset 'moved'.*\(there: moved/left_1\)"):
        data.load("moved", root)


def test_of_two_labels_the_one_of_that_name_counts(root):
    train, labels = pictures(3, side=8)
    coarse = tfds.features.ClassLabel(num_classes=2)
    write_set(root, "two", {"train": (train, labels), "test": (train, labels)}, shape=(8, 8, 3), coarse_label=coarse)
    assert data.load("two", root).num_classes == 3


@pytest.mark.parametrize("name", ["flowers/../food", "a/b/c", "flowers/", ""])
def test_a_name_that_is_a_path_is_unknown(root, name):
    with pytest.raises(UserError, match="unknown dataset"):
        data.load(name, root)


def test_characters_are_not_mirrored(root):
    train, labels = pictures(3, side=8)
    write_set(root, "svhn_cropped", {"train": (train, labels), "test": (train, labels)}, shape=(8, 8, 3))
    assert not data.load("svhn_cropped", root).augment.flip


@pytest.mark.parametrize("size", [0, -3, 5000])
def test_sizes_out_of_range(size):
    with pytest.raises(UserError, match=f"image_size is {size}, expected the side of the images in pixels"):
        data.load("digits", image_size=size)


def test_known_sets_are_resized_too():
    digits = data.load("digits", image_size=16)
    assert digits.train_images.shape == (1437, 16, 16, 1)
    same = images.resize(data.load("digits").train_images[5], 16)
    np.testing.assert_array_equal(digits.train_images[5], same)
