"""The split of a search: stratified, disjoint, without a test image; batches that go on where they stopped."""

import dataclasses

import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError
from edl_jax.search.split import batches, split

SHARES = (500, 300, 200)


@pytest.fixture(scope="module")
def dataset():
    labels = np.repeat(np.arange(3), SHARES).astype(np.int32)
    images = np.arange(1000, dtype=np.uint32).view(np.uint8).reshape(1000, 2, 2, 1)  # each image another
    unread = np.zeros((0, 2, 2, 1), np.uint8)
    return data.Dataset(
        "numbers",
        images,
        labels,
        unread,
        labels[:0],
        3,
        ("a", "b", "c"),
        np.zeros(1),
        np.ones(1),
        data.Augment(0, False),
        "digest",
    )


def rows(images):
    return np.ascontiguousarray(images).reshape(-1).view(np.uint32).tolist()


def test_parts_are_disjoint_and_keep_shares(dataset):
    parts = split(dataset, 3)
    train, validation = rows(parts.train_images), rows(parts.validation_images)
    assert sorted(train + validation) == list(range(1000))
    assert np.bincount(parts.validation_labels).tolist() == [50, 30, 20]
    np.testing.assert_array_equal(parts.train_labels, dataset.train_labels[train])
    np.testing.assert_array_equal(parts.validation_labels, dataset.train_labels[validation])
    # The first of the validation examples are a sample of all classes.
    assert np.bincount(parts.validation_labels[:20], minlength=3).min() >= 1
    assert parts.images.mean[0] == pytest.approx(parts.train_images.mean() / 255)
    assert parts.images.std[0] == pytest.approx(parts.train_images.std() / 255)


def test_seed_and_size(dataset):
    first, again, other = split(dataset, 3), split(dataset, 3), split(dataset, 4)
    assert rows(first.validation_images) == rows(again.validation_images)
    assert rows(first.validation_images) != rows(other.validation_images)
    small = split(dataset, 3, validation=0.25, size=200)
    assert np.bincount(small.train_labels).tolist() == [75, 45, 30]
    assert np.bincount(small.validation_labels).tolist() == [25, 15, 10]


def test_batches_go_on():
    few, more = batches(5, 50, 3, 20), batches(5, 50, 6, 20)
    np.testing.assert_array_equal(few, more[:3])
    assert all(len(set(row)) == 20 for row in more.tolist())
    assert more.max() < 50
    assert not np.array_equal(few, batches(6, 50, 3, 20))


def test_bad_input(dataset):
    with pytest.raises(UserError, match="size is 2000, expected 2 to 1000"):
        split(dataset, 0, size=2000)
    with pytest.raises(UserError, match=r"validation is 1\.0, expected a share"):
        split(dataset, 0, validation=1.0)
    with pytest.raises(UserError, match="batch_size is 9, expected 1 to the 8"):
        batches(0, 8, 1, 9)
    assert "test" not in {field.name for field in dataclasses.fields(split(dataset, 0))}
