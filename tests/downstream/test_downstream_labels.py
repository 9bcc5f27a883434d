"""Downstream training on wrong labels and unequal classes."""

import dataclasses
import json

import numpy as np
import pytest
from downstream_cases import run

from edl_jax import data
from edl_jax.cli import main as cli
from edl_jax.core.config import load_preset
from edl_jax.downstream import DownstreamConfig, task as tasks


@pytest.fixture(scope="module")
def debug():
    return load_preset("downstream", "debug", DownstreamConfig())


def test_a_noisy_run_reports_both_accuracies(debug, tmp_path):
    config = dataclasses.replace(debug, label_noise=0.4, epochs=6)
    result = run(config, out=tmp_path / "run")
    assert result["wrong_labels"] == pytest.approx(0.4, abs=0.01)  # each class is rounded
    # Of the labels as given at most 60 % can be right where the true ones are learned.
    assert result["train_accuracy"] < result["train_accuracy_true_labels"] - 0.1
    gap = result["train_accuracy"] - result["test_accuracy"]
    assert result["generalization_gap"] == pytest.approx(gap)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_test_labels_stay_clean_and_the_seed_decides_the_wrong_ones(debug):
    clean = data.load("digits")
    drawn = [
        tasks.prepare_task(dataclasses.replace(debug, label_noise=0.3, seed=seed), None, None) for seed in (0, 0, 1)
    ]
    for task in drawn:
        np.testing.assert_array_equal(task.dataset.test_labels, clean.test_labels)
        assert np.mean(task.labels != task.true_labels) == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(drawn[0].labels, drawn[1].labels)
    assert np.any(drawn[0].labels != drawn[2].labels)


def test_an_imbalanced_set_falls_from_class_to_class(debug):
    config = dataclasses.replace(debug, imbalance=10.0, train_size=None)
    task = tasks.prepare_task(config, None, None)
    counts = np.bincount(task.labels, minlength=10)
    assert np.all(np.diff(counts) <= 0)
    assert counts[0] / counts[-1] == pytest.approx(10.0, rel=0.1)
    assert len(task.images) == len(task.labels) == counts.sum()
    np.testing.assert_array_equal(task.labels, task.true_labels)


def test_mixed_labels_reach_the_loss_and_the_accuracy_counts_true_ones(debug, tmp_path):
    config = dataclasses.replace(debug, augment=data.AugmentConfig(mixup=1.0), loss="edl", epochs=6)
    mixed = run(config, out=tmp_path / "mixed")
    assert mixed["test_accuracy"] > 0.6
    plain = run(dataclasses.replace(config, augment=data.AugmentConfig()), out=tmp_path / "plain")
    rows = [json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1]) for name in ("mixed", "plain")]
    # Mixed images fit no single class: the training loss stays higher.
    assert rows[0]["train_loss"] > rows[1]["train_loss"] + 0.2
    assert plain["test_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--label-noise", "1.0"], "label_noise is 1.0, expected at least 0 and below 1"),
        (["--label-noise", "-0.1"], "label_noise is -0.1, expected at least 0 and below 1"),
        (["--label-noise-kind", "symetric"], "unknown label_noise_kind 'symetric': did you mean symmetric"),
        (["--imbalance", "0.5"], "imbalance is 0.5, expected a number of at least 1"),
        (["--imbalance", "1e6"], "imbalance ratio 1e+06 leaves class"),
        (["--imbalance-kind", "long"], "unknown imbalance_kind 'long'"),
        (["--optimizer", "adamv"], "unknown optimizer 'adamv': did you mean adamw"),
        (["--schedule", "cosin"], "unknown schedule 'cosin': did you mean cosine"),
        (["--init", "he"], "unknown init 'he'"),
        (["--clip-norm", "0"], "clip_norm is 0.0, expected a positive number"),
        (["--augment.mixup", "-1"], "mixup is -1.0, expected the alpha of Beta(alpha, alpha)"),
        (["--augment.cutout", "99"], "cutout is 99, expected at most 8 for images of 8 x 8"),
        (["--arch", "vgg16_bn"], "images are 8x8 pixels, expected at least 32x32 for VGG"),
        (["--batch-size", "2000", "--train-size", "2000"], "train_size is 2000, expected at most 1437"),
    ],
)
def test_what_cannot_be_used(flags, message, tmp_path, capsys):
    assert cli.main(["downstream", "--config", "debug", "--out", str(tmp_path / "run"), *flags]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "run").exists()
