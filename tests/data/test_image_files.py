"""Image files as people have them: which are found, in what order, and their pixels."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from edl_jax import data
from edl_jax.core.errors import UserError


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def palette_png(indices, colours):
    """A PNG with a palette, which OpenCV does not write."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = indices.shape
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", colours.tobytes()), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_files_are_found_as_given_and_folders_in_order(tmp_path, caplog):
    pixel = np.zeros((1, 1), np.uint8)
    for name in ("b/z.png", "b/a.PNG", "b/c/d.jpg", "b/.hidden.png", "b/._a.png", "b/.cache/x.png", "b/x.png/y.bmp"):
        write(tmp_path / name, pixel)
    (tmp_path / "b" / "labels.txt").write_text("no image")
    (tmp_path / "b" / "gone.png").symlink_to("nowhere")
    (tmp_path / "b" / "c" / "circle").symlink_to("..")
    write(tmp_path / "a.png", pixel)
    found = data.find_images([tmp_path / "b", tmp_path / "a.png", tmp_path / "b" / "labels.txt"])
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        *("b/a.PNG", "b/c/d.jpg", "b/gone.png", "b/x.png/y.bmp", "b/z.png"),
        *("a.png", "b/labels.txt"),
    ]
    assert caplog.messages == [f"{tmp_path / 'b'}: left out 1 of 6 files, by their names no images"]


def test_pixels_are_those_of_a_network_with_colours_or_without(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    deep = np.arange(24, dtype=np.uint16).reshape(6, 4) * 2700
    write(tmp_path / "rgb.png", rgb[..., ::-1])
    write(tmp_path / "alpha.png", np.dstack([rgb[..., ::-1], np.full((6, 4), 9, np.uint8)]))
    write(tmp_path / "deep.png", deep)
    indices, colours = np.arange(24, dtype=np.uint8).reshape(6, 4), rgb.reshape(-1, 3)
    (tmp_path / "palette.png").write_bytes(palette_png(indices, colours))
    for name in ("rgb", "alpha", "palette"):
        np.testing.assert_array_equal(data.read_image(tmp_path / f"{name}.png"), rgb)
        grey = data.read_image(tmp_path / f"{name}.png", 1)
        assert grey.shape == (6, 4, 1)
        np.testing.assert_allclose(grey[..., 0], rgb @ [0.299, 0.587, 0.114], atol=1.1)
    np.testing.assert_allclose(data.read_image(tmp_path / "deep.png", 1)[..., 0], deep / 256, atol=1.0)
    np.testing.assert_array_equal(np.ptp(data.read_image(tmp_path / "deep.png"), axis=-1), 0)


def test_what_is_no_image_is_one_line(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
    for name, message in (
        ("text.png", "text.png is no image that can be decoded"),
        ("pipe.png", "pipe.png is no file that can be read"),
        ("gone.png", "gone.png is no file that can be read"),
    ):
        with pytest.raises(UserError, match=message):
            data.read_image(tmp_path / name)
    (tmp_path / "empty").mkdir()
    for paths, message in (
        ([], "no images given"),
        ([tmp_path / "gone.png"], "no image or folder .*gone.png"),
        ([tmp_path / "empty"], "empty has no images, expected files named .bmp"),
    ):
        with pytest.raises(UserError, match=message):
            data.find_images(paths)


def test_images_are_cut_from_the_centre_of_what_covers_a_rectangle():
    image = np.zeros((40, 90, 1), np.uint8)
    image[:, 30:60] = 200
    found = data.resize(image, (20, 12))
    assert found.shape == (20, 12, 1)
    assert (found == 200).all()  # the centre of 20 x 45
    np.testing.assert_array_equal(data.resize(image[..., 0], (20, 12)), found[..., 0])
    np.testing.assert_array_equal(data.resize(image.swapaxes(0, 1), (12, 20)), found.swapaxes(0, 1))
    strip = np.full((1, 200_000, 3), 7, np.uint8)  # 10 GB, were all of it scaled
    assert (data.resize(strip, 128) == 7).all()
