"""Downstream training on wrong labels and unequal classes."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from downstream_cases import SMALL, rows_of, run

from edl_jax import data
from edl_jax.cli import main as cli
from edl_jax.downstream import task as tasks


def test_a_noisy_run_reports_both_accuracies(tmp_path):
    config = dataclasses.replace(SMALL, label_noise=0.4)
    result = run(config, out=tmp_path / "run")
    assert result["wrong_labels"] == pytest.approx(0.4, abs=0.01)  # each class is rounded
    # Of the labels as given at most 60 % can be right where the true ones are learned.
    assert result["train_accuracy"] < result["train_accuracy_true_labels"] - 0.1
    gap = result["train_accuracy"] - result["test_accuracy"]
    assert result["generalization_gap"] == pytest.approx(gap)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result


def test_test_labels_stay_clean_and_the_seed_decides_the_wrong_ones():
    clean = data.load("digits")
    drawn = [
        tasks.prepare_task(dataclasses.replace(SMALL, label_noise=0.3, seed=seed), None, None) for seed in (0, 0, 1)
    ]
    for task in drawn:
        np.testing.assert_array_equal(task.dataset.test_labels, clean.test_labels)
        assert np.mean(task.labels != task.true_labels) == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(drawn[0].labels, drawn[1].labels)
    assert np.any(drawn[0].labels != drawn[2].labels)


def test_an_imbalanced_set_falls_from_class_to_class():
    config = dataclasses.replace(SMALL, imbalance=10.0, train_size=None)
    task = tasks.prepare_task(config, None, None)
    counts = np.bincount(task.labels, minlength=10)
    assert np.all(np.diff(counts) <= 0)
    assert counts[0] / counts[-1] == pytest.approx(10.0, rel=0.1)
    assert len(task.images) == len(task.labels) == counts.sum()
    np.testing.assert_array_equal(task.labels, task.true_labels)


def test_mixed_labels_reach_the_loss_and_the_accuracy_counts_true_ones(tmp_path, monkeypatch):
    get, targets = tasks.loss.get, []

    def spied(name):
        loss_fn = get(name)

        def loss(logits, labels):
            if jax.typeof(labels).shape != (2,):  # the check of the loss before anything is trained
                targets.append((labels.shape, labels.dtype))
            return loss_fn(logits, labels)

        return loss

    monkeypatch.setattr(tasks.loss, "get", spied)
    config = dataclasses.replace(SMALL, augment=data.AugmentConfig(mixup=1.0), loss="edl")
    result = run(config, out=tmp_path / "mixed")
    assert set(targets) == {((32, 10), np.dtype(np.float32))}
    # The same images unmixed are told apart far better: mixed ones were trained on, and counted by their own label.
    last = rows_of(tmp_path / "mixed")[-1]
    assert 0.3 < last["train_accuracy"] < result["train_accuracy"] - 0.05
    assert result["test_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--label-noise", "1.0"], "--label-noise is 1.0, expected at least 0 and below 1"),
        (["--label-noise", "-0.1"], "--label-noise is -0.1, expected at least 0 and below 1"),
        (["--label-noise-kind", "symetric"], "unknown --label-noise-kind 'symetric': did you mean symmetric"),
        (["--imbalance", "0.5"], "imbalance is 0.5, expected a number of at least 1"),
        (["--imbalance", "1e6"], "imbalance ratio 1e+06 leaves class"),
        (["--imbalance-kind", "long"], "unknown --imbalance-kind 'long'"),
        (["--optimizer", "adamv"], "unknown optimizer 'adamv': did you mean adamw"),
        (["--schedule", "cosin"], "unknown schedule 'cosin': did you mean cosine"),
        (["--init", "he"], "unknown init 'he'"),
        (["--clip-norm", "0"], "--clip-norm is 0.0, expected a positive number"),
        (["--augment.mixup", "-1"], "mixup is -1.0, expected the alpha of Beta(alpha, alpha)"),
        (["--augment.cutout", "99"], "cutout is 99, expected at most 8 for images of 8 x 8"),
        (["--arch", "vgg16_bn"], "images are 8x8 pixels, expected at least 32x32 for VGG"),
        (["--batch-size", "2000", "--train-size", "2000"], "--train-size is 2000, expected at most 1437"),
    ],
)
def test_what_cannot_be_used(flags, message, tmp_path, capsys):
    assert cli.main(["downstream", "--config", "debug", "--out", str(tmp_path / "run"), *flags]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "run").exists()
