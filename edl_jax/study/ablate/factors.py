"""What an ablation varies: one factor at a time around a base config."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edl_jax.core.config import override, to_dict
from edl_jax.core.errors import UserError, choose
from edl_jax.pretrain import PretrainConfig


class Level(NamedTuple):
    """One value of a factor: its label and the config fields that it sets."""

    label: str
    fields: Mapping[str, Any]


class Cell(NamedTuple):
    """A config to run, and where it is used.

    Attributes:
      config: the config.
      uses: (factor, label) pairs; a config that several factors share is run once.
    """

    config: PretrainConfig
    uses: tuple[tuple[str, str], ...]


def _es(label: object, **fields: Any) -> Level:
    return Level(str(label), {"strategy": "chaotic_es", "es": fields})


def _values(name: str, values: Sequence[Any]) -> tuple[Level, ...]:
    return tuple(Level(f"{value:g}", {name: value}) for value in values)


def _es_values(name: str, values: Sequence[Any]) -> tuple[Level, ...]:
    return tuple(Level(f"{value:g}", {"es": {name: value}}) for value in values)


# The orbit, or what stands in its place, in an otherwise equal strategy.
_ORBIT = {"alpha": 1.0, "alpha_rule": "constant", "chaotic_map": "logistic", "r": None, "control": "none"}

FACTORS: dict[str, tuple[Level, ...]] = {
    "noise": (
        _es("logistic", **_ORBIT),
        *(
            _es(name, **{**_ORBIT, "chaotic_map": name})
            for name in ("tent", "gauss", "mouse", "henon", "sine", "chebyshev")
        ),
        _es("gaussian", **{**_ORBIT, "alpha": 0.0}),
        _es("independent draws", **{**_ORBIT, "control": "independent"}),
        _es("normal marginals", **{**_ORBIT, "control": "normal_marginals"}),
        _es("blend 0.5", **{**_ORBIT, "alpha": 0.5}),
    ),
    "chaos_schedule": (
        _es("constant", alpha_rule="constant"),
        _es("linear to 0", alpha_rule="linear", alpha_end=0.0),
        _es("adaptive", alpha_rule="adaptive"),
    ),
    "std_rule": tuple(_es(name, std_rule=name) for name in ("constant", "exponential", "one_fifth", "csa")),
    "network": (
        *(Level(kind, {"network": {"kind": kind}}) for kind in ("true_class", "per_class", "monotone", "pairwise")),
        Level("joint", {"network": {"kind": "joint", "hidden": [32, 32]}}),
    ),
    # Another severity at m = 1 is another problem: these compare their distance from their own optimum.
    "severity_m1": tuple(
        Level(name, {"severity": name, "margin": 1.0, "network": {"kind": "per_class"}})
        for name in ("error", "nll", "brier", "margin")
    ),
    "num_pairs": _values("num_pairs", (64, 256, 1024, 4096)),
    "population_size": _es_values("population_size", (16, 32, 64, 128, 256)),
    "std": _es_values("std", (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
    "r": tuple(_es(f"{r:g}", **{**_ORBIT, "r": r}) for r in (3.7, 3.8, 3.9, 3.99, 4.0)),
}


def cells(base: PretrainConfig, factors: Sequence[str]) -> list[Cell]:
    """Return the cells of an ablation, the base first; equal configs are one cell.

    Args:
      base: the config around which one factor at a time varies.
      factors: names from `FACTORS`.

    Raises:
      UserError: unknown factor, or a level that the base's other settings do not allow.
    """
    base = _plain(base)
    uses: dict[PretrainConfig, list[tuple[str, str]]] = {base: []}
    for factor in factors:
        factor = choose("factor", factor, FACTORS)
        for level in FACTORS[factor]:
            config = _level(base, factor, level)
            uses.setdefault(config, []).append((factor, level.label))
    return [Cell(config, tuple(pairs)) for config, pairs in uses.items()]


def generations(config: PretrainConfig, base: PretrainConfig) -> int:
    """Return how many generations of `config` evaluate as many members as the base run does."""
    return max(base.generations * base.es.population_size // config.es.population_size, 1)


def same(stored: Mapping[str, Any], config: PretrainConfig) -> bool:
    """Say whether a stored plain config is this one."""
    return dict(stored) == to_dict(config)


def _level(base: PretrainConfig, factor: str, level: Level) -> PretrainConfig:
    """Return `base` with one level of a factor."""
    try:
        config = override(base, level.fields)
        if factor == "chaos_schedule" and config.es.alpha_rule == "linear":  # it ends with the run
            config = override(config, {"es": {"alpha_horizon": base.generations}})
    except UserError as error:
        raise UserError(f"factor {factor}, level {level.label}: {error}") from error
    return _plain(config)


def _plain(config: PretrainConfig) -> PretrainConfig:
    """Return `config` settled and with synonyms made equal, so that cells can be shared."""
    config = config.settled()
    es = config.es
    if config.strategy == "gaussian_es":
        es = dataclasses.replace(es, alpha=0.0, alpha_rule="constant")
        config = dataclasses.replace(config, strategy="chaotic_es", es=es)
    if es.alpha == 0.0 and es.alpha_rule == "constant":  # no orbit
        return dataclasses.replace(config, es=dataclasses.replace(es, chaotic_map="logistic", r=None, control="none"))
    if es.chaotic_map == "logistic" and es.r == 4.0:
        return dataclasses.replace(config, es=dataclasses.replace(es, r=None))
    return config
