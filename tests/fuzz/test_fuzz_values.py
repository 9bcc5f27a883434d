"""Presets and flags: whatever is typed or written there, it is a config or one line, and nothing else happens."""

import importlib
import os
from pathlib import Path

import pytest
import yaml
from fuzz_damage import changed_json, damaged
from fuzz_harness import FaultError, Outcome, call, fuzz, restore, tree
from fuzz_scenarios import STOPPED, no_work
from hypothesis import strategies as st

from edl_jax.cli.flags import _flags
from edl_jax.cli.main import COMMANDS
from edl_jax.core.config import presets_dir, to_dict
from edl_jax.downstream import DownstreamConfig
from edl_jax.pretrain import PretrainConfig
from edl_jax.study.ablate import AblateConfig

CONFIGS = {"pretrain": PretrainConfig(), "downstream": DownstreamConfig(dataset="digits"), "ablate": AblateConfig()}
# YAML that is more than numbers and names.
STRANGE = (
    b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (x, x, *[x - 1] * 9) for x in b"bcdefghij"),
    b"seed: !!python/object/apply:os.system ['echo unpickled >&2']\n",
    b"seed: !!python/name:os.system\n",
    b"seed: 2026-11-28\n",
    b"seed: 0o17\nseed: 1\n",
    b"<<: {seed: 1}\n",
    b"<<: [1]\n",
    b"? [1, 2]\n: 3\n",
    b"? {a: 1}\n: 3\n",
    b"seed: .nan\n",
    b"seed: !!binary aGk=\n",
    b"seed: !!set {a, b}\n",
    b"- 1\n--- \n- 2\n",
    b"seed: 1:20:30\n",
    b"seed: " + b"9" * 5000 + b"\n",
    b"[" * 50_000,
    b"{a: " * 10_000,
    b"&a [*a]\n",
    b"&a {seed: *a}\n",
    b"\tseed: 1\n",
    b"%YAML 9.9\n--- {}\n",
)
WORDS = ["", "-", "--", "nan", "inf", "-inf", "1e999", "0x10", "1_000", "None", "True", "~", "\\", "=", "²", "digits"]
values = (
    st.sampled_from(WORDS)
    | st.integers(-(2**66), 2**66).map(str)
    | st.integers(-2, 70).map(str)
    | st.floats().map(str)
    | st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), max_size=12)
    | st.binary(min_size=1, max_size=4).map(lambda x: os.fsdecode(x.replace(b"\0", b"").replace(b"/", b"")))
)
# These name files that are written, and a folder that is filled.
WRITTEN = {"out", "plot", "save", "cache_dir", "archive", "config"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def demand(outcome: Outcome, folder: Path, what: str) -> None:
    """Raise for what a call broke that must write nothing."""
    found = outcome.faults
    if outcome.code == 0 and "--help" not in outcome.arguments:
        found.append("it worked, where the work is taken away")
    written = [name for name in tree(folder) if not name.startswith(("new", "preset"))]
    if written or (STOPPED not in outcome.err and (folder / "new").exists()):
        found.append(f"these were written: {written or 'new'}")
    restore(folder, {})
    if found:
        raise FaultError(f"{what}: {'; '.join(found)}\n{outcome}")


def check_preset(name: str, data: st.DataObject, folder: Path) -> None:
    """Write a preset and call the command that reads it."""
    shape = data.draw(st.sampled_from(["changed", "changed", "changed", "shipped", "strange"]), label="shape")
    if shape == "changed":
        config = data.draw(changed_json(to_dict(CONFIGS[name])), label="config")
        content = yaml.safe_dump(config, allow_unicode=True).encode("utf-8", "surrogatepass")
    elif shape == "strange":
        content = data.draw(st.sampled_from(STRANGE), label="content")
    else:
        shipped = data.draw(st.sampled_from(sorted((presets_dir() / name).glob("*.yaml"))), label="preset")
        _, changed = data.draw(damaged(shipped.read_bytes(), shipped.name), label="damage")
        content = b"" if changed is None else changed
    (folder / "preset.yaml").write_bytes(content)
    arguments = (name, "--config", "preset.yaml", "--out", "new")
    with no_work():
        outcome = call((*arguments, "--dataset", "digits") if name == "downstream" else arguments)
    demand(outcome, folder, f"preset of {name}, {content[:300]!r}")


def check_flags(name: str, data: st.DataObject, folder: Path) -> None:
    """Call a command with flags of its own and values of any kind, and some that are no flags."""
    module = importlib.import_module(f"edl_jax.cli.{COMMANDS[name][0]}")
    flags = sorted(flag for field, flag in _flags(module.Flags).items() if field not in WRITTEN)
    arguments: list[str] = []
    some = st.lists(st.sampled_from([*flags, "--nothing", "--out"]), min_size=1, max_size=3)
    for flag in data.draw(some, label="flags"):
        given = data.draw(st.lists(values, max_size=2), label=flag)
        arguments += [f"{flag}={given[0]}", *given[1:]] if given and data.draw(st.booleans()) else [flag, *given]
    arguments += data.draw(st.lists(values, max_size=1), label="rest")
    if name in CONFIGS:
        arguments = ["--config", "debug", "--out", "new", *arguments]
    with no_work():
        outcome = call((name, *arguments))
    demand(outcome, folder, f"flags of {name}")


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_is_a_config_or_one_line(name, folder):
    fuzz(0.03, lambda data: check_preset(name, data, folder))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CONFIGS, "evaluate", "summarize", "losses"])
def test_flags_are_a_config_or_one_line(name, folder):
    fuzz(0.01, lambda data: check_flags(name, data, folder))
