"""Weight averaging, validation, target accuracy, the full report and TensorBoard in stage 2."""

import dataclasses
import json
import shutil
import struct
import time

import jax
import numpy as np
import pytest
from downstream_cases import SMALL, changed, numbers, rows_of, run
from matplotlib.image import imread

from edl_jax import data, loss, training
from edl_jax.cli import main as cli
from edl_jax.core.config import to_dict
from edl_jax.core.errors import UserError
from edl_jax.core.runs import Run, read_checkpoint
from edl_jax.downstream import DownstreamConfig, evaluate, summary_line, task as tasks
from edl_jax.downstream.classifier import read_config
from edl_jax.downstream.result import best_epoch, time_to_target
from edl_jax.plot import classifier
from edl_jax.study import summary
from edl_jax.training.tensorboard import Scalars

OPTIONS = changed(ema=0.9, val_size=96, label_noise=0.25, target_accuracy=0.6, loop="scan")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with all of it: its directory and result."""
    directory = tmp_path_factory.mktemp("options") / "run"
    return directory, run(OPTIONS, out=directory, figures=True, tensorboard=True)


def state_of(directory, config):
    task = tasks.prepare_task(config, None, None)
    optimizer = tasks.make_optimizer(config, task.schedule)
    create = jax.jit(lambda key: tasks.initial_state(key, config, task.model, task.images.shape[1:], optimizer))
    return task, read_checkpoint(directory, create(jax.random.key(0)))[1]


def test_what_is_reported_is_of_the_average(finished):
    directory, result = finished
    task, state = state_of(directory, OPTIONS)

    @jax.jit
    def logits_of(variables):
        images = training.make_prepare(task.dataset, np.float32)(task.dataset.test_images)
        return task.model.apply(variables, images, train=False)

    def accuracy(variables):
        return float(np.mean(np.argmax(logits_of(variables), axis=-1) == task.dataset.test_labels))

    assert result["test_accuracy"] == pytest.approx(accuracy(state.average))
    assert result["test_accuracy_last_weights"] == pytest.approx(accuracy(state.variables))
    assert result["test_accuracy"] != result["test_accuracy_last_weights"]
    assert rows_of(directory)[-1]["test_accuracy"] == result["test_accuracy"]


def test_the_average_is_what_is_evaluated(finished, tmp_path, no_figures):
    directory, result = finished
    shutil.copytree(directory, tmp_path / "run")
    found = evaluate.run(tmp_path / "run")
    assert found["nll"] == pytest.approx(result["test_nll"], rel=1e-5)
    assert found["accuracy"] == result["test_accuracy"] != result["test_accuracy_last_weights"]


def test_nothing_is_chosen_on_the_test_set(finished):
    directory, result = finished
    rows = rows_of(directory)
    best = max(rows, key=lambda row: row["val_accuracy"])
    assert result["best_epoch"] == best["epoch"]
    assert result["best_val_accuracy"] == best["val_accuracy"]
    assert result["test_accuracy_at_best_val"] == best["test_accuracy"]
    assert "best_test_accuracy" not in result
    for row in rows:
        assert row["val_nll"] > 0.0
        assert 0.0 <= row["val_ece"] <= 1.0
        assert row["val_accuracy"] < row["test_accuracy"]  # a quarter of its labels is wrong


def test_best_epoch_is_that_of_the_test_set_where_there_is_no_other():
    rows = [{"epoch": e, "test_accuracy": a, "val_accuracy": 1 - a} for e, a in ((1, 0.5), (2, 0.75), (3, 0.25))]
    assert best_epoch(rows) == {"best_epoch": 3, "best_val_accuracy": 0.75, "test_accuracy_at_best_val": 0.25}
    for row in rows:
        del row["val_accuracy"]
    assert best_epoch(rows) == {"best_epoch": 2, "best_test_accuracy": 0.75}


def test_target_is_reached_at_the_first_epoch_and_counts_training_alone():
    rows = [
        {"epoch": epoch, "test_accuracy": accuracy, "train_seconds": 2.0, "seconds": 100.0}
        for epoch, accuracy in ((1, 0.4), (2, 0.6), (3, 0.5), (4, 0.7))
    ]
    assert time_to_target(rows, 0.6) == {"epochs_to_target": 2, "seconds_to_target": 4.0}
    assert time_to_target(rows, 0.9) == {"epochs_to_target": None, "seconds_to_target": None}
    assert time_to_target(rows, None) == {}
    rows = [{**row, "val_accuracy": row["test_accuracy"] - 0.2} for row in rows]
    assert time_to_target(rows, 0.45) == {"epochs_to_target": 4, "seconds_to_target": 8.0}


def test_full_report_and_figures(finished):
    directory, result = finished
    report = json.loads((directory / "report.json").read_text())
    confusion = np.array(report["confusion"])
    assert confusion.sum(axis=1).tolist() == np.bincount(data.load("digits").test_labels).tolist()
    assert np.trace(confusion) / confusion.sum() == pytest.approx(result["test_accuracy"])
    expected = np.diag(confusion) / confusion.sum(axis=1)
    np.testing.assert_allclose(report["per_class_accuracy"], expected)
    for name in ("top5_accuracy", "brier", "ece_equal_mass"):
        assert result[f"test_{name}"] == report[name]
    assert result["test_top5_accuracy"] > result["test_accuracy"]
    assert result["peak_memory_mib"] > 50.0
    for name in ("curves", "reliability", "confusion"):
        assert imread(directory / "figures" / f"{name}.png").shape[0] > 300


def test_a_figure_that_fails_is_a_warning_and_drawn_by_the_next_resume(finished, tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise RuntimeError("no fonts\nat all")

    directory = shutil.copytree(finished[0], tmp_path / "run")
    files = {path.name: path.read_bytes() for path in (directory / "figures").iterdir()}
    (directory / "figures" / "curves.png").unlink()
    options = {"out": directory, "resume": True, "figures": True}
    with monkeypatch.context() as patch:
        patch.setattr(classifier, "training_curves", fail)
        assert run(OPTIONS, **options) == json.loads((directory / "result.json").read_text())
    assert "figures: curves.png (RuntimeError: no fonts at all)" in caplog.messages[0]
    assert "give the command with --out and --resume" in caplog.messages[0]
    run(OPTIONS, **options)
    assert {path.name: path.read_bytes() for path in (directory / "figures").iterdir()} == files
    assert len(caplog.messages) == 1


def test_validation_is_drawn_from_what_is_at_hand_with_each_label_s_share():
    config = changed(val_size=100, label_noise=0.4, train_size=800, seed=3)
    task = tasks.prepare_task(config, None, None)
    assert (len(task.images), len(task.val_images)) == (800, 100)
    shares = [np.bincount(labels, minlength=10) / len(labels) for labels in (task.labels, task.val_labels)]
    np.testing.assert_allclose(*shares, atol=0.01)
    # The stored pixels tell the digits apart.
    parts = [{image.tobytes() for image in images} for images in (task.images, task.val_images)]
    dataset = task.dataset
    stored = {image.tobytes(): y for image, y in zip(dataset.train_images, dataset.train_labels, strict=True)}
    assert not parts[0] & parts[1]
    true = np.array([stored[image.tobytes()] for image in task.val_images])
    assert np.mean(task.val_labels != true) == pytest.approx(0.4, abs=0.12)
    assert np.mean(task.labels != task.true_labels) == pytest.approx(0.4, abs=0.03)
    other = tasks.prepare_task(dataclasses.replace(config, seed=4), None, None)
    assert not np.array_equal(other.val_images, task.val_images)
    again = tasks.prepare_task(config, None, None)
    np.testing.assert_array_equal(again.val_images, task.val_images)


def test_validation_follows_class_imbalance():
    task = tasks.prepare_task(changed(val_size=100, imbalance=10.0, train_size=None), None, None)
    counts = np.bincount(task.val_labels, minlength=10)
    assert counts.sum() == 100
    assert np.all(np.diff(counts) <= 0)
    assert counts[0] >= 5 * counts[-1]


class Killed(BaseException):
    """Stands for a kill between two statements."""


def test_interrupted_and_resumed_run_equals_the_uninterrupted_one(finished, tmp_path, monkeypatch):
    original, calls = Run.log, []

    def die_before(self, row):
        calls.append(row)
        if len(calls) == 3:
            raise Killed
        original(self, row)

    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", die_before)
        with pytest.raises(Killed):
            run(OPTIONS, out=directory, tensorboard=True)
    resumed = run(OPTIONS, out=directory, tensorboard=True, resume=True)
    different = {"seconds_to_target"}
    assert {k: v for k, v in numbers(resumed).items() if k not in different} == {
        k: v for k, v in numbers(finished[1]).items() if k not in different
    }
    assert [numbers(row) for row in rows_of(directory)] == [numbers(row) for row in rows_of(finished[0])]
    states = [state_of(path, OPTIONS)[1] for path in (directory, finished[0])]
    jax.tree.map(np.testing.assert_array_equal, *states)
    # TensorBoard shows each epoch once, though two event files hold some twice.
    assert len(list((directory / "tensorboard").iterdir())) == 2
    found = shown(directory / "tensorboard")
    rows = rows_of(directory)
    assert sorted(found["accuracy/val"]) == [(row["epoch"], pytest.approx(row["val_accuracy"])) for row in rows]
    assert len(found["loss/train"]) == len(found["lr"]) == SMALL.epochs


def test_resumed_within_the_same_second(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_795_821_704.5)
    rows = [{"epoch": epoch, "lr": 0.5 / epoch} for epoch in (1, 2, 3)]
    for done, end in ((0, 2), (1, 3)):
        scalars = Scalars(tmp_path, rows[:done])
        for row in rows[done:end]:
            scalars.add(row)
        scalars.close()
    assert len(list(tmp_path.iterdir())) == 2
    assert shown(tmp_path) == {"lr": [(1, 0.5), (2, 0.25), (3, pytest.approx(1 / 6))]}


def shown(folder):
    """The (step, value) of every tag that TensorBoard shows of a directory, by its rule of purging."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        content, at = path.read_bytes(), 0
        while at < len(content):  # TFRecord: length, its checksum, event, its checksum
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            if event.session_log.status == SessionLog.START:
                found = {tag: [p for p in points if p[0] < event.step] for tag, points in found.items()}
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_scalars_of_every_epoch(finished):
    found = shown(finished[0] / "tensorboard")
    for row in rows_of(finished[0]):
        for name, tag in (("train_loss", "loss/train"), ("test_nll", "nll/test"), ("lr", "lr")):
            assert (row["epoch"], pytest.approx(row[name], rel=1e-6)) in found[tag]
    assert {len(points) for points in found.values()} == {SMALL.epochs}
    assert not {"epoch", "step"} & set(found)


def test_tensorboard_without_its_package_is_refused_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboardX" else find(name))
    line = f"downstream --config debug --tensorboard --out {tmp_path / 'run'}"
    for flags in ("", " --seeds 0 1"):
        assert cli.main((line + flags).split()) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: --tensorboard needs tensorboardX: pip install tensorboardX")
        assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("epochs", "given", "used"), [(200, 5.0, 5.0), (6, 5.0, 5.0), (5, 5.0, 0.5), (1, 5.0, 0.1), (1, 0.5, 0.5)]
)
def test_the_default_warm_up_fits_into_few_epochs(epochs, given, used):
    """A run of more epochs keeps what it had; config.json says 5.0 as it always did, so that old runs resume."""
    config = DownstreamConfig(epochs=epochs, warmup_epochs=given)
    assert config.warmup == pytest.approx(used)
    assert to_dict(config)["warmup_epochs"] == given


def test_the_warm_up_of_one_epoch_reaches_the_schedule():
    task = tasks.prepare_task(changed(epochs=1, warmup_epochs=5.0), None, None)  # 8 steps, 1 of warm-up
    rates = [float(task.schedule(step)) for step in (0, 1)]
    assert rates == pytest.approx([0.0, 0.1])


def test_a_warm_up_that_leaves_no_epoch_is_refused():
    with pytest.raises(UserError, match=r"warmup_epochs is 3.0, expected at least 0 and below epochs \(3\)"):
        DownstreamConfig(epochs=3, warmup_epochs=3.0)


def test_a_loss_with_hyper_parameters(tmp_path, capsys):
    """It is trained with, and named in the result and its line; a run of before there were any resumes."""
    config = changed(loss="focal", loss_parameters=("gamma=0",), epochs=1, warmup_epochs=0.0, train_size=64)
    logits, labels = np.array([[1.0, 2.0, 0.0]], np.float32), np.array([0], np.int32)
    task = tasks.prepare_task(config, None, None)
    np.testing.assert_allclose(task.loss_fn(logits, labels), loss.cross_entropy(logits, labels), rtol=1e-6)
    result = run(config, out=tmp_path / "run")
    assert (result["loss"], result["loss_parameters"]) == ("focal", ["gamma=0"])
    assert summary_line(result).startswith("focal (gamma=0) on digits: ")
    groups = summary.read([tmp_path / "run"])
    assert list(groups) == ["focal (gamma=0)"]

    file = tmp_path / "run" / "config.json"
    record = json.loads(file.read_text())
    del record["config"]["loss_parameters"]
    file.write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"config\.loss_parameters: \[\] -> \['gamma=0'\]"):
        run(config, out=tmp_path / "run", resume=True)
    plain = dataclasses.replace(config, loss_parameters=())
    assert numbers(run(plain, out=tmp_path / "run", resume=True)) == numbers(result)  # it had finished
    assert read_config(tmp_path / "run").loss_parameters == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "focal", "loss_parameters": ["gamma"]}, "hyper-parameter 'gamma' is not of the form name=number"),
        ({"loss": "focal", "loss_parameters": ["gama=1"]}, "unknown hyper-parameter 'gama' of loss focal"),
        ({"loss": "edl", "loss_parameters": ["gamma=1"]}, "loss edl is an artifact and takes no hyper-parameters"),
    ],
)
def test_hyper_parameters_that_the_loss_lacks(changes, message):
    with pytest.raises(UserError, match=message):
        tasks.prepare_task(changed(**changes), None, None)
