"""What an ablation varies: one factor at a time, equal configs once, equal evaluations."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from edl_jax.core import config as presets
from edl_jax.core.config import differences, to_dict
from edl_jax.core.errors import UserError
from edl_jax.pretrain import PretrainConfig
from edl_jax.pretrain.generations import make_evolution
from edl_jax.strategies import StrategyConfig
from edl_jax.study.ablate.factors import FACTORS, cells, generations
from edl_jax.study.ablate.study import AblateConfig

DEFAULT = PretrainConfig().settled()
DEBUG = presets.load_preset("pretrain", "debug", PretrainConfig())
BASES = {
    "default": DEFAULT,
    "paper-like": presets.load_preset("ablate", "default", AblateConfig()).base,
    "debug": DEBUG,
    "gaussian": PretrainConfig(strategy="gaussian_es"),
    "other strategy": PretrainConfig(strategy="snes"),
}


@functools.cache
def all_cells(name):
    return cells(BASES[name], tuple(FACTORS))


def cell_of(found, factor, label):
    (config,) = [cell.config for cell in found if (factor, label) in cell.uses]
    return config


def leaves(fields, prefix=""):
    """Return the names of the leaves of nested fields, `es.std` for example."""
    return {
        name
        for key, value in fields.items()
        for name in (leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key})
    }


@pytest.mark.parametrize("factor", FACTORS)
def test_a_factor_has_several_levels_with_names_of_their_own(factor):
    labels = [level.label for level in FACTORS[factor]]
    assert len(labels) >= 3
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("factor", FACTORS)
def test_every_level_is_a_config_that_differs_in_its_own_fields_alone(factor, base):
    found = cells(BASES[base], [factor])
    assert {use for cell in found for use in cell.uses} == {(factor, level.label) for level in FACTORS[factor]}
    for level in FACTORS[factor]:
        changed = differences(to_dict(found[0].config), to_dict(cell_of(found, factor, level.label)))
        names = {line.split(":")[0] for line in changed}
        # The linear schedule is fitted to the length of the run.
        assert names <= leaves(level.fields) | ({"es.alpha_horizon"} if level.label == "linear to 0" else set())


@pytest.mark.parametrize("base", BASES)
def test_no_config_is_run_twice(base):
    configs = [cell.config for cell in all_cells(base)]
    assert len(set(configs)) == len(configs)


def test_the_base_comes_first_and_is_shared_by_the_levels_that_equal_it():
    found = all_cells("default")
    assert found[0].config == DEFAULT
    assert dict(found[0].uses) == {
        "noise": "logistic",
        "chaos_schedule": "constant",
        "std_rule": "exponential",
        "network": "true_class",
        "num_pairs": "1024",
        "population_size": "128",
        "std": "1",
        "r": "4",
    }
    assert len(found) == sum(map(len, FACTORS.values())) - 8 + 1 == 40


def test_another_order_of_factors_has_the_same_cells():
    turned = cells(DEFAULT, tuple(reversed(FACTORS)))
    assert turned[0].config == DEFAULT
    assert {cell.config: set(cell.uses) for cell in turned} == {
        cell.config: set(cell.uses) for cell in all_cells("default")
    }


@pytest.mark.parametrize(
    "base",
    [
        PretrainConfig(strategy="gaussian_es"),
        PretrainConfig(strategy="gaussian_es", es=StrategyConfig(alpha_rule="linear")),
        PretrainConfig(es=StrategyConfig(alpha=0.0, chaotic_map="tent")),
    ],
    ids=["gaussian_es", "gaussian_es ignores the schedule", "alpha 0 follows no orbit"],
)
def test_gaussian_noise_under_any_name_is_one_cell(base):
    found = cells(base, ["noise"])
    assert ("noise", "gaussian") in found[0].uses
    assert len(found) == len(FACTORS["noise"])
    assert cell_of(found, "noise", "logistic") == DEFAULT


def test_levels_of_noise_are_not_moved_by_the_schedule_of_the_base():
    base = PretrainConfig(es=StrategyConfig(alpha_rule="adaptive"))
    found = cells(base, ["noise"])
    assert found[0].config == base.settled()
    assert all(cell.config.es.alpha_rule == "constant" for cell in found[1:])


def test_an_explicit_r_of_4_is_the_default_map():
    base = PretrainConfig(es=StrategyConfig(r=4.0))
    assert set(cells(base, ["noise", "r"])[0].uses) == {("noise", "logistic"), ("r", "4")}


@pytest.mark.parametrize("base", ["default", "paper-like"])
def test_the_linear_schedule_ends_with_the_run(base):
    config = cell_of(all_cells(base), "chaos_schedule", "linear to 0")
    assert (config.es.alpha_horizon, config.es.alpha_end) == (BASES[base].generations, 0.0)


@pytest.mark.parametrize("base", ["default", "paper-like"])
def test_cells_have_equal_evaluations(base):
    counts = {generations(cell.config, BASES[base]) * cell.config.es.population_size for cell in all_cells(base)}
    assert counts == {BASES[base].generations * BASES[base].es.population_size}


def test_a_population_beyond_all_evaluations_runs_one_generation():
    large = dataclasses.replace(DEBUG, es=StrategyConfig(population_size=4096))
    assert generations(large, DEBUG) == 1


# The other factors change numbers, not what is built; maps, rules of alpha and severities have tests of their own.
@pytest.mark.parametrize(
    "factor",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("noise", "chaos_schedule", "severity_m1")),
        *("std_rule", "network"),
    ],
)
def test_the_program_of_every_cell_can_be_built(factor):
    keys = jax.eval_shape(lambda: jax.vmap(jax.random.key)(np.arange(2)))
    for cell in cells(DEBUG, [factor])[1:]:
        program = make_evolution(cell.config, chunk=2)
        search, inputs = jax.eval_shape(program.init, keys)
        assert search.best.shape == (2, program.num_dims)
        jax.eval_shape(program.evolve, search, inputs, jax.ShapeDtypeStruct((), np.int32))


def test_an_unknown_factor_names_the_closest():
    with pytest.raises(UserError, match="unknown factor 'nosie': did you mean noise"):
        cells(DEFAULT, ["std", "nosie"])


def test_a_level_that_the_base_does_not_allow_is_named():
    with pytest.raises(UserError, match=r"^factor num_pairs, level 64: reuse is 40, expected at most half") as refusal:
        cells(PretrainConfig(reuse=40), ["num_pairs"])
    assert "\n" not in str(refusal.value)
    with pytest.raises(UserError, match=r"^factor network, level pairwise: evaluation is tabulated"):
        cells(PretrainConfig(evaluation="tabulated"), ["network"])
