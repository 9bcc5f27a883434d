"""Names and paths as people type them: one rule for every registry; what is stored is canonical."""

import dataclasses

import pytest

from edl_jax import data, loss, models, strategies
from edl_jax.cli.main import COMMANDS
from edl_jax.core.errors import UserError, canonical, choose, fold, local_path
from edl_jax.data.imbalance import IMBALANCE_KINDS
from edl_jax.data.noise import NOISE_KINDS
from edl_jax.downstream import DownstreamConfig
from edl_jax.downstream.config import PRECISIONS
from edl_jax.loss import registry
from edl_jax.loss.networks.kinds import EVOLVED_KINDS
from edl_jax.pretrain import PretrainConfig
from edl_jax.pretrain.design_mixture import DesignConfig
from edl_jax.strategies import StrategyConfig, maps
from edl_jax.strategies.rules import ALPHA_RULES, STD_RULES
from edl_jax.study.ablate import AblateConfig
from edl_jax.study.ablate.factors import FACTORS
from edl_jax.synthetic import SEVERITIES
from edl_jax.training.loop import LOOPS
from edl_jax.training.optimizer import optimizers
from edl_jax.training.schedule import schedules

REGISTRIES = {
    **{"losses": loss.names(), "data sets": data.names(), "models": models.names(), "initialisers": models.inits()},
    **{"strategies": strategies.names(), "maps": maps.names(), "controls": maps.CONTROLS, "std rules": STD_RULES},
    **{"alpha rules": ALPHA_RULES, "severities": SEVERITIES, "networks": EVOLVED_KINDS, "factors": FACTORS},
    **{"loops": LOOPS, "optimizers": optimizers(), "schedules": schedules(), "noise": NOISE_KINDS},
    **{"imbalance": IMBALANCE_KINDS, "precisions": PRECISIONS, "commands": COMMANDS},
}


@pytest.mark.parametrize("registry", REGISTRIES)
def test_no_two_names_of_a_registry_are_one_when_spelled_freely(registry):
    names = list(REGISTRIES[registry])
    assert len({fold(name) for name in names}) == len(names)
    for name in names:
        assert canonical(f" {name.upper().replace('_', '-')}", names) == name


@pytest.mark.parametrize(
    ("synonyms", "names"),
    [(registry.SYNONYMS, loss.names()), (models.SYNONYMS, models.names())],
    ids=["losses", "models"],
)
def test_synonyms_stand_for_names_and_hide_none(synonyms, names):
    assert set(synonyms.values()) <= set(names)
    assert not {fold(other) for other in synonyms} & {fold(name) for name in names}


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("EDL", "edl"),
        ("ce", "cross_entropy"),
        ("CrossEntropyLoss", "cross_entropy"),
        ("cross-entropy", "cross_entropy"),
        ("nll_loss", "cross_entropy"),
        ("log loss", "cross_entropy"),
        ("Focal Loss", "focal"),
        ("no such loss", "no such loss"),
        ("gs://bucket/loss.safetensors", "gs://bucket/loss.safetensors"),
        ("~no-such-user/loss.safetensors", "~no-such-user/loss.safetensors"),
        ("file:///a%20b/c.safetensors", "/a b/c.safetensors"),
    ],
)
def test_losses_as_people_type_them(typed, name):
    assert loss.canonical_name(typed) == name
    if name in loss.names():
        assert loss.get(typed) == loss.get(name)
        assert loss.title(typed) == loss.title(name)
        assert loss.summary(typed) == loss.summary(name)
        assert loss.artifact_of(typed).metadata == loss.artifact_of(name).metadata


def test_the_directory_of_a_run_stands_for_its_loss(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    loss.save(loss.artifact_of("focal", gamma=3), tmp_path / "run" / "loss.safetensors")
    for typed in ("./run", "~/run", str(tmp_path / "run")):
        assert loss.canonical_name(typed) == f"{typed}/loss.safetensors"
        assert DownstreamConfig(loss=typed).loss == f"{typed}/loss.safetensors"
        assert loss.title(typed) == "focal (gamma=3)"
        assert loss.load(typed).parameters["gamma"] == 3
    with pytest.raises(UserError, match=r"unknown loss 'run': .*; for the run in that folder write \./run"):
        loss.get("run")


def test_configs_store_canonical_names():
    typed = DownstreamConfig(
        **{
            "arch": "ResNet-18",
            "dataset": "CIFAR-10:3.0.2",
            "loss": "CE",
            "optimizer": "AdamW",
            "schedule": "OneCycle",
        },
        **{"precision": "BFloat16", "loop": "Scan", "init": "Kaiming-Fan-In", "label_noise_kind": "Asymmetric"},
        imbalance_kind="Long-Tailed",
    )
    stored = DownstreamConfig(
        **{"arch": "resnet18", "dataset": "cifar10:3.0.2", "loss": "cross_entropy", "optimizer": "adamw"},
        **{"schedule": "onecycle", "precision": "bfloat16", "loop": "scan", "init": "kaiming_fan_in"},
        **{"label_noise_kind": "asymmetric", "imbalance_kind": "long_tailed"},
    )
    assert dataclasses.asdict(typed) == dataclasses.asdict(stored)
    assert DownstreamConfig(arch="Wide-ResNet-28-10") == DownstreamConfig(arch="wrn28_10")
    network = loss.NetworkConfig(kind="True-Class", activation="Tanh", output="Square")
    assert network == loss.NetworkConfig(kind="true_class", activation="tanh", output="square")
    es = StrategyConfig(std_rule="One-Fifth", alpha_rule="Linear", chaotic_map="Tent", control="Independent")
    assert (es.std_rule, es.alpha_rule, es.chaotic_map, es.control) == ("one_fifth", "linear", "tent", "independent")
    assert PretrainConfig(strategy="CMA-ES", severity="NLL", evaluation="Plain") == PretrainConfig(
        strategy="cma_es", severity="nll", evaluation="plain"
    )
    assert AblateConfig(factors=("Std-Rule",)).factors == ("std_rule",)
    assert DesignConfig(target="FocalLoss") == DesignConfig(target="focal")


def test_whoever_types_capitals_is_given_the_nearest_name():
    with pytest.raises(UserError, match="unknown arch 'RESNET-19': did you mean resnet18"):
        choose("arch", "RESNET-19", models.names())


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("~/a", "/home/me/a"),
        ("file:///a%20b", "/a b"),
        ("file:/a", "/a"),
        ("./gs:", "gs:"),
        ("a:b/c", "a:b/c"),
        ("exp:/c", "exp:/c"),
        ("[a]$\\*", "[a]$\\*"),
    ],
)
def test_paths_as_people_type_them(typed, path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert str(local_path(typed)) == path


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("gs://b/c", "gs://b/c is a URL, expected a path on this machine"),
        ("https:/a.b/c", "https://a.b/c is a URL"),  # as pathlib makes it
        ("~no-such-user/a", "there is no user no-such-user; give the whole path"),
    ],
)
def test_paths_that_are_none(typed, message):
    with pytest.raises(UserError, match=message):
        local_path(typed)
