"""Folders of images: exact pixels, the order of `tfds.ImageFolder`, and one line about what is wrong with a folder."""

import os
import random

import cv2
import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_folder(root, *, test="val", sizes=((8, 8),), count=4):
    """Write `count` random images of each of two classes to train, and half of them to `test`; return them by path."""
    rng = np.random.default_rng(0)
    written = {}
    for part, number in (("train", count), (test, count // 2)):
        for name in ("cat", "dog"):
            for i in range(number):
                image = rng.integers(0, 256, (*sizes[i % len(sizes)], 3), np.uint8)
                path = root / part / name / f"{i}.png"
                write(path, image[..., ::-1])  # OpenCV writes BGR
                written[path] = image
    return written


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("EDL_JAX_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "pets"


def clutter(folder):
    """Add what systems and people leave beside images."""
    for name in ("README.txt", "._0.png", ".DS_Store", "Thumbs.db"):
        (folder / "cat" / name).write_text("no image")
    for name in (".cache", "__MACOSX/cat", "cat/empty.png", "cat/deep/.hidden"):
        (folder / name).mkdir(parents=True)
    (folder / "__MACOSX" / "cat" / "0.png").write_text("no image")


def test_names_of_any_bytes(root):
    write_folder(root)
    for part in ("train", "val"):
        (root / part / "dog").rename(root / part / os.fsdecode(b"\xff\n$"))
    root = root.rename(root.with_name(os.fsdecode(b"\xfe[a]")))
    assert data.load(str(root)).label_names == ("cat", os.fsdecode(b"\xff\n$"))


@pytest.mark.parametrize("test", ["val", "test", "validation"])
def test_pixels_labels_and_order(root, test, no_network):
    written = write_folder(root, test=test)
    clutter(root / "train")
    dataset = data.load(str(root))
    assert (dataset.label_names, dataset.num_classes) == (("cat", "dog"), 2)
    for part, images, labels in (
        ("train", dataset.train_images, dataset.train_labels),
        (test, dataset.test_images, dataset.test_labels),
    ):
        paths = sorted(path for path in written if path.parts[-3] == part)
        random.Random({"train": "train"}.get(part, "test")).shuffle(paths)
        np.testing.assert_array_equal(images, np.stack([written[path] for path in paths]))
        assert labels.tolist() == [int(path.parts[-2] == "dog") for path in paths]
    np.testing.assert_allclose(dataset.mean, dataset.train_images.mean((0, 1, 2)) / 255, rtol=1e-6)
    assert dataset.augment == data.Augment(padding=1, flip=True)


def test_grey_files_are_rgb_and_a_class_may_have_no_test_images(root):
    write_folder(root)
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write(root / "train" / "ant" / "0.PNG", grey)
    dataset = data.load(str(root))
    assert dataset.label_names == ("ant", "cat", "dog")
    (found,) = dataset.train_images[dataset.train_labels == 0]
    np.testing.assert_array_equal(found, np.stack([grey] * 3, axis=-1))
    assert set(dataset.test_labels) == {1, 2}


def test_folders_in_a_class_and_links_are_of_that_class(root):
    written = write_folder(root)
    cat = root / "train" / "cat"
    (cat / "indoors" / "asleep.png").mkdir(parents=True)  # a folder that is named as an image
    (cat / "0.png").rename(cat / "indoors" / "asleep.png" / "0.png")
    (cat / "1.png").rename(root / "elsewhere.png")
    (cat / "1.png").symlink_to(root / "elsewhere.png")
    (cat / "indoors" / "up").symlink_to(cat)  # a circle
    (root / "train" / "dog").rename(root / "dogs")
    (root / "train" / "dog").symlink_to(root / "dogs")
    dataset = data.load(root.as_uri())
    assert (dataset.label_names, len(dataset.train_labels)) == (("cat", "dog"), 8)
    for label, name in enumerate(dataset.label_names):
        images = {image.tobytes() for image in dataset.train_images[dataset.train_labels == label]}
        assert images == {image.tobytes() for path, image in written.items() if path.parts[-3:-1] == ("train", name)}


def test_images_of_many_sizes_are_resized(root):
    write_folder(root, sizes=((20, 30), (40, 25)))
    with pytest.raises(UserError, match=r"pets vary in size: give the side .* --image-size 64"):
        data.load(str(root))
    assert data.load(str(root), image_size=16).train_images.shape == (8, 16, 16, 3)


def test_a_folder_without_train_is_one_to_evaluate_on(root):
    write_folder(root, count=4)
    (root / "train").rename(root / "other")
    dataset = data.load(str(root))
    assert (len(dataset.train_images), len(dataset.test_images)) == (0, 4)


def test_a_changed_file_is_read_again(root):
    write_folder(root)
    first = data.load(str(root)).test_images
    write(root / "val" / "cat" / "0.png", np.full((8, 8, 3), 7, np.uint8))
    assert (data.load(str(root)).test_images == 7).all((1, 2, 3)).any()
    assert not (first == 7).all((1, 2, 3)).any()


def break_file(root):
    (root / "train" / "dog" / "1.png").write_bytes(b"no image")


def add_strange_class(root):
    write(root / "val" / "horse" / "0.png", np.zeros((8, 8, 3), np.uint8))


def one_class(root):
    for part in ("train", "val"):
        (root / part / "dog").rename(root / f"{part}-dog")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda root: root.rename(root.parent / "gone"),
            r"no folder .*/pets: expected one that holds train/CLASS",
        ),
        (
            lambda root: (root / "val").rename(root / "dev"),
            r"no folder test, val or validation, it has dev, train: e",
        ),
        (lambda root: (root / "train" / "emu").mkdir(), r"pets/train/emu has no images, expected files named .bmp"),
        (break_file, r"pets/train/dog/1.png is no image that can be decoded: replace the file or take it out"),
        (lambda root: (root / "val" / "dog" / "0.png").write_bytes(b""), r"val/dog/0.png is no image that can be"),
        (add_strange_class, r"pets/val has class \['horse'\] that .*/pets/train has not"),
        (
            lambda root: (root / "val" / "dog" / "9.png").symlink_to("gone.png"),
            r"val/dog/9.png is a link to nothing: mend",
        ),
        (lambda root: (root / "train" / "elk").symlink_to("elk"), r"train/elk is a link to nothing: mend it or take"),
        (one_class, r"pets/train has 1 folder\(s\) of classes, expected at least 2"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_line(root, tmp_path, damage, message):
    write_folder(root)
    damage(root)
    with pytest.raises(UserError, match=message) as error:
        data.load(str(root))
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache").glob("*")) == []


def test_the_home_of_an_unknown_user_is_no_folder():
    with pytest.raises(UserError, match="~nobody-of-this-name/pets cannot be expanded: there is no user nobody-of-"):
        data.load("~nobody-of-this-name/pets")
    assert data.file_stem("~nobody-of-this-name/pets") == "pets"


def test_a_folder_named_without_its_path_is_hinted_at(root, monkeypatch):
    write_folder(root)
    monkeypatch.chdir(root.parent)
    with pytest.raises(UserError, match=r"unknown dataset 'pets'.*; for the folder of images write \./pets"):
        data.load("pets", root.parent)
    assert len(data.load("./pets").train_images) == 8
    assert data.file_stem("./pets") == data.file_stem(str(root)) == "pets"
    assert data.file_stem("cifar10_corrupted/fog_1") == "cifar10_corrupted-fog_1"
