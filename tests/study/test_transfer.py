"""`edl-jax transfer`: from the command to the report, stopped and resumed, and what it refuses."""

import contextlib
import csv
import io
import json
import shutil

import numpy as np
import pytest

from edl_jax import downstream, loss
from edl_jax.cli import main as cli
from edl_jax.core.config import load_preset
from edl_jax.core.runs import Run
from edl_jax.downstream import DownstreamConfig
from edl_jax.pretrain import PretrainConfig
from edl_jax.study.transfer import figures, recording

SMALL = DownstreamConfig(
    arch="mlp", dataset="digits", loss="cross_entropy", epochs=2, warmup_epochs=0.5, train_size=256, batch_size=32
)
FLAGS = ["--examples", "100", "--seed", "3"]


def command(out, *flags):
    """Run the command and return (exit code, standard output)."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = cli.main(["transfer", "--out", str(out), *map(str, flags)])
    return code, text.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished downstream run that keeps few checkpoints: its directory and result."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    return directory, downstream.run(SMALL, out=directory, figures=False)


@pytest.fixture(scope="module")
def compared(trained, tmp_path_factory):
    """A finished comparison: its directory and what was printed."""
    directory = tmp_path_factory.mktemp("transfer") / "out"
    code, out = command(directory, trained[0], *FLAGS)
    assert code == 0
    return directory, out


def test_a_comparison_leaves_report_tables_figures_and_mixtures(compared, trained):
    directory, out = compared
    result = json.loads((directory / "result.json").read_text())
    (training,) = result["trainings"]
    assert training["test_accuracy"] == training["test_accuracy_of_the_run"] == trained[1]["test_accuracy"]
    with (directory / "transfer.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 5  # parts, epochs, quantities
    assert {row["epoch"] for row in rows} == {"0", "1", "2"}
    assert all(float(row["distance_log_uniform"]) > 0.0 for row in rows)
    names = {"densities-1-run.png", "loss-1-run.png", "distance.png", "told_apart.png", "weights.png"}
    assert {path.name for path in (directory / "figures").iterdir()} == names
    found = result["matched"]["1-run"]
    for kind in ("weights", "quantiles"):
        preset = load_preset("pretrain", str(directory / "mixtures" / f"1-run-{kind}.yaml"), PretrainConfig())
        if kind == "weights":
            assert dict(zip(found["weights"], preset.mixture.weights, strict=False)) == pytest.approx(found["weights"])
    values = loss.load(directory / "mixtures" / "1-run-weights.safetensors")(np.eye(10) * 4.0, np.arange(10))
    assert np.all(np.isfinite(values))
    assert out.splitlines()[0].startswith("1-run: real and synthetic predictions told apart with accuracy ")


def test_predictions_are_those_of_the_run(compared, trained):
    """The last ones give its test accuracy, up to the part of the images; each epoch has its own."""
    folder = compared[0] / "runs" / "1-run"
    accuracy = []
    for epoch in (0, 1, 2):
        found = recording.read(folder, epoch)
        assert [len(found[part].labels) for part in recording.PARTS] == [96, 100]
        assert np.bincount(found["train"].labels, minlength=10).min() >= 8
        accuracy.append(np.mean(np.argmax(found["test"].log_p, axis=1) == found["test"].labels))
    assert accuracy[0] < 0.4 < accuracy[2]
    assert accuracy[2] == pytest.approx(trained[1]["test_accuracy"], abs=0.12)


def test_a_comparison_that_was_stopped_ends_with_the_same_numbers(compared, trained, tmp_path, monkeypatch):
    """In its training, before and after the checkpoint that follows the predictions of an epoch."""
    save = Run.save
    monkeypatch.setattr(figures, "draw", lambda *_: [])

    def stopping_at(last, *, saved):
        def stopped(run, step, state):
            if step < last or saved:
                save(run, step, state)
            if step == last:
                raise KeyboardInterrupt

        return stopped

    directory = tmp_path / "out"
    for flags, stopped in (
        ([trained[0], *FLAGS], stopping_at(1, saved=False)),
        (["--resume"], stopping_at(2, saved=True)),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Run, "save", stopped)
            assert command(directory, *flags)[0] == 130
    assert command(directory, "--resume")[0] == 0
    for name in ("transfer.csv", "tests.csv", "mixtures/1-run-weights.yaml"):
        assert (directory / name).read_text() == (compared[0] / name).read_text()


def test_predictions_that_are_gone_are_named(compared, tmp_path, capsys):
    copy = shutil.copytree(compared[0], tmp_path / "copy")
    (copy / "result.json").unlink()
    (copy / "runs" / "1-run" / "predictions" / "epoch-0001.safetensors").write_bytes(b"damaged")
    assert command(copy, "--resume")[0] == 2
    err = capsys.readouterr().err
    assert "epoch-0001.safetensors cannot be read: remove " in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "no run given: edl-jax transfer RUN [RUN ...]"),
        (["nowhere"], "no run at nowhere: expected the directory of a finished downstream run, or a preset of "),
        (["unfinished"], "unfinished is no finished run (result.json is missing)"),
        (["pretrained"], "pretrained is a pretrain run, expected a downstream run"),
        (["debug", "DEBUG"], "DEBUG has the settings of a run before it, expected each training once"),
        (["debug", "--epochs", "2", "9"], "--epochs is 9, expected at most 3: debug has no more"),
        (["debug", "--examples", "9"], "--examples is 9, expected at least 100"),
        (["debug", "--mixture", "crossentropi"], "unknown pretrain preset 'crossentropi': did you mean cross_entropy"),
        (["debug", "--mixture", "unfinished"], "unfinished is a downstream run, expected a run of pretrain for --mix"),
        (["debug", "--mixture", "runs/nowhere"], "no run at runs/nowhere: expected a run or a preset of pretrain"),
        (["moved"], "moved: no folder pictures: expected one that holds train/CLASS/FILE"),
    ],
)
def test_what_cannot_be_compared_is_one_line(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Run.open("pretrain", PretrainConfig(), out="pretrained").close()
    Run.open("downstream", SMALL, out="unfinished").close()
    Run.open("downstream", DownstreamConfig(dataset="./pictures"), out="moved").close()
    (tmp_path / "moved" / "result.json").write_text("{}")
    assert command("out", *flags)[0] == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
