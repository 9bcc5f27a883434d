import contextlib
import json
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from downstream_cases import SMALL, changed, rows_of, run

from edl_jax import data, loss
from edl_jax.backend import memory
from edl_jax.core import config as presets
from edl_jax.core.errors import DivergedError, UserError
from edl_jax.core.runs import Run
from edl_jax.downstream import DownstreamConfig, task as tasks, train


def test_run_directory_holds_config_metrics_checkpoints_and_result(finished):
    directory, result = finished
    assert json.loads((directory / "config.json").read_text())["config"]["arch"] == "mlp"
    assert json.loads((directory / "result.json").read_text()) == result
    rows = rows_of(directory)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert set(rows[0]) == {
        "epoch",
        "step",
        "train_loss",
        "train_accuracy",
        "test_accuracy",
        "test_nll",
        "test_ece",
        "lr",
        "images_per_second",
        "train_seconds",
        "seconds",
    }
    assert rows[-1]["step"] == 32
    assert rows[0]["lr"] == pytest.approx(0.1 * 7 / 8)  # last step of the warm-up epoch
    assert 0 < rows[-1]["lr"] < 0.001
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {"3.safetensors", "4.safetensors"}
    for key in ("test_accuracy", "test_nll", "test_ece"):
        assert result[key] == rows[-1][key]
    best = max(rows, key=lambda row: row["test_accuracy"])
    assert (result["best_epoch"], result["best_test_accuracy"]) == (best["epoch"], best["test_accuracy"])
    assert result["num_params"] == 26_122
    assert result["train_size"] == 256
    assert result["loop"] == "steps"
    assert result["test_accuracy"] > 0.7
    assert result["train_accuracy"] > 0.8


@pytest.mark.parametrize("arch", ["mlp", pytest.param("resnet8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("loop", ["steps", "scan", "stream"])
def test_each_function_compiles_once_the_estimate_is_one_line_and_drivers_have_the_same_numbers(
    tmp_path, capsys, compilations, finished, own_programs, arch, loop
):
    with own_programs(), compilations() as counts:
        run(changed(arch=arch, loop=loop), out=tmp_path / "run")
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{arch} on digits with cross_entropy (cpu): 4 epochs take " in err  # though this is no terminal
    assert err.count("\n") == 1
    ours = {"steps": ("train_batch", "draw_order"), "scan": ("train_epoch",), "stream": ("train_step",)}[loop]
    for name in (*ours, "init", "eval_step"):
        found = {key: count for key, count in counts.items() if name in key.split("(")[-1].rstrip(")")}
        assert list(found.values()) == [1], (name, counts)
    counts.pop("jit(stage)", None)  # Orbax's, one for each group of arrays that it copies
    assert max(counts.values()) == 1, counts  # nothing else is compiled anew each epoch
    if arch == SMALL.arch:
        for row, expected in zip(rows_of(tmp_path / "run"), rows_of(finished[0]), strict=True):
            for name in ("train_loss", "test_nll", "train_accuracy", "test_accuracy"):
                assert row[name] == pytest.approx(expected[name], rel=1e-4)


def test_images_that_do_not_fit_are_streamed(monkeypatch):
    images = data.load("digits").test_images.nbytes + 256 * 64
    for total, loop in ((2 * images - 1, "stream"), (2 * images, "steps")):
        monkeypatch.setattr(memory, "total_bytes", lambda total=total: total)
        assert tasks.prepare_task(SMALL, None, None).loop == loop


def test_resuming_a_finished_run_returns_its_result(finished):
    directory, result = finished
    before = (directory / "metrics.jsonl").read_text()
    assert run(SMALL, out=directory, resume=True) == result
    assert (directory / "metrics.jsonl").read_text() == before


def test_existing_directory_and_other_config_are_refused(finished):
    directory, result = finished
    with pytest.raises(UserError, match="exists: give --resume"):
        run(SMALL, out=directory)
    with pytest.raises(UserError, match=r"another config \(config.lr: None -> 0.2\)"):
        run(changed(lr=0.2), out=directory, resume=True)
    assert json.loads((directory / "result.json").read_text()) == result


@pytest.mark.parametrize("loop", ["steps", pytest.param("scan", marks=pytest.mark.slow)])
def test_divergence_stops_with_the_step_and_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, loop):
    cross_entropy = loss.get("cross_entropy")

    def nan_when_small(logits, labels, **_):
        losses = cross_entropy(logits, labels)
        return jnp.where(jnp.mean(losses) < 0.8, jnp.nan, losses)

    monkeypatch.setattr(tasks.loss, "get", lambda name: nan_when_small)
    directory = tmp_path / "run"
    config = changed(loop=loop)
    with pytest.raises(DivergedError) as caught:
        run(config, out=directory)
    message = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in message
    rows = rows_of(directory)
    epoch = len(rows) + 1  # the first that did not finish
    step = int(message.split("at step ")[1].split()[0])
    assert (epoch - 1) * 8 <= step < epoch * 8
    assert epoch > 1
    assert "cross_entropy" in message
    assert f"(epoch {epoch}, lr 0." in message
    assert f"checkpoint is that of epoch {epoch - 1} in {directory}" in message
    assert (directory / "checkpoints" / f"{epoch - 1}.safetensors").is_file()
    assert not (directory / "result.json").exists()
    # The kept checkpoint is usable: with a loss that behaves, the run goes on from there.
    monkeypatch.undo()
    assert run(config, out=directory, resume=True)["test_accuracy"] > 0.7
    assert [row["epoch"] for row in rows_of(directory)] == [1, 2, 3, 4]


def test_immediate_divergence_keeps_the_initial_state(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks.loss, "get", lambda name: lambda z, y: jnp.nan * z[:, 0])
    with pytest.raises(
        DivergedError, match=r"at step 0 \(epoch 1, lr 0\): the last good checkpoint is that of epoch 0"
    ):
        run(SMALL, out=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "0.safetensors").is_file()


def test_the_checkpoint_that_is_kept_may_be_that_of_a_stop(tmp_path):
    config = changed(checkpoint_every=4)
    with contextlib.closing(Run.open("test", config, out=tmp_path / "run")) as directory:
        for epoch in (0, 2):
            directory.save(epoch, {"x": np.zeros(1)})
        message = str(train._diverged(directory, config, 3, 25, 0.1))
    assert "at step 25 (epoch 4, lr 0.1): the last good checkpoint is that of epoch 2 in" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "resnet19"}, "unknown arch 'resnet19': did you mean resnet"),
        ({"precision": "bf16"}, "unknown precision 'bf16'"),
        ({"loop": "stpes"}, "unknown loop 'stpes': did you mean steps"),
        ({"epochs": 0}, "epochs is 0, expected at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0, expected at least 1"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"lr": 0.0}, "lr is 0.0, expected a positive number"),
        ({"lr": float("nan")}, "lr is nan, expected a positive number"),
        ({"lr": float("inf")}, "lr is inf, expected a positive number"),
        ({"momentum": 1.0}, "momentum is 1.0, expected at least 0 and below 1"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0, expected 0 or a positive number"),
        ({"warmup_epochs": 4.0}, r"warmup_epochs is 4.0, expected at least 0 and below epochs \(4\)"),
        ({"train_size": 8}, r"train_size is 8, expected at least batch_size \(32\)"),
    ],
)
def test_bad_settings_are_refused_at_construction(changes, message):
    with pytest.raises(UserError, match=message):
        changed(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "cross_entrpy"}, "unknown loss 'cross_entrpy': did you mean cross_entropy"),
        ({"loss": "absent.safetensors"}, "absent.safetensors"),
        ({"dataset": "cifar10"}, "cifar10"),
        ({"train_size": 2000}, "train_size is 2000, expected at most 1437"),
        ({"train_size": None, "batch_size": 1438}, "batch_size is 1438, expected at most the 1437"),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(changed(**changes), data_dir=tmp_path / "data", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_loss_of_another_number_of_classes_is_refused_in_a_line(tmp_path, monkeypatch):
    def refuse(logits, labels):
        raise ValueError("this loss was learned for 100 classes, got logits with 10")

    monkeypatch.setattr(tasks.loss, "get", lambda name: refuse)
    with pytest.raises(UserError, match="does not fit digits: this loss was learned for 100 classes"):
        run(SMALL, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", presets.preset_names("downstream"))
def test_presets_are_valid_and_say_what_they_are_for(name):
    presets.load_preset("downstream", name, DownstreamConfig())
    path = presets.presets_dir() / "downstream" / f"{name}.yaml"
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert " downstream --" in first  # the command line


def test_default_preset_is_the_papers():
    load = presets.load_preset
    assert load("downstream", "default", DownstreamConfig()) == load("downstream", "paper", DownstreamConfig())


@pytest.mark.parametrize(("epochs", "accuracy"), [(6, 0.93), pytest.param(30, 0.96, marks=pytest.mark.slow)])
def test_digits_preset_reaches_its_accuracy(tmp_path, epochs, accuracy):
    settings = presets.load_preset("downstream", "digits", DownstreamConfig())
    assert settings.epochs == 30
    result = run(presets.override(settings, {"loss": "cross_entropy", "epochs": epochs}), out=tmp_path / "run")
    assert result["test_accuracy"] > accuracy


@pytest.mark.slow
def test_bfloat16_trains_as_well(tmp_path):
    result = run(changed(precision="bfloat16", epochs=10, train_size=1024), out=tmp_path / "run")
    assert result["precision"] == "bfloat16"
    assert result["test_accuracy"] > 0.85


def tfds_directory():
    """Return a TFDS directory with cifar10, from EDL_JAX_TFDS_DIR or beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "tfds"
    path = Path(os.environ.get("EDL_JAX_TFDS_DIR", beside))
    return path if (path / "cifar10").is_dir() else None


@pytest.mark.slow
@pytest.mark.skipif(tfds_directory() is None, reason="no CIFAR-10: name its TFDS directory in EDL_JAX_TFDS_DIR")
def test_resnet8_learns_real_cifar10(tmp_path):
    config = DownstreamConfig(
        arch="resnet8",
        loss="cross_entropy",
        epochs=2,
        warmup_epochs=0.5,
        train_size=5000,
        batch_size=64,
        augment=data.published_config([]),
    )
    result = run(config, data_dir=tfds_directory(), cache_dir=tmp_path / "cache", out=tmp_path / "run")
    assert result["test_accuracy"] > 0.25
