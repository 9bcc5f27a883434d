"""Grids: what is typed, what cells there are, what a grid becomes when more is asked for."""

import dataclasses

import pytest

from edl_jax.core.errors import UserError
from edl_jax.study.compare import CompareConfig, TrainingConfig, parse_seeds
from edl_jax.study.compare.cells import make_cell, settings
from edl_jax.study.compare.config import united
from edl_jax.study.compare.ledger import Ledger
from edl_jax.study.compare.plan import make_plan
from edl_jax.study.loss_spec import parse_loss

TRAINING = TrainingConfig(arch="mlp", dataset="digits", epochs=2, warmup_epochs=0.0)
TUNED = dataclasses.replace(TRAINING, val_size=200)


def config(**changes):
    return CompareConfig(**{"training": TRAINING, "seeds": (0, 1), **changes})


@pytest.mark.parametrize(
    ("words", "expected"), [("0-3", (0, 1, 2, 3)), ("4 0-1 7", (4, 0, 1, 7)), ("5-5", (5,)), ("", ())]
)
def test_seeds_are_numbers_and_ranges(words, expected):
    assert parse_seeds(words.split()) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("a", "a is among --seeds, expected numbers and ranges, such as 0-9"),
        ("-1", "-1 is among --seeds"),
        ("3-1", "expected the smaller number first"),
        ("0-99999999", "expected at most 10,000 seeds"),
    ],
)
def test_seeds_that_are_none(word, message):
    with pytest.raises(UserError, match=message):
        parse_seeds([word])


def test_losses_have_hyper_parameters_after_colons():
    spec = parse_loss("SCE:alpha=0.1:beta=1")
    assert spec == ("sce", ("alpha=0.1", "beta=1"))
    assert spec.text == "sce:alpha=0.1:beta=1"
    assert parse_loss("a:b/c.safetensors") == ("a:b/c.safetensors", ())  # a path may have colons
    with pytest.raises(UserError, match="'epsilon=x' is not of the form"):
        parse_loss("poly1:epsilon=x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ()}, "no loss given"),
        ({"losses": ("edl", "EDL")}, "edl is given twice in --losses"),
        ({"losses": ("poly1:epsilon=2", "poly1:epsilon=2.0")}, "is given twice in --losses"),
        ({"archs": ("mpl",)}, "unknown arch 'mpl': did you mean mlp"),
        ({"label_noise": (0.4, 1.0)}, "1.0 is in --label-noise, expected at least 0 and below 1"),
        ({"seeds": (0, 0)}, "0 is given twice in --seeds"),
        ({"seeds": ()}, "--seeds is empty"),
        ({"tune_lr": 3}, "give --val-size, such as 5000"),
        ({"tune_lr": -1}, "tune_lr is -1"),
        ({"tune_lr": 1, "training": TUNED, "lr_factors": (1.0,)}, "expected at least 2"),
        ({"lr_factors": (0.0, 1.0)}, "0.0 is among --lr-factors"),
        ({"margin": 0.0}, "margin is 0.0, expected a positive number"),
    ],
)
def test_grids_that_are_none(changes, message):
    with pytest.raises(UserError, match=message):
        config(**changes)


def test_a_baseline_is_one_of_the_losses():
    assert config().baseline_loss == "cross_entropy"
    assert config(losses=("edl", "poly1:epsilon=2"), baseline="poly1:epsilon=2.0").baseline_loss == "poly1:epsilon=2"
    with pytest.raises(UserError, match="--baseline is gce, expected one of --losses: cross_entropy, edl"):
        config(baseline="gce").baseline_loss  # noqa: B018


def test_what_is_not_given_is_the_presets():
    grid = CompareConfig(training=dataclasses.replace(TRAINING, arch="lenet5", label_noise=0.2))
    assert (grid.archs, grid.datasets, grid.label_noise) == (("lenet5",), ("digits",), (0.2,))


def test_names_of_cells_are_readable_and_differ():
    losses = (
        "cross_entropy",
        "poly1:epsilon=2",
        "runs/a/loss.safetensors",
        "runs/b/loss.safetensors",
        "./c/a/x.safetensors",
    )
    grid = config(
        losses=losses,
        datasets=("digits", "./photos", "../photos", "cifar10_corrupted/fog_1"),
        label_noise=(0.0, 0.4),
        tune_lr=2,
        training=TUNED,
    )
    cells = [
        make_cell(grid, s, text, f, seed)
        for s in settings(grid)
        for text in losses
        for f in (1.0, 2.0)
        for seed in (0, 1)
    ]
    names = [cell.name for cell in cells]
    assert len(set(names)) == len(names) == 4 * 2 * 5 * 2 * 2
    assert "mlp-digits-noise0.4-poly1,epsilon=2-lr0.2-seed1" in names
    assert any(name.startswith("mlp-digits-noise0-a.") for name in names)
    assert not any("/" in name for name in names)
    (cell,) = [cell for cell in cells if cell.name == "mlp-digits-noise0.4-poly1,epsilon=2-lr0.2-seed1"]
    assert (cell.config.loss, cell.config.loss_parameters, cell.config.lr) == ("poly1", ("epsilon=2",), 0.2)
    assert (cell.config.label_noise, cell.config.seed, cell.config.epochs) == (0.4, 1, 2)


def test_a_union_keeps_the_order_and_what_is_there():
    stored = config(losses=("cross_entropy", "poly1:epsilon=2"), seeds=(3, 1))
    more = config(losses=("gce", "poly1:epsilon=2.0"), seeds=(0, 1), label_noise=(0.4,), margin=1.0)
    both = united(stored, more)
    assert both.losses == ("cross_entropy", "poly1:epsilon=2", "gce")
    assert both.seeds == (3, 1, 0)
    assert both.label_noise == (0.0, 0.4)
    assert (both.baseline_loss, both.margin) == ("cross_entropy", 1.0)


def test_seeds_of_tuning_are_no_seeds_of_tables():
    assert config(tune_lr=2, training=TUNED).tuning_seeds == (1_000_000, 1_000_001)
    assert config(tune_lr=2, training=TUNED, seeds=(1_000_000,)).tuning_seeds == (1_000_001, 1_000_002)


def test_a_plan_has_every_cell_once_seed_by_seed(tmp_path):
    grid = config(losses=("cross_entropy", "edl", "gce"), label_noise=(0.0, 0.4), tune_lr=2, training=TUNED)
    plan = make_plan(grid, Ledger(tmp_path))
    names = [cell.name for cell in plan.cells]
    assert len(set(names)) == len(names) == 3 * 2 * 2 + 3 * 2 * 5 * 2
    assert [cell.config.seed for cell in plan.cells[:12]] == [0] * 6 + [1] * 6
    assert plan.unknown == 3 * 2 * 2
    assert plan.total == len(names) + 12
