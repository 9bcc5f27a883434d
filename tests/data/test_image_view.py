"""A view reads what it is asked for, and no more."""

import numpy as np
import pytest

from edl_jax.data import ImageView

IMAGES = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2, 1)


class Counting(np.ndarray):
    """An array that notes how many images were read."""

    read = 0

    def __getitem__(self, index):
        found = np.asarray(super().__getitem__(index))
        Counting.read += len(found)
        return found


def test_a_view_of_a_view_is_that_of_an_array():
    rows = np.array([5, 0, 3, 2])
    view = ImageView(IMAGES).select(rows)
    kept = np.array([True, False, True, True])
    for found, expected in (
        (view, IMAGES[rows]),
        (view[1:3], IMAGES[rows][1:3]),
        (view[np.array([2, 2])], IMAGES[rows][[2, 2]]),
        (view.select(kept), IMAGES[rows][kept]),
        (view.select(slice(2)), IMAGES[rows][:2]),
    ):
        np.testing.assert_array_equal(found, expected)
        assert (found.shape, found.dtype, found.nbytes) == (expected.shape, expected.dtype, expected.nbytes)
    assert len(view) == 4


def test_selecting_reads_nothing():
    Counting.read = 0
    view = ImageView(IMAGES.view(Counting)).select(np.array([4, 1, 2])).select(slice(2))
    assert Counting.read == 0
    np.testing.assert_array_equal(view[1:], IMAGES[[1]])
    assert Counting.read == 1


def test_everything_is_no_copy():
    assert np.shares_memory(np.asarray(ImageView(IMAGES)), IMAGES)
    with pytest.raises(ValueError, match="copy"):
        np.array(ImageView(IMAGES).select(np.array([0])), dtype=np.int32, copy=False)
