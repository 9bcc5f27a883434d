"""benchmarks/choose_mixture.py: its tasks, its losses, its rule, and a run of the smallest size."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.synthetic import MixtureConfig, gradient_norm_ratio

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import choose_mixture
import mixture_candidates
import synthetic_tasks

REGIME = synthetic_tasks.Regime(examples=400, epochs=1, held_out=400, hidden=(8,))


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if i else []) for i, kind in enumerate(synthetic_tasks.KINDS)]
)
def test_label_noise_replaces_training_labels_only(kind, key):
    keys = jax.random.split(key, 2)
    clean, noisy = (synthetic_tasks.make_tasks(keys, kind, np.float32(noise), REGIME) for noise in (0.0, 0.3))
    flipped = np.mean(np.asarray(clean.y != noisy.y))
    assert 0.23 < flipped < 0.37  # 800 labels: four standard errors are 0.065
    for split in ("x", "x_validation", "y_validation", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(clean, split), getattr(noisy, split))
    shares = np.bincount(np.asarray(clean.y).ravel(), minlength=10) / clean.y.size
    assert np.min(shares) > 0.05
    assert np.max(shares) < 0.2
    assert not np.array_equal(clean.x[0], clean.x[1])


def test_a_table_pulls_as_the_function_that_it_holds():
    table = synthetic_tasks.table_of(lambda log_p: -np.expm1(0.7 * log_p) / 0.7, -12.0)
    log_p = np.linspace(-11.0, -0.05, 50)
    np.testing.assert_allclose(table.pull(log_p), np.exp(0.7 * log_p), atol=4e-3)
    cross_entropy = synthetic_tasks.table_of(lambda log_p: -log_p, -9.0)
    np.testing.assert_allclose(cross_entropy.pull(np.array([-50.0, -9.0, -3.0, 0.0])), 1.0, rtol=1e-5)


def test_a_candidate_is_calibrated_as_an_evolved_loss_is(key):
    candidate = mixture_candidates.CANDIDATES["steered mixture"]
    table = mixture_candidates.optimal_table(candidate)
    calibration = loss.Calibration(
        (10.0,), (float(table.scale),), (0.0,), float(table.tail_log_p), float(table.tail_slope)
    )
    artifact = loss.Artifact(
        loss.NetworkConfig(kind="table", hidden=(synthetic_tasks.KNOTS,)), table.params, calibration
    )
    assert gradient_norm_ratio(key, artifact, candidate.mixture, 10) == pytest.approx(1.0, abs=0.02)


def test_a_student_learns_with_cross_entropy(key):
    tasks = synthetic_tasks.make_tasks(jax.random.split(key, 2), "clusters", np.float32(0.0), REGIME)
    table = synthetic_tasks.table_of(lambda log_p: -log_p, -9.0)
    still, moved = (synthetic_tasks.train(table, np.float32(lr), tasks, key, REGIME) for lr in (0.0, 0.1))
    assert np.all(np.asarray(moved.accuracy) > np.asarray(still.accuracy) + 0.05)
    assert np.all(np.asarray(moved.nll) < np.asarray(still.nll))


def test_the_rule_refuses_weak_tails_steep_ends_and_losers_on_clean_labels():
    def row(mean, clean=(0.0, -0.1, 0.1), pull=(1.0, 2.0, 0.8)):
        return {"all": [mean, mean - 0.1, mean + 0.1], "0%": list(clean), "pull": list(pull)}

    rows = {
        "weak": row(4.0, pull=(0.1, 2.0, 0.1)),
        "steep": row(3.0, pull=(1.0, 5.1, 0.8)),
        "loses": row(2.0, clean=(-0.05, -0.15, 0.05)),
        "good": row(1.0),
        "near": row(0.5, clean=(0.1, 0.0, 0.2)),
    }
    assert choose_mixture.choose(rows, "all") == "good"
    assert choose_mixture.choose(rows, "0%") == "near"


def test_smallest_run_prints_and_stores_its_tables(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(choose_mixture, "QUICK", {"short": REGIME})
    former = mixture_candidates.CANDIDATES["steered mixture"]
    sharper = mixture_candidates.Candidate(former.mixture, beta=10.0)
    lower = mixture_candidates.Candidate(former.mixture, "nll", 1.0, 10.0)
    monkeypatch.setattr(choose_mixture, "CANDIDATES", {"steered mixture": former, "sharper": sharper, "lower": lower})
    monkeypatch.setattr(sys, "argv", ["choose_mixture.py", "--quick", "--out", str(tmp_path)])
    choose_mixture.main()
    printed = capsys.readouterr().out
    assert "| steered mixture |" in printed
    record = json.loads((tmp_path / "choose_mixture.json").read_text())
    assert record["chosen"] in ("steered mixture", "sharper", "lower")
    assert record["confirm, rate x 1"]["cross_entropy"]["all"] == [0.0, 0.0, 0.0]
    assert set(record["rates"].values()) <= set(choose_mixture.RATES)


def test_former_default_is_written_out_so_that_a_new_default_does_not_move_it():
    former = MixtureConfig(0.05, 0.02, 0.1, 0.08, 0.05, 0.7, confidence=4.0, flatness=10.0, spread=1.0, log_p_min=-9.0)
    assert former == mixture_candidates.FORMER
