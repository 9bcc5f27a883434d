"""`python run.py predict RUN IMAGE...`: classes of image files, from the run directory alone."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from edl_jax import data, downstream
from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """The test images of digits as files of a folder, named by their places."""
    folder = tmp_path_factory.mktemp("images")
    for i, image in enumerate(data.load("digits").test_images):
        assert cv2.imwrite(str(folder / f"{i:03}.png"), image)
    return folder


@pytest.fixture
def no_data(monkeypatch):
    """No data set can be read."""

    def load(*args, **kwargs):
        raise UserError("a data set is read")

    monkeypatch.setattr(data, "load", load)


def test_files_are_classified_as_the_test_images_were(finished, images, tmp_path, no_data):
    labels = data.registry.digits.source().open()("test", 0, 360)[1]
    out = tmp_path / "found.csv"
    assert cli.main(["predict", str(finished[0]), str(images), "--top", "11", "--out", str(out)]) == 0
    with out.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows[::10]] == [str(images / f"{i:03}.png") for i in range(360)]
    assert [int(row["rank"]) for row in rows] == [*range(1, 11)] * 360
    found = np.zeros((360, 10))
    for i, row in enumerate(rows):
        found[i // 10, int(row["class"])] = float(row["probability"])
    # What training reported of the same images, by other code.
    assert (found.argmax(1) == labels).mean() == finished[1]["test_accuracy"]
    np.testing.assert_allclose(-np.log(found[range(360), labels]).mean(), finished[1]["test_nll"], rtol=1e-4)


def test_files_that_cannot_be_read_are_named_and_the_others_predicted(finished, images, tmp_path, capsys):
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(images / "000.png", folder / "good\nname.png")
    assert cv2.imwrite(str(folder / "large.png"), np.zeros((30, 70, 3), np.uint8))
    (folder / "text.png").write_text("no image")
    assert cli.main(["predict", str(finished[0]), str(folder), str(folder / "gone.png")]) == 2
    assert "no image or folder" in capsys.readouterr().err  # before anything is predicted
    assert cli.main(["predict", str(finished[0]), str(folder), "--top", "2"]) == 2
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert [line.split("   ")[0].strip() for line in lines] == [f"{folder}/good\\nname.png", f"{folder}/large.png"]
    assert len(lines[0].split("   ")) == 3
    assert shown.err.splitlines() == [
        f"error: {folder}/text.png is no image that can be decoded: replace the file or take it out of the folder",
        "error: 1 of 3 images cannot be read, as said above: replace them; the others are done",
    ]


def test_a_temperature_that_was_fitted_divides_the_logits(finished, images, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    file = run / "evaluation" / "digits.json"
    file.parent.mkdir()

    def log_ratios(**options):
        (found,) = downstream.predict(run, [images / "007.png"], top=10, **options)
        p = np.log([found.probabilities[found.labels.index(str(i))] for i in range(10)])
        return p - p[0]

    with pytest.raises(UserError, match=r"no evaluation .*digits.json.*evaluate .* --temperature"):
        log_ratios(temperature=True)
    file.write_text(json.dumps({"epoch": 4, "temperature": 2.0}))
    np.testing.assert_allclose(2.0 * log_ratios(temperature=True), log_ratios(), rtol=1e-6)
    file.write_text(json.dumps({"epoch": 3, "temperature": 2.0}))
    with pytest.raises(UserError, match="is of epoch 3, not 4"):
        log_ratios(temperature=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--top", "0"], "--top is 0, expected at least 1"),
        (["--format", "xml"], "unknown format 'xml': choose from csv, table"),
        (["--out", "images"], "images is a folder, expected a file"),
        (["--out", "images/000.png"], "000.png exists: give --overwrite to replace it"),
        (["--out", "images/000.png/found.csv"], "000.png is a file, expected a folder"),
    ],
)
def test_flags_that_cannot_be_used(finished, images, flags, message, monkeypatch, capsys):
    monkeypatch.chdir(images.parent)
    monkeypatch.setattr(downstream.Classifier, "compile", lambda *_: pytest.fail("work began"))
    flags = [flag.replace("images", images.name, 1) for flag in flags]
    before = (images / "000.png").read_bytes()
    assert cli.main(["predict", str(finished[0]), str(images), *flags]) == 2
    assert message in capsys.readouterr().err.replace(images.name, "images")
    assert (images / "000.png").read_bytes() == before


def test_a_run_of_an_earlier_release_needs_its_data_set(finished, tmp_path, monkeypatch):
    run = shutil.copytree(finished[0], tmp_path / "run")
    expected = downstream.load_classifier(run).signature
    file = run / "classifier.json"
    content = json.loads(file.read_text())
    file.unlink()
    assert downstream.load_classifier(run).signature == expected
    monkeypatch.setattr(data, "load", lambda *_, **__: (_ for _ in ()).throw(UserError("it is absent")))
    with pytest.raises(UserError, match="so that the data set is needed: it is absent"):
        downstream.load_classifier(run)
    for damaged in ({}, [], {**content, "mean": [0.1, 0.2]}, {**content, "image_shape": [8, 8]}, {**content, "std": 1}):
        file.write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=r"classifier.json cannot be read \(.*remove it to have the data set"):
            downstream.load_classifier(run)
    file.write_text(json.dumps(content))
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match=r"has no checkpoint: train it with edl-jax downstream --out .* --resume"):
        downstream.load_classifier(run)
