"""The command line: what is typed wrong is one line, flags reach the config, results reach the terminal."""

import dataclasses
import errno
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

from edl_jax import __version__, pretrain
from edl_jax.cli import main as cli
from edl_jax.cli.flags import name_flags
from edl_jax.cli.pretrain import Flags
from edl_jax.core.errors import DivergedError, UserError
from edl_jax.core.runs import Run
from edl_jax.pretrain import PretrainConfig

RUN_PY = Path(__file__).parents[2] / "run.py"
# What `pretrain.run` is given where no flag says otherwise.
OPTIONS = {"out": None, "resume": False, "overwrite": False, "profile": False, "figure_format": "png"}
RATES = ("ranking_accuracy", "fitness_ratio")


def listing(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def obstacles(tmp_path_factory):
    """What commands may stumble over."""
    folder = tmp_path_factory.mktemp("obstacles")
    (folder / "file").write_text("x")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("x")
    (folder / "broken.yaml").write_text("generations: [1")
    (folder / "misspelled.yaml").write_text("es:\n  populaton_size: 3\n")
    (folder / "negative.yaml").write_text("mixture: {uniform: -1}")
    config = PretrainConfig().settled()  # as a run stores it
    Run.open("pretrain", config, out=folder / "run").close()
    Run.open("pretrain", dataclasses.replace(config, seed=5), out=folder / "damaged").close()
    (folder / "damaged" / "config.json").write_text('{"command": "pre')
    (folder / "listed").mkdir()
    (folder / "listed" / "config.json").write_text('{"command": "pretrain", "config": [1]}')
    return folder


@pytest.fixture
def folder(obstacles, tmp_path, monkeypatch):
    """A working directory with them."""
    shutil.copytree(obstacles, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# One line for each way to go wrong; what each config refuses is in tests/core/test_config.py, without the parser.
BAD = {
    # Commands
    "pretran": "unknown command 'pretran': did you mean pretrain or predict or transfer? choose from ablate, ",
    "--foo": "unknown command '--foo'",
    # Presets
    "pretrain --config debgu": "unknown pretrain preset 'debgu': did you mean debug",
    "pretrain --config nowhere/mine.yaml": "unknown pretrain preset 'nowhere/mine.yaml': choose from boundary, ",
    "pretrain --config broken.yaml": "broken.yaml is not valid YAML",
    "pretrain --config misspelled.yaml": "'es.populaton_size': did you mean es.population_size?",
    "pretrain --config negative.yaml": "error: negative.yaml: mixture.uniform is -1",
    "pretrain --config": "--config: expected one argument",
    "ablate --config debgu": "unknown ablate preset 'debgu': did you mean debug or default? choose from debug, default",
    # Flags
    "pretrain --populaton-size 3": "unknown flag --populaton-size: did you mean --population-size? see edl-jax ",
    "pretrain --std_decy=1 --seed 1": "unknown flag --std_decy: did you mean --std-decay",
    "pretrain --mixture.unifrom 1": "unknown flag --mixture.unifrom: did you mean --mixture.uniform",
    "pretrain --es.population-size 4": "unknown flag --es.population-size: did you mean --population-size?",
    "pretrain --bogus": "unknown flag --bogus; see edl-jax pretrain --help",
    "ablate --generation 3": "unknown flag --generation: did you mean --base.generations? see edl-jax ablate --help",
    "pretrain chaotic_es": "unexpected argument 'chaotic_es'; see edl-jax pretrain --help",
    "pretrain --std": "--std needs a value; see edl-jax pretrain --help",
    "pretrain --out": "--out needs a value",
    "pretrain --std wide": "--std is 'wide', expected FLOAT; see edl-jax pretrain --help",
    "pretrain --generations 1.5": "--generations is '1.5', expected INT",
    "pretrain --network.hidden a b": "--network.hidden is ['a', 'b'], expected [INT [INT ...]]",
    # Configs, by the names of their flags
    "pretrain --held-out-pairs 1": "error: --held-out-pairs is 1, expected at least 2",
    "pretrain --runs 0": "error: --runs is 0, expected at least 1",
    "pretrain --reuse 513": "error: --reuse is 513, expected at most half of --num-pairs (1024)",
    "pretrain --mixture.log-p-min 0": "error: --mixture.log-p-min is 0.0, expected a number from -80 to below 0",
    "pretrain --network.hidden": "network hidden widths are ()",
    "pretrain --roughness 1 --network.kind joint": "--roughness is 1.0, expected 0: a joint network is no",
    "pretrain --strategy open_es --population-size 5": "--population-size is 5, expected an even number for open_es",
    "ablate --base.generations 0": "generations is 0, expected at least 1",
    "ablate --base.mixture.spread 0": "error: --base.mixture.spread is 0.0, expected a number from 1e-3 to 1e6",
    "ablate --base.reuse 40": "factor num_pairs, level 64: reuse is 40, expected at most half of num_pairs (64)",
    "design-mixture --knots 2": "--knots is 2, expected a number from 3 to 4096",
    "downstream --batch-size 0": "error: --batch-size is 0, expected ",
    "downstream --config digits --epochs 1 --warmup-epochs 1": "--warmup-epochs is 1.0, expected at least 0 and below",
    "downstream --config debug --val-size 1400": "--train-size and --val-size are 512 and 1400, expected at most 1437",
    "downstream --config digits --val-size 1400": "--batch-size is 64, expected at most the 1437 training images",
    # Names in registries
    "pretrain --strategy chaotic": "unknown strategy 'chaotic': did you mean chaotic_es? choose from ars, ",
    "pretrain --network.kind per_clas": "unknown network kind 'per_clas': did you mean per_class or true_class",
    "pretrain --network.activation silly": "unknown activation 'silly': did you mean silu?",
    "pretrain --network.output abz": "unknown network output 'abz': did you mean abs?",
    "pretrain --evaluation fast": "unknown evaluation 'fast': did you mean auto? choose from auto, plain, tabulated",
    "pretrain --severity nl": "unknown severity 'nl': did you mean nll? choose from brier, error, margin, nll",
    "pretrain --std-rule expo": "unknown std rule 'expo': did you mean exponential?",
    "pretrain --chaotic-map logstic": "unknown chaotic map 'logstic': did you mean logistic?",
    "pretrain --chaotic-map tent --control idependent": "unknown control 'idependent': did you mean independent?",
    "ablate --factors nosie": "unknown factor 'nosie': did you mean noise? choose from chaos_schedule, ",
    "design-mixture --target focl": "unknown loss 'focl': did you mean focal or dual_focal?",
    "downstream --arch resnet19": "unknown arch 'resnet19': did you mean resnet18",
    "downstream --dataset cifar": "unknown dataset 'cifar': did you mean cifar10",
    "data prepre": "unknown data command 'prepre': did you mean prepare?",
    # Run directories and other files
    "pretrain --out run": "run exists: give --resume to continue it, --overwrite to replace it, or another --out",
    "pretrain --out notes --overwrite": "notes is no run directory (it has no config.json of a run): refusing to",
    "pretrain --out file": "file is a file, expected a run directory",
    "ablate --config debug --out file/deeper": "file/deeper: Not a directory; give another --out",
    "pretrain --resume": "--resume needs the run directory: give it with --out DIR",
    "pretrain --resume --out nowhere": "nowhere: check --out, or drop --resume to start one",
    "pretrain --resume --out notes": "notes is no run directory",
    "pretrain --resume --overwrite --out run": "--resume and --overwrite contradict each other",
    "pretrain --resume --out run --seed 1 --num-classes 3": " config (config.num_classes: 10 -> 3; config.seed: 0 -> ",
    "pretrain --resume --out damaged": "config.json is damaged",
    "pretrain --resume --out listed": "config.json holds a list, expected a mapping",
    "ablate --config debug --out notes": "notes exists: give --resume to continue it",
    "ablate --config debug --out run --resume": "cannot resume",
    "downstream --config debug --resume --out run": "cannot resume",
    "design-mixture --out mine": "--out is mine, expected a name ending in .yaml",
    "design-mixture --out negative.yaml": "negative.yaml exists: give --overwrite to replace it, or another --out",
    "design-mixture --target focal --parameters gamma=x": "'gamma=x' is not of the form name=number",
    "downstream --config debug --loss nowhere.safetensors": "nowhere.safetensors",
    "downstream --config debug --loss file": "file",
    "downstream --dataset cifar10 --data-dir notes": "notes",
    "evaluate nowhere": "nowhere",
    "export nowhere": "missing --out: DIR Folder to write; see edl-jax export --help",
    "predict nowhere": "no run at ",
    "summarize": "no run directories given",
    "summarize nowhere": "nowhere is no finished run (config.json is missing)",
    "summarize run": "run is no finished run (result.json is missing)",
    "report": "no directory given: edl-jax report DIR",
    "report nowhere": "there is no directory nowhere: give one that a command has made",
    "report file": "file is a file, expected a directory that a command has made",
    "report notes": "notes is no directory of a command, and contains none (no config.json)",
    "report run ./run": "run is given 2 times, expected each directory once",
    "report damaged": "damaged/config.json cannot be read (",
    "report run --out page.md": "page.md, expected a name ending in .html",
    "report run --out file/page.html": "file is a file, expected a folder: give another --out",
    "report run --out run": "run, expected a name ending in .html",
    # Paths that are none
    "downstream --dataset cifar10 --data-dir gs://bucket/tfds": "error: gs://bucket/tfds is a URL, expected a path on",
    "downstream --config debug --cache-dir s3://bucket": "error: s3://bucket is a URL, expected a path on this machine",
    "downstream --config debug --loss https://a.b/c.safetensors": "error: https://a.b/c.safetensors is a URL, expected",
    "downstream --config debug --loss notes": "; for the run in that folder write ./notes",
    "downstream --config debug --loss ./notes": "no loss artifact at notes/loss.safetensors: check the path",
    "pretrain --out ~no-such-user/run": "error: ~no-such-user/run cannot be expanded: there is no user no-such-user",
    # Flags that contradict each other, and arguments that are missing
    "downstream --config debug --seeds": "--seeds is empty, expected some numbers, such as 0 1 2",
    "downstream --config debug --seeds 0 1 0": "seed 0 is given twice in --seeds",
    "downstream --config debug --seeds -1": "error: -1 is among --seeds, expected numbers from 0 to 2^31 - 1",
    "downstream --config debug --seeds a": "--seeds is ['a'], expected [INT [INT ...]]",
    "downstream --config debug --seeds 0 --seed 1": "--seed and --seeds contradict each other: give one of them",
    "downstream --config debug --seeds 0 --profile": "--profile looks at one run: give it with --seed,",
    "downstream --config debug --seeds 0 --out run": "run exists: give --resume to continue it",
    "data": "no data command given",
    "data prepare": "missing NAME: cifar10, cifar100, fashion_mnist or mnist; see edl-jax data prepare --help",
    "data prepare cifar": "unknown dataset 'cifar': did you mean cifar10",
    "data prepare cifar10 --archive file": "file is not the published cifar-10-binary.tar.gz",
    "data prepare cifar10 --archive nowhere.tar.gz": "nowhere.tar.gz",
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_is_one_line_and_nothing_is_written(folder, capsys, line):
    before = listing(folder)
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert BAD[line] in err
    assert listing(folder) == before


def test_an_error_in_a_formula_points_at_its_place(capsys):
    assert cli.main(["losses", "--formula", "-y * lg(p)"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, formula, caret = err.splitlines()
    assert first.startswith("error: formula '-y * lg(p)', column 6: ")
    assert formula == "  -y * lg(p)"
    assert caret == "  " + " " * 5 + "^"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("num_pairs is 1, expected", "--num-pairs is 1, expected"),
        (
            "reuse is 3, expected at most half of num_pairs (4)",
            "--reuse is 3, expected at most half of --num-pairs (4)",
        ),
        ("std is nan", "--std is nan"),
        ("network.hidden is 3", "--network.hidden is 3"),
        ("the mixture is a mixture, out of runs", "the mixture is a mixture, out of runs"),
        ("config.num_pairs: 1 -> 2", "config.num_pairs: 1 -> 2"),
        ("no file my/num_pairs.yaml", "no file my/num_pairs.yaml"),
        ("with another config (config.seed: 0 -> 1)", "with another config (config.seed: 0 -> 1)"),
    ],
)
def test_fields_are_named_as_flags_where_a_value_follows(message, expected):
    assert name_flags(message, Flags) == expected


def command(*args, **keywords):
    return subprocess.run(
        [sys.executable, str(RUN_PY), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, **keywords
    )


@pytest.mark.parametrize(
    ("line", "locale"),
    [
        ("data prepare", "C"),  # of what tyro parses, the quickest to start
        pytest.param("pretrain --populaton-size 3", "C", marks=pytest.mark.slow),
        pytest.param("pretrain --std wide", "POSIX", marks=pytest.mark.slow),
        pytest.param("pretrain --out run", "C.UTF-8", marks=pytest.mark.slow),
    ],
)
def test_bad_input_from_a_shell(folder, line, locale):
    # tyro draws its boxes in what the locale has.
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(*line.split(), cwd=folder, env=environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert BAD[line].replace("edl-jax", "python run.py") in done.stderr


@pytest.mark.parametrize("line", ["pretrain --std nan", "pretrain --populaton-size 3", "nosuch"])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys, line):
    assert cli.main([*line.split(), "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1].startswith("error: ")
    assert cli.main(line.split()) == 2
    assert "Traceback" not in capsys.readouterr().err


HELP = {
    "": "pretrain downstream compare summarize data design-mixture ablate losses evaluate --debug --version",
    "pretrain": "--strategy --population-size --mixture.log-uniform --resume --out --config --runs --profile "
    "--evaluation --reuse --network.kind --control --alpha-rule --overwrite",
    "downstream": "--arch --dataset --loss --data-dir --resume --overwrite --seeds --ema --val-size "
    "--target-accuracy --tensorboard --profile",
    "eliminate": "--stages --count --baselines --final --seeds --data-dir --config --resume --overwrite",
    "ablate": "--factors --runs --base.strategy --base.std --config --resume --overwrite --retime",
    "design-mixture": "--target --parameters --beta --knots --out --overwrite",
    "losses": "--parameters --table --plot --formula --genome --save",
    "evaluate": "--dataset --temperature --data-dir --overwrite",
    "predict": "RUN IMAGE_OR_FOLDER --top --temperature --format --out --overwrite --data-dir",
    "export": "RUN --out --batch-size --overwrite --data-dir",
    "compare": "--losses --archs --datasets --label-noise --seeds --epochs --tune-lr --margin --workers --join --retry",
    "summarize": "RUN",
    "report": "DIR --out --title --overwrite",
    "data": "data prepare NAME",
    "search": "--method --arch --local-search --gp.generations --seeds --resume",
    "surrogate-study": "RUNS --surrogates --candidates --repeat --dataset --seed --resume --out --data-dir",
    "correlate": "RUNS --mixtures --generations --losses --random --networks --seeds --config --resume --data-dir",
    "transfer": "RUNS --mixture --examples --epochs --seed --config --resume --overwrite --out --data-dir",
    "flatness": "RUNS --examples --eigenvalues --iterations --probes --directions --grid --config --resume --overwrite",
    "data prepare": "NAME --archive --data-dir",
}


@pytest.mark.parametrize(("name", "flag"), [*((name, "--help") for name in HELP), ("", "-h"), ("data prepare", "-h")])
def test_help_of_every_command(capsys, name, flag):
    try:
        code = cli.main([*name.split(), flag])
    except SystemExit as stop:
        code = stop.code
    assert not code
    out, err = capsys.readouterr()
    assert err == ""
    for word in HELP[name].split():
        assert word in out or word.upper() in out.upper()


def test_every_command_has_a_help_test():
    assert set(cli.COMMANDS) <= set(HELP)


def test_help_and_version_from_a_shell(tmp_path):
    done = command("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: python run.py <command> [flags]" in done.stdout
    done = command("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{__version__}\n", "")


def test_no_command_shows_the_usage_and_fails(capsys):
    assert cli.main([]) == 2
    assert "usage: edl-jax" in "".join(capsys.readouterr())


@pytest.fixture
def calls(monkeypatch):
    """The arguments that `pretrain.run` is called with, instead of a run."""
    found = []

    def run(config, **keywords):
        assert keywords.pop("stop").requested is False
        found.append((config, keywords))
        path = str(Path.cwd() / "out" / "loss.safetensors")
        spread = {"mean": {"ranking_accuracy": 0.75, "fitness_ratio": 1.5}, "std": dict.fromkeys(RATES, 0.125)}
        return {
            **dict.fromkeys(RATES, 0.99512),
            "fitness": 0.25,
            "r_squared": {"brier": 0.75},
            "artifact": path,
            **({"runs": [{}] * config.runs, **spread} if config.runs > 1 else {}),
        }

    monkeypatch.setattr(pretrain, "run", run)
    return found


def test_flags_override_the_preset_and_the_preset_the_defaults(calls, capsys):
    line = "pretrain --config debug --generations 3 --population_size 8 --mixture.uniform 2 --network.hidden 4 4"
    assert cli.main([*line.split(), "--strategy", "snes", "--out", "out", "--overwrite", "--profile"]) == 0
    (config, keywords) = calls[0]
    assert (config.generations, config.es.population_size, config.strategy) == (3, 8, "snes")
    assert (config.mixture.uniform, config.network.hidden) == (2.0, (4, 4))
    assert (config.chunk, config.num_pairs) == (2, 64)  # the preset's
    assert config.es.std == PretrainConfig().es.std
    assert keywords == {**OPTIONS, "out": Path("out"), "overwrite": True, "profile": True}
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines()] == [
        ["held-out", "ranking", "accuracy", "0.9951"],
        ["fitness", "over", "optimum's", "0.9951"],
        ["R^2", "with", "brier", "0.7500"],
        ["loss", "artifact:", "out/loss.safetensors"],
    ]


def test_several_runs_print_mean_and_deviation(calls, capsys):
    assert cli.main(["pretrain", "--runs", "3", "--seed", "7"]) == 0
    assert (calls[0][0].runs, calls[0][0].seed) == (3, 7)
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[:2] == [
        "held-out ranking accuracy 0.9951 3 runs: 0.7500 ± 0.1250",
        "fitness over optimum's 0.9951 3 runs: 1.5000 ± 0.1250",
    ]


def test_no_flags_mean_the_default_preset(calls):
    assert cli.main(["pretrain", "--strategy", "chaotic_es"]) == 0
    assert calls[0] == (PretrainConfig(), OPTIONS)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a is 1, expected 2:\n do that"), 2, "a is 1, expected 2: do that"),
        (DivergedError("training became non-finite at step 7"), 3, "non-finite at step 7"),
        (KeyboardInterrupt(), 130, "interrupted: give the same command again"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device; make room, then give the same"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "quota exceeded; make room"),
        (ValueError("RESOURCE_EXHAUSTED: write: No space left on device [OS error 28]"), 2, "cannot write: No space"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "cannot use a/b: Permission denied"),
    ],
)
def test_errors_from_below_have_one_line_and_an_exit_code(monkeypatch, capsys, error, code, message):
    def fail(*_, **__):
        try:
            raise error
        except OSError:
            raise RuntimeError("a library's own words") from error

    monkeypatch.setattr(pretrain, "run", fail)
    assert cli.main(["pretrain"]) == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ZeroDivisionError("a\nbug"), "error: ZeroDivisionError: a bug, in edl_jax/cli/pretrain.py, line "),
        (KeyError("gone"), "error: KeyError: 'gone', in edl_jax/cli/pretrain.py, line "),
        (AssertionError(), "error: AssertionError, in edl_jax/cli/pretrain.py, line "),
        (RecursionError("maximum recursion depth exceeded"), "error: RecursionError: maximum recursion depth"),
        (MemoryError(), "error: not enough memory (MemoryError, in edl_jax/cli/pretrain.py, line "),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying"), "error: not enough memory (jax"),
        (RuntimeError("x" * 100_000), f"error: RuntimeError: {'x' * 285}…, in edl_jax/cli"),
    ],
)
def test_errors_that_nobody_foresaw_have_one_line_and_are_no_success(monkeypatch, capsys, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(pretrain, "run", fail)
    assert cli.main(["pretrain"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1
    again = "; --debug shows the traceback; give the same command with --out and --resume to go on\n"
    assert err.endswith(": ask for less, such as a smaller batch or population\n" if "memory" in message else again)
    assert cli.main(["pretrain", "--debug"]) == 2
    assert capsys.readouterr().err.startswith("Traceback (most recent call last)")


def test_a_package_that_is_not_installed_is_named_and_a_module_of_ours_is_a_bug(monkeypatch, capsys):
    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'flix'", name=missing)

    monkeypatch.setattr(pretrain, "run", fail)
    missing = "flix.linen"
    assert cli.main(["pretrain"]) == 2
    assert capsys.readouterr().err == (
        "error: edl-jax pretrain needs the package flix, which is not installed: pip install 'edl-jax[train]'\n"
    )
    missing = "edl_jax.nowhere"
    assert cli.main(["pretrain"]) == 2
    assert "pip install" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "0.6000 ± 0.1414"), ("cp1252", "0.6000 ± 0.1414"), ("ascii", "0.6000 +- 0.1414")]
)
def test_summarize_prints_the_table_in_any_encoding(tmp_path, monkeypatch, encoding, shown):
    for seed, accuracy in enumerate([0.5, 0.7]):
        path = tmp_path / f"r{seed}"
        path.mkdir()
        config = {"command": "downstream", "config": {"loss": "réseau_猫_\udcff", "seed": seed}}
        (path / "config.json").write_text(json.dumps(config))
        (path / "result.json").write_text(json.dumps({"test_accuracy": accuracy}))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding))
    assert cli.main(["summarize", str(tmp_path / "r0"), str(tmp_path / "r1")]) == 0
    sys.stdout.flush()
    name = "réseau_猫_".encode(encoding, "backslashreplace") + b"\xff"  # a byte of a file name
    assert b"| " + name + f" | 0 1 | - | {shown} |".encode(encoding) in out.getvalue()


def test_warnings_of_libraries_have_one_line(monkeypatch, capsys):
    def warn(*_, **__):
        logging.getLogger("some.library").warning("two\nlines")
        sys.stderr.write(warnings.formatwarning("more\n" + "x" * 1000, UserWarning, "file.py", 7))
        raise UserError("the end")

    monkeypatch.setattr(pretrain, "run", warn)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    assert cli.main(["pretrain"]) == 2
    first, second, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("two lines", "error: the end")
    assert second.startswith("warning: more xxx")
    assert len(second) == 500


def test_downstream_from_a_shell_is_silent_but_for_its_estimate(tmp_path):
    out = tmp_path / "run"
    small = ["--epochs", "1", "--warmup-epochs", "0", "--train-size", "128"]
    done = command("downstream", "--config", "debug", *small, "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cross_entropy on digits: test accuracy 0.")
    assert done.stdout.count("\n") == 1
    assert "Warning" not in done.stderr
    assert done.stderr.count("\n") <= 1
    assert json.loads((out / "result.json").read_text())["dataset"] == "digits"
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
