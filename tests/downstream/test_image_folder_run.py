"""From a folder of images to a trained and evaluated classifier, as a user types it."""

import json
import os

import cv2
import numpy as np
import pytest

from edl_jax import data
from edl_jax.cli import main as cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two of the digits, as ImageNet lays out its files."""
    root, digits = tmp_path_factory.mktemp("folder") / "zeros_and_ones", data.load("digits")
    parts = {
        "train": (digits.train_images, digits.train_labels),
        "val": (digits.test_images, digits.test_labels),
    }
    for part, (images, labels) in parts.items():
        for label, name in enumerate(("zero", "one")):
            (root / part / name).mkdir(parents=True)
            for i in np.flatnonzero(labels == label):
                assert cv2.imwrite(str(root / part / name / f"{i}.png"), images[i])
    return root


def test_a_folder_is_trained_on_streamed_and_evaluated(folder, tmp_path, monkeypatch, capsys, no_figures):
    monkeypatch.setenv("EDL_JAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(folder.parent)
    out = tmp_path / "run"
    line = [
        "downstream",
        "--config",
        "debug",
        "--dataset",
        "./zeros_and_ones",
        "--train-size",
        "200",
        "--loop",
        "stream",
    ]
    assert cli.main([*line, "--loss", "cross_entropy", "--out", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    assert (result["loop"], result["dataset"]) == ("stream", "./zeros_and_ones")
    assert result["test_accuracy"] > 0.9
    assert cli.main(["evaluate", str(out)]) == 0
    assert json.loads((out / "evaluation" / "zeros_and_ones.json").read_text())["accuracy"] == result["test_accuracy"]
    capsys.readouterr()
    # Files that were touched are the same set; one that was replaced makes another.
    image, other, *_ = sorted((folder / "train" / "one").iterdir())
    os.utime(image, (0, 0))
    assert cli.main([*line, "--loss", "cross_entropy", "--out", str(out), "--resume"]) == 0
    content = image.read_bytes()
    image.write_bytes(other.read_bytes())
    assert cli.main([*line, "--loss", "cross_entropy", "--out", str(out), "--resume"]) == 2
    err = capsys.readouterr().err
    assert f"cannot resume {out}: the content of data set ./zeros_and_ones is not what the run began with" in err
    assert err.count("\n") == 1
    image.write_bytes(content)
    (folder / "train" / "one" / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    assert cli.main([*line, "--out", str(tmp_path / "other")]) == 2
    assert "train/one/broken.jpg is no image that can be decoded: replace the file" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
