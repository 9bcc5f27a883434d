"""`python run.py evaluate RUN`: the metrics and figures of a trained classifier."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from matplotlib.image import imread

from edl_jax import data
from edl_jax.cli import main as cli
from edl_jax.downstream import evaluate, load_classifier


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def test_the_metrics_are_those_of_training_and_more(finished, run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert cli.main(["evaluate", str(run), "--temperature"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((run / "evaluation" / "digits.json").read_text())
    result = finished[1]
    for name in ("accuracy", "nll", "ece"):
        assert found[name] == pytest.approx(result[f"test_{name}"], rel=1e-5)
    assert f"accuracy {result['test_accuracy']:.4f}" in shown
    confusion = np.array(found["confusion"])
    assert confusion.sum(axis=1).tolist() == np.bincount(data.load("digits").test_labels).tolist()
    assert np.trace(confusion) / confusion.sum() == pytest.approx(found["accuracy"])
    assert found["top5_accuracy"] >= found["accuracy"]
    assert found["scaled"]["accuracy"] == pytest.approx(found["accuracy"])  # a temperature moves no argmax
    assert found["scaled"]["nll"] < found["nll"] + 0.01
    for name in ("reliability", "confusion", "curves"):
        assert imread(run / "evaluation" / f"digits-{name}.png").shape[0] > 300
    for path, content in before.items():
        assert path.read_bytes() == content, path  # the run itself is left as it is


def test_the_precision_is_that_of_the_run_as_in_predict(finished, run, no_figures):
    file = run / "classifier.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "precision": "bfloat16"}))  # trained on a GPU, say
    found, digits = evaluate.run(run), data.load("digits")
    logits = np.asarray(load_classifier(run).compile(len(digits.test_labels))(digits.test_images), np.float64)
    nll = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), digits.test_labels]
    assert found["nll"] == pytest.approx(nll.mean(), rel=1e-5)
    assert found["nll"] != pytest.approx(finished[1]["test_nll"], rel=1e-5)


def test_an_evaluation_is_replaced_only_when_asked_to(run, capsys, no_figures):
    earlier = run / "evaluation" / "digits.json"
    earlier.parent.mkdir()
    earlier.write_text("{}")
    assert cli.main(["evaluate", str(run)]) == 2
    assert "digits.json exists: give --overwrite to replace it" in capsys.readouterr().err
    assert earlier.read_text() == "{}"
    assert cli.main(["evaluate", str(run), "--overwrite"]) == 0
    assert json.loads(earlier.read_text())["dataset"] == "digits"


def test_a_damaged_newest_checkpoint_leaves_the_one_before(run, caplog, no_figures):
    older, newest = sorted((run / "checkpoints").iterdir(), key=lambda path: int(path.stem))
    newest.write_bytes(b"")
    found = evaluate.run(run)
    assert found["epoch"] == int(older.stem)
    assert "is unreadable, going on from" in caplog.text
    assert newest.is_file()  # nothing was removed


def test_the_artifact_of_the_loss_may_be_gone(finished, run, no_figures):
    record = json.loads((run / "config.json").read_text())
    record["config"] |= {"loss": "gone/loss.safetensors", "label_noise": 0.4}
    (run / "config.json").write_text(json.dumps(record))
    assert evaluate.run(run)["accuracy"] == pytest.approx(finished[1]["test_accuracy"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "digts"], "unknown dataset 'digts': did you mean digits"),
        (["--data-sett", "digits"], "unknown flag --data-sett"),
    ],
)
def test_flags_that_cannot_be_used(run, flags, message, capsys):
    assert cli.main(["evaluate", str(run), *flags]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (run / "evaluation").exists()


def test_directories_that_cannot_be_evaluated(run, tmp_path, capsys):
    def message():
        assert cli.main(["evaluate", str(run)]) == 2
        return capsys.readouterr().err

    shutil.rmtree(run / "checkpoints")
    assert "has no checkpoint: train it with" in message()
    record = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**record, "command": "pretrain"}))
    assert "is a pretrain run, expected a downstream run" in message()
    (run / "config.json").write_text(json.dumps({**record, "config": {"epochs": 0}}))
    assert f"error: {run / 'config.json'}: epochs is 0, expected at least 1" in message()
    (run / "config.json").write_text(json.dumps({**record, "command": "downstream-seeds"}))
    shutil.copytree(run, run / "seed-3")
    assert f"expected one of them, such as {run / 'seed-3'}\n" in message()
    (run / "config.json").write_text("{")
    assert "cannot be read" in message()
    (run / "config.json").unlink()
    assert "no run at" in message()


def test_a_test_set_without_training_images_whose_name_has_a_slash(run, monkeypatch):
    digits, name = data.load("digits"), "digits_corrupted/brightness_1"
    arrays = {"train_images": digits.train_images[:0], "train_labels": digits.train_labels[:0]}
    bright = np.minimum(digits.test_images.astype(int) + 60, 255).astype(np.uint8)
    other = dataclasses.replace(digits, name=name, test_images=bright, **arrays)

    def load(wanted, *args, **kwargs):
        assert wanted == name, "the set of training is not needed"
        return other

    monkeypatch.setattr(data, "load", load)
    assert cli.main(["evaluate", str(run), "--dataset", name]) == 0
    stem = "digits_corrupted-brightness_1"
    assert {path.name for path in (run / "evaluation").iterdir()} == {
        f"{stem}.json",
        *(f"{stem}-{figure}.png" for figure in ("curves", "confusion", "reliability")),
    }
    assert json.loads((run / "evaluation" / f"{stem}.json").read_text())["dataset"] == name


def test_another_data_set_must_have_the_same_images_and_classes(run, monkeypatch, capsys):
    digits = data.load("digits")
    wide = np.zeros((4, 9, 9, 1), np.uint8)
    other = digits.__class__(**{**vars(digits), "name": "wide", "test_images": wide, "test_labels": np.zeros(4, int)})
    load = data.load
    monkeypatch.setattr(data, "load", lambda name, *args, **kwargs: other if name == "wide" else load(name, *args))
    assert cli.main(["evaluate", str(run), "--dataset", "wide"]) == 2
    assert "wide has image shape (9, 9, 1), expected (8, 8, 1): the network was trained on digits" in (
        capsys.readouterr().err
    )
