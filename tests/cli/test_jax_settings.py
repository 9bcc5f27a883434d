"""Every command under the settings of JAX that a user's environment may hold.

A run has settings of its own (`edl_jax.core.jax_settings`), so that its numbers are those of a run without any.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from edl_jax.backend import cache
from edl_jax.cli import main as cli
from edl_jax.core import jax_settings
from edl_jax.core.errors import UserError

ROOT = Path(__file__).parents[2]

# Each is the variables of one process: name=value.
SETTINGS = [
    "JAX_ENABLE_X64=1",
    "JAX_DEBUG_NANS=1 JAX_DEBUG_INFS=1",
    "JAX_NUMPY_RANK_PROMOTION=raise",
    "JAX_NUMPY_DTYPE_PROMOTION=strict",
    "JAX_DISABLE_JIT=1",
    "JAX_CHECK_TRACER_LEAKS=1",
    "JAX_DEBUG_KEY_REUSE=1 JAX_ENABLE_CHECKS=1 JAX_LEGACY_PRNG_KEY=error JAX_LOG_COMPILES=1",
    "JAX_DEFAULT_MATMUL_PRECISION=highest",
    "JAX_DEFAULT_PRNG_IMPL=rbg JAX_THREEFRY_PARTITIONABLE=0",
    "JAX_TRANSFER_GUARD=disallow",
    "JAX_NUM_CPU_DEVICES=2 JAX_DEFAULT_DEVICE=cpu JAX_PLATFORMS=cuda,cpu",
    "JAX_COMPILATION_CACHE_DIR=/dev/null/cache",
]
STAGE = "mlp_small:steps=20,batch_size=32,survivors=1"
# What --resume continues is copied from a plain run that was stopped in the middle, as by Ctrl-C.
COMMANDS = {
    "pretrain": ["pretrain", "--config", "debug", "--out", "pretrain"],
    "downstream": ["downstream", "--config", "debug", "--out", "downstream"],
    "seeds": ["downstream", "--config", "debug", "--loop", "scan", "--seeds", "3", "--out", "seeds"],
    "stream": ["downstream", "--config", "debug", "--loop", "stream", "--loss", "edl", "--out", "stream"],
    "evaluate": ["evaluate", "downstream", "--temperature"],
    "compare": ["compare", "--config", "debug", "--seeds", "0-1", "--out", "compare"],
    "ablate": ["ablate", "--config", "debug", "--factors", "chaos_schedule", "--out", "ablate"],
    "resumed pretrain": ["pretrain", "--resume", "--out", "stopped-pretrain"],
    "resumed downstream": ["downstream", "--resume", "--out", "stopped-downstream"],
    "search": ["search", "--config", "debug", "--out", "search"],
    "eliminate": ["eliminate", "search", "--config", "debug", "--stages", STAGE, "--out", "eliminate"],
    "surrogate-study": ["surrogate-study", "--config", "debug", "--out", "surrogates"],
    "correlate": ["correlate", "--config", "debug", "--out", "correlate"],
    "transfer": ["transfer", "--config", "debug", "--out", "transfer"],
    "flatness": ["flatness", "downstream", "--config", "debug", "--out", "flatness"],
    "losses NAME": ["losses", "focal", "--save", "focal.safetensors"],
    "losses --formula": ["losses", "--formula", "-y * ln(p)"],
    "losses --genome": ["losses", "--genome", "root = mul(h1, h2); h1 = abs(y); h2 = log_shift(p); loss = -root"],
    "losses": ["losses"],
    "design-mixture": ["design-mixture", "--knots", "9", "--out", "mixture.yaml"],
    "summarize": ["summarize", "downstream"],
    "report": ["report", "downstream", "--out", "report.html"],
}
SCRIPT = """
import json, sys
from edl_jax.cli import main as cli
from edl_jax.core.runs import Run

commands, stops = json.loads(sys.argv[1])
codes = {name: cli.main(arguments) for name, arguments in commands.items()}
save = Run.save
def stopped(run, step, state):
    save(run, step, state)
    if step == 2:
        raise KeyboardInterrupt
Run.save = stopped
codes |= {name: cli.main(arguments) for name, arguments in stops.items()}
with open("codes.json", "w") as file:
    json.dump(codes, file)
"""
# What two equal runs do not share: times, and what was measured with them.
MEASURED = {"artifact", "report", "seconds_compiling", "seconds_this_session", "wall_seconds", "peak_memory_mib"}
MEASURED |= {"compile_seconds", "images_per_second", "train_seconds", "seconds"}
NO_DEVICE = "platform 'cuda', asked for by JAX_PLATFORMS, is not there, expected one of cpu: "


def process(arguments, variables, **keywords):
    """Run Python in an environment with these variables, without the tests' own settings of JAX's behaviour."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | dict(text.split("=", 1) for text in variables.split())
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **keywords)


def run_all(folder, variables, commands, stops=None):
    """Run commands in one process; return their exit codes, and what it wrote on stderr."""
    done = process(["-c", SCRIPT, json.dumps([commands, stops or {}])], variables, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "codes.json").read_text()), done.stderr


def numbers(folder):
    """Return the results in a folder, by file, without what is measured."""

    def kept(value):
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items() if key not in MEASURED}
        return [kept(item) for item in value] if isinstance(value, list) else value

    found = {"mixture": (folder / "mixture.yaml").read_text()}
    for file in (*folder.glob("*/result.json"), *folder.glob("*/evaluation/*.json")):
        if file.parent.name != "ablate":  # whose figures are those of equal times
            found[str(file.relative_to(folder))] = kept(json.loads(file.read_text()))
    for file in folder.glob("ablate/cells/*.npz"):
        with np.load(file) as cell:
            found[file.name] = cell["test_ratio"].tolist()  # after equal evaluations
    assert len(found) >= 9
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder in which every command has run, and one with two runs that were stopped."""
    folder, stopped = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("stopped")
    stops = {name: [*COMMANDS[name][:-1], str(stopped / f"stopped-{name}")] for name in ("pretrain", "downstream")}
    done = {name: arguments for name, arguments in COMMANDS.items() if "--resume" not in arguments}
    codes, _ = run_all(folder, "", done, stops)
    assert codes == dict.fromkeys(done, 0) | dict.fromkeys(stops, 1)
    return folder, stopped


@pytest.mark.slow
@pytest.mark.parametrize("variables", SETTINGS)
def test_every_command_gives_the_numbers_of_plain_jax(plain, variables, tmp_path):
    folder, stopped = plain
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    codes, err = run_all(tmp_path, variables, COMMANDS)
    assert codes == dict.fromkeys(COMMANDS, 0), err
    assert "Traceback" not in err
    expected = numbers(folder)
    for name in ("pretrain", "downstream"):
        expected[f"stopped-{name}/result.json"] = expected[f"{name}/result.json"]
    assert numbers(tmp_path) == expected


COMPUTING = [
    ["pretrain"],
    ["downstream", "--config", "debug"],
    ["downstream", "--config", "debug", "--seeds", "0", "1"],
    ["evaluate", "run"],
    ["predict", "run", "image.png"],
    ["export", "run", "--out", "model"],
    ["ablate"],
    ["eliminate"],
    ["surrogate-study", "--config", "debug"],
    ["correlate", "--config", "debug"],
    ["transfer", "--config", "debug"],
    ["flatness", "run"],
    ["losses", "edl"],
    ["losses", "--table"],
    ["design-mixture"],
    ["compare", "--config", "debug"],
    ["search", "--config", "debug"],
    ["search", "--config", "debug", "--seeds", "0", "1"],
]


def test_every_command_is_here():
    assert set(cli.COMMANDS) == {name for name, *_ in COMPUTING} | {"summarize", "report", "data"}


@pytest.mark.parametrize("arguments", COMPUTING, ids=" ".join)
def test_a_command_that_computes_has_the_settings_of_runs(arguments, monkeypatch, capsys):
    """They begin by asking for a device."""

    def no_device():
        raise UserError("no device, said the settings of a run")

    monkeypatch.setattr(jax_settings, "require_device", no_device)
    assert cli.main(arguments) == 2
    assert "no device, said the settings of a run" in capsys.readouterr().err


def test_without_the_platform_asked_for_what_computes_is_one_line_and_the_rest_works(tmp_path):
    commands = {"losses": ["losses"], "losses edl": ["losses", "edl"], "pretrain": ["pretrain", "--out", "run"]}
    codes, err = run_all(tmp_path, "JAX_PLATFORMS=cuda", commands)
    assert codes == {"losses": 0, "losses edl": 2, "pretrain": 2}
    assert err == 2 * f"error: {NO_DEVICE}unset JAX_PLATFORMS, or set JAX_PLATFORMS=cpu\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("variables", ["JAX_PLATFORMS=cuda", "JAX_PLATFORMS=nonsense"])
def test_without_a_platform_help_summaries_and_data_work_and_nothing_is_lost(plain, variables, tmp_path):
    shutil.copytree(plain[0], tmp_path, dirs_exist_ok=True)
    commands = {
        "summarize": ["summarize", "downstream"],
        "report": ["report", "downstream", "--overwrite"],
        "data": ["data", "--help"],
        **{f"{name} --overwrite": [*COMMANDS[name], "--overwrite"] for name in ("pretrain", "downstream", "ablate")},
        "evaluate": ["evaluate", "downstream", "--overwrite"],
    }
    before = numbers(tmp_path)
    codes, _ = run_all(tmp_path, variables, commands)
    assert {name for name, code in codes.items() if code == 0} == {"summarize", "report", "data"}
    assert set(codes.values()) == {0, 2}
    assert numbers(tmp_path) == before
    for name in ("pretrain", "downstream", "ablate", "evaluate"):
        assert process([str(ROOT / "run.py"), name, "--help"], variables).returncode == 0


@pytest.mark.parametrize("variables", ["JAX_ENABLE_X64=maybe"])
def test_a_value_that_jax_refuses_is_one_line(variables):
    done = process([str(ROOT / "run.py"), "losses"], variables)
    assert done.returncode == 2
    assert done.stderr.startswith("error: JAX does not start (invalid truth value 'maybe' for environment 'JAX_ENABLE_")
    assert done.stderr.count("\n") == 1


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    changed = []
    before = jax.config.jax_compilation_cache_dir
    try:
        for folder in ("new/folder", "file/folder"):
            jax.config.update("jax_compilation_cache_dir", str(tmp_path / folder))
            with monkeypatch.context() as patch:
                patch.setattr(jax.config, "update", lambda *setting: changed.append(setting))
                cache.enable()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert (tmp_path / "new" / "folder").is_dir()
    assert changed == [("jax_enable_compilation_cache", False)]
    assert caplog.messages == [
        f"JAX_COMPILATION_CACHE_DIR is {tmp_path}/file/folder, which cannot be written: no compiled program is kept"
    ]
