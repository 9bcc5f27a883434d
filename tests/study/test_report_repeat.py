"""The command line that a report gives makes the run again: parsed, it has the settings that config.json holds."""

import dataclasses
import json
import shlex

import pytest

from edl_jax import downstream, pretrain, search
from edl_jax.cli import main as cli
from edl_jax.core.config import load_preset, to_dict
from edl_jax.study import ablate, compare, correlate, eliminate, flatness, surrogates, transfer
from edl_jax.study.report.repeat import repeat

DEBUG = load_preset("downstream", "debug", downstream.DownstreamConfig())


def of_downstream(**changes):
    return dataclasses.replace(DEBUG, **changes)


def of_compare(**changes):
    training = load_preset("downstream", "debug", compare.TrainingConfig())
    return compare.CompareConfig(training=dataclasses.replace(training, val_size=100, lr=0.05), **changes)


CASES = {
    "downstream": (
        downstream,
        of_downstream(
            loss="poly1",
            loss_parameters=("epsilon=2",),
            augment=dataclasses.replace(DEBUG.augment, cutout=4, crop_flip=False, rand_augment=(2, 9)),
            clip_norm=1.5,
        ),
    ),
    "compare": (
        compare,
        of_compare(losses=("edl", "poly1:epsilon=-1"), seeds=(0, 1, 2, 7), tune_lr=2, label_noise=(0.0, 0.4)),
    ),
    "compare of ten": (compare, of_compare(losses=("edl", "gce"), seeds=tuple(range(10)), baseline="gce")),
    "pretrain": (
        pretrain,
        dataclasses.replace(
            pretrain.PretrainConfig(),
            es=dataclasses.replace(pretrain.PretrainConfig().es, std=0.3, population_size=32),
            network=dataclasses.replace(pretrain.PretrainConfig().network, hidden=(8, 4)),
        ).settled(),
    ),
    "ablate": (ablate, load_preset("ablate", "debug", ablate.AblateConfig())),
    "search": (
        search,
        load_preset("search", "debug", dataclasses.replace(search.SearchConfig(), seed=3, method="nlfs")),
    ),
    "eliminate": (eliminate, eliminate.EliminateConfig(runs=("runs/a b",), count=30, seeds=(3, 4))),
    "surrogate-study": (surrogates, surrogates.SurrogateConfig(repeat=True, candidates=20)),
    "correlate": (correlate, correlate.CorrelateConfig(runs=("runs/a",), generations=(1, 5), seeds=(0, 1))),
    "transfer": (transfer, transfer.TransferConfig(runs=("runs/a", "it's"), epochs=(0, 2), seed=5)),
    "flatness": (flatness, flatness.FlatnessConfig(runs=("runs/a",), tolerance=1e-4, grid=0)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_line_has_the_settings(name, monkeypatch):
    module, config = CASES[name]
    parsed = []

    def accept(settings, *_, **__):
        parsed.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run", accept)
    line = repeat(name.split()[0], json.loads(json.dumps(to_dict(config))))
    assert line.startswith(f"edl-jax {name.split()[0]} ")
    cli.main(shlex.split(line)[1:])
    assert parsed == [config], line


def test_a_line_says_no_more_than_it_must():
    assert repeat("downstream", to_dict(DEBUG)) == "edl-jax downstream --config debug"
    line = repeat("compare", to_dict(of_compare(losses=("edl", "gce"), seeds=tuple(range(10)))))
    assert line == "edl-jax compare --config debug --losses edl gce --lr 0.05 --val-size 100"


def test_several_seeds_have_theirs():
    stored = {"settings": to_dict(of_downstream(seed=4)), "seeds": [4, 3]}
    assert repeat("downstream-seeds", stored) == "edl-jax downstream --config debug --seeds 4 3"


@pytest.mark.parametrize(
    ("command", "stored"),
    [("unheard-of", {}), ("downstream", {"arch": 3}), ("downstream", {"es": {}}), ("ablate", {"base": []})],
)
def test_settings_of_another_release_have_no_line(command, stored):
    line = repeat(command, stored)
    assert line is None or "--config" in line
