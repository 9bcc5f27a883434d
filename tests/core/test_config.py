import dataclasses
from pathlib import Path

import pytest

from edl_jax.core import config as presets
from edl_jax.core.errors import UserError
from edl_jax.core.files import parse_json
from edl_jax.downstream import DownstreamConfig
from edl_jax.pretrain import PretrainConfig
from edl_jax.search import SearchConfig
from edl_jax.study.ablate.study import AblateConfig
from edl_jax.study.correlate import CorrelateConfig
from edl_jax.study.eliminate import EliminateConfig
from edl_jax.study.flatness import FlatnessConfig
from edl_jax.study.surrogates import SurrogateConfig
from edl_jax.study.transfer import TransferConfig

CONFIGS = {
    "ablate": AblateConfig(),
    "correlate": CorrelateConfig(),
    "downstream": DownstreamConfig(),
    "eliminate": EliminateConfig(),
    "flatness": FlatnessConfig(),
    "pretrain": PretrainConfig(),
    "search": SearchConfig(),
    "surrogate-study": SurrogateConfig(),
    "transfer": TransferConfig(),
}
PRESETS = sorted(presets.presets_dir().rglob("*.y*ml"))


@dataclasses.dataclass(frozen=True)
class Inner:
    size: int = 1
    widths: tuple[int, ...] = (4,)


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str = "a"
    rate: float = 0.5
    count: int = 2
    flag: bool = False
    limit: int | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "mine.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize("path", PRESETS, ids=[f"{path.parent.name}/{path.stem}" for path in PRESETS])
def test_every_preset_loads_by_name_and_by_path(path):
    command = path.parent.name
    by_name = presets.load_preset(command, path.stem, CONFIGS[command])
    assert by_name == presets.load_preset(command, str(path), CONFIGS[command])
    assert path.stem in presets.preset_names(command)


@pytest.mark.parametrize("command", CONFIGS)
def test_every_command_has_a_default_and_a_debug_preset(command):
    assert {"default", "debug"} <= set(presets.preset_names(command))


def test_preset_overrides_what_it_names_and_nothing_else():
    debug = presets.load_preset("pretrain", "debug", PretrainConfig(seed=7))
    assert debug.generations == 6
    assert debug.es.population_size == 16
    assert debug.network.hidden == (8,)
    assert debug.seed == 7
    assert debug.es.std == PretrainConfig().es.std


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Outer()),
        ("# nothing but a comment", Outer()),
        ("rate: 1e-3", Outer(rate=1e-3)),  # a string to YAML 1.1
        ("rate: 3", Outer(rate=3.0)),
        ("limit: 5", Outer(limit=5)),
        ("limit: null", Outer()),
        ("flag: yes", Outer(flag=True)),
        ("inner: {size: 9}", Outer(inner=Inner(size=9))),
        ("inner:\n  widths: [8, 16]", Outer(inner=Inner(widths=(8, 16)))),
        ("inner: {widths: []}", Outer(inner=Inner(widths=()))),
    ],
)
def test_values_that_are_accepted(tmp_path, text, expected):
    loaded = presets.load_preset("pretrain", write(tmp_path, text), Outer())
    assert loaded == expected
    assert isinstance(loaded.rate, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nam: b", "'nam': did you mean name?"),
        ("inner: {sise: 3}", "'inner.sise': did you mean inner.size?"),
        ("1: 2", "unknown key"),
        ("name: 3", "name is 3, expected str"),
        ("name: null", "name is None, expected str"),
        ("rate: fast", "rate is 'fast', expected float"),
        ("rate: true", "rate is True, expected float"),
        (f"rate: 1{'0' * 400}", "rate is 10*, expected float"),  # no float is as large
        ("rate: [1]", r"rate is \[1\], expected float"),
        ("count: 2.5", "count is 2.5, expected int"),
        ("count: true", "count is True, expected int"),
        ("count: many", "count is 'many', expected int"),
        ("flag: 1", "flag is 1, expected bool"),
        ("limit: none", "limit is 'none', expected int"),
        ("inner: 3", "inner is 3, expected a mapping"),
        ("inner:", "inner is None, expected a mapping"),
        ("inner: {widths: 8}", "inner.widths is 8, expected a list"),
        ("inner: {widths: [8, x]}", "inner.widths is 'x', expected int"),
        ("- name", "holds a list, expected a mapping"),
        ("name", "holds a str, expected a mapping"),
        ("inner: [1", "is not valid YAML"),
        ("name: !!python/object:os.system {}", "is not valid YAML"),
        ("name: 2001-99-99", "is not valid YAML"),  # YAML's own reader raises ValueError here
        ("count: " + "9" * 5000, "is not valid YAML"),
        ("[" * 3000, "is not valid YAML"),
        (b"name: \x00", "is not valid YAML"),
        (b"\xff\xfe\x80", "is not valid YAML"),
    ],
)
def test_values_that_are_refused_in_one_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        presets.load_preset("pretrain", path, Outer())
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["debgu", "debug.yaml", "nowhere/debug.yml", "configs", ""])
def test_unknown_preset_lists_the_presets(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"unknown pretrain preset '{name}'.*choose from .*debug, default, "):
        presets.load_preset("pretrain", name, PretrainConfig())


def test_misspelled_preset_names_the_closest():
    with pytest.raises(UserError, match="did you mean debug"):
        presets.load_preset("pretrain", "debgu", PretrainConfig())


def test_preset_is_validated_by_the_config(tmp_path):
    with pytest.raises(UserError, match="population_size is 1, expected at least 2"):
        presets.load_preset("pretrain", write(tmp_path, "es: {population_size: 1}"), PretrainConfig())


@pytest.mark.parametrize("config", [*CONFIGS.values(), Outer(inner=Inner(widths=(1, 2)))])
def test_plain_form_and_override_are_inverse(config):
    plain = presets.to_dict(config)
    assert presets.override(type(config)(), plain) == config
    assert presets.differences(plain, plain) == []


# What each field refuses: the dataclass alone, without a parser. (command, fields, message)
NO_WEIGHT = dict.fromkeys(
    ("uniform", "confident_right", "confident_wrong", "boundary", "near_uniform", "log_uniform"), 0.0
)
NAN, INF = float("nan"), float("inf")
REFUSED = [
    ("pretrain", {"strategy": "cma"}, "unknown strategy 'cma': did you mean cma_es"),
    ("pretrain", {"network": {"hidden": []}}, "network hidden widths are ()"),
    ("pretrain", {"network": {"hidden": [0]}}, "network hidden widths are (0,)"),
    ("pretrain", {"network": {"activation": "silly"}}, "unknown activation 'silly': did you mean silu?"),
    ("pretrain", {"network": {"kind": "per_clas"}}, "unknown network kind 'per_clas': did you mean per_class"),
    (
        "pretrain",
        {"network": {"kind": "table", "hidden": [9]}},
        "unknown network kind 'table': choose from auto, joint, mono",
    ),
    ("pretrain", {"network": {"output": "abz"}}, "unknown network output 'abz': did you mean abs?"),
    ("pretrain", {"network": {"kind": "monotone", "output": "abs"}}, "network output is abs, expected identity"),
    ("pretrain", {"evaluation": "fast"}, "unknown evaluation 'fast': did you mean auto? choose from auto, plain, "),
    (
        "pretrain",
        {"evaluation": "tabulated", "network": {"kind": "joint"}},
        "but a joint network is no function of one",
    ),
    ("pretrain", {"evaluation": "tabulated", "network": {"kind": "pairwise"}}, "expected auto or plain"),
    (
        "pretrain",
        {"roughness": 1.0, "network": {"kind": "joint"}},
        "roughness is 1.0, expected 0: a joint network is no",
    ),
    ("pretrain", {"reuse": 0}, "reuse is 0, expected at least 1"),
    ("pretrain", {"reuse": 513}, "reuse is 513, expected at most half of num_pairs (1024)"),
    ("pretrain", {"held_out_pairs": 1}, "held_out_pairs is 1, expected at least 2"),
    ("pretrain", {"runs": 0}, "runs is 0, expected at least 1"),
    ("pretrain", {"runs": 3_000_000_000}, "runs is 3000000000, expected less than 2^31"),
    ("pretrain", {"seed": -1}, "seed is -1, expected at least 0"),
    ("pretrain", {"seed": 2**31 - 8, "runs": 20}, "leaves no room for 20 runs, expected less than 2^31"),
    ("pretrain", {"severity": "nl"}, "unknown severity 'nl': did you mean nll? choose from brier, error, margin, nll"),
    ("pretrain", {"num_classes": 1}, "num_classes is 1, expected at least 2"),
    ("pretrain", {"generations": 0}, "generations is 0, expected at least 1"),
    ("pretrain", {"generations": 3_000_000_000}, "generations is 3000000000, expected less than 2^31"),
    ("pretrain", {"chunk": 0}, "chunk is 0, expected at least 1"),
    ("pretrain", {"num_pairs": 1}, "num_pairs is 1, expected at least 2"),
    ("pretrain", {"beta": INF}, "beta is inf, expected a positive number"),
    ("pretrain", {"beta": 0.0}, "beta is 0.0, expected a positive number"),
    ("pretrain", {"margin": NAN}, "margin is nan, expected 0 or a positive number"),
    ("pretrain", {"wrong_way": -1.0}, "wrong_way is -1.0, expected 0 or a positive number"),
    ("pretrain", {"exploding": -1.0}, "exploding is -1.0, expected 0 or a positive number"),
    ("pretrain", {"roughness": INF}, "roughness is inf, expected 0 or a positive number"),
    ("pretrain", {"mixture": {"designed": 1.0}}, "mixture.designed_log_p has 0 quantiles, expected at least 2"),
    ("pretrain", {"mixture": {"spread": 0.0}}, "mixture.spread is 0.0, expected a number from 1e-3"),
    ("pretrain", {"mixture": {"uniform": -1.0}}, "mixture.uniform is -1.0, expected a finite number, 0 or more"),
    ("pretrain", {"mixture": {"uniform": NAN}}, "mixture.uniform is nan"),
    ("pretrain", {"mixture": {"uniform": INF}}, "mixture.uniform is inf"),
    ("pretrain", {"mixture": NO_WEIGHT}, "the weights of the mixture sum to 0"),
    ("pretrain", {"mixture": {"confidence": 0.0}}, "mixture.confidence is 0.0"),
    ("pretrain", {"mixture": {"log_p_min": 1.0}}, "mixture.log_p_min is 1.0"),
    ("pretrain", {"es": {"std_rule": "expo"}}, "unknown std rule 'expo': did you mean exponential?"),
    ("pretrain", {"es": {"chaotic_map": "logstic"}}, "unknown chaotic map 'logstic': did you mean logistic?"),
    (
        "pretrain",
        {"es": {"chaotic_map": "tent", "control": "idependent"}},
        "unknown control 'idependent': did you mean",
    ),
    ("pretrain", {"es": {"r": 3.83}}, "periodic window"),
    ("pretrain", {"es": {"r": 4.5}}, "logistic map: r is 4.5, expected "),
    ("pretrain", {"es": {"r": NAN}}, "logistic map: r is nan, expected "),
    ("pretrain", {"es": {"chaotic_map": "gauss", "r": 1.0}}, "r is 1.0, but this map has no parameter: leave r out"),
    ("pretrain", {"es": {"chaotic_map": "chebyshev", "r": 2.5}}, "chebyshev map: r is 2.5, expected "),
    ("pretrain", {"es": {"population_size": 1}}, "population_size is 1, expected at least 2"),
    ("pretrain", {"es": {"std": NAN}}, "std is nan, expected a positive number"),
    ("pretrain", {"es": {"std": 0.0}}, "std is 0.0, expected a positive number"),
    ("pretrain", {"es": {"alpha": 1.5}}, "alpha is 1.5, expected 0 <= alpha <= 1"),
    ("pretrain", {"es": {"elite_ratio": NAN}}, "elite_ratio is nan"),
    ("ablate", {"factors": []}, "no factor given, expected some of noise, "),
    ("ablate", {"runs": 0}, "runs is 0, expected 1 or more"),
    ("ablate", {"factors": ["noise", "sdt"]}, "unknown factor 'sdt': did you mean std"),
    ("ablate", {"base": {"runs": 2}}, "base.runs is 2, expected 1: give --runs for seeds per cell"),
    (
        "ablate",
        {"base": {"seed": 2**31 - 8}},
        "base.seed 2147483640 leaves no room for 10 runs, expected less than 2^31",
    ),
    ("downstream", {"lr": NAN}, "lr is nan, expected a positive number"),
    ("downstream", {"ema": 1.0}, "ema is 1.0, expected at least 0 and below 1"),
    ("downstream", {"val_size": -1}, "val_size is -1, expected at least 0"),
    ("downstream", {"target_accuracy": 95.0}, "target_accuracy is 95.0, expected above 0 and at most 1"),
]


@pytest.mark.parametrize(
    ("command", "fields", "message"), REFUSED, ids=[f"{command} {fields}" for command, fields, _ in REFUSED]
)
def test_fields_out_of_range_are_refused(command, fields, message):
    with pytest.raises(UserError) as refusal:
        presets.override(CONFIGS[command], fields)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_differences_name_the_nested_key_and_both_values():
    old = presets.to_dict(Outer())
    new = presets.to_dict(Outer(rate=0.25, inner=Inner(widths=(4, 4))))
    assert presets.differences(old, new) == ["inner.widths: [4] -> [4, 4]", "rate: 0.5 -> 0.25"]
    assert presets.differences({"a": 1}, {"b": {"c": 2}}) == ["a: 1 -> None", "b: None -> {'c': 2}"]


def test_a_stored_config_of_an_earlier_release_is_completed_with_defaults():
    """Also inside a nested config; what it holds stays, known or not."""
    config = Outer(rate=0.1, inner=Inner(size=9))
    stored = {"name": "b", "gone": 1, "inner": {"size": 3}}
    expected = {**presets.to_dict(Outer()), **stored, "inner": {"size": 3, "widths": [4]}}
    assert presets.completed(stored, config) == expected
    assert stored == {"name": "b", "gone": 1, "inner": {"size": 3}}


@dataclasses.dataclass(frozen=True)
class Growing:
    seeds: tuple[int, ...] = dataclasses.field(default=(1, 2), metadata=presets.GROWS)
    runs: int = dataclasses.field(default=3, metadata=presets.GROWS)
    fixed: tuple[int, ...] = (1, 2)


@pytest.mark.parametrize(
    ("stored", "refused"),
    [
        ({"seeds": [1], "runs": 2}, []),
        ({"seeds": [2], "runs": 4}, ["runs: 4 -> 3", "seeds: [2] -> [1, 2]"]),
        ({"seeds": [1, 2, 3], "runs": "2"}, ["runs: 2 -> 3", "seeds: [1, 2, 3] -> [1, 2]"]),
        ({"seeds": None, "runs": 3, "fixed": [1]}, ["fixed: [1] -> [1, 2]", "seeds: None -> [1, 2]"]),
    ],
)
def test_fields_that_may_grow_do_so_at_their_end_alone(stored, refused):
    stored = {"fixed": [1, 2], **stored}
    assert presets.differences(presets.grown(stored, Growing()), presets.to_dict(Growing())) == refused


def test_settings_that_are_no_mapping_are_refused_in_one_line():
    with pytest.raises(UserError, match=r"run/config.json holds a list, expected a mapping of config keys"):
        presets.override(PretrainConfig(), [1], source="run/config.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1e999"])
def test_json_that_holds_no_finite_number_is_damaged(number):
    with pytest.raises(ValueError, match=f"it holds the number {number}"):
        parse_json(f'{{"seconds": {number}}}'.encode())
