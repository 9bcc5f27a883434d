import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edl_jax import __version__
from edl_jax.cli import main as cli
from edl_jax.core.errors import DivergedError, UserError
from edl_jax.core.runs import Run
from edl_jax.pretrain import PretrainConfig, evolve as pretrain

RUN_PY = Path(__file__).parents[2] / "run.py"
WEIGHTS = ("uniform", "confident-right", "confident-wrong", "boundary", "near-uniform", "log-uniform")
RATES = ("ranking_accuracy", "fitness_ratio")
NO_WEIGHT = [part for name in WEIGHTS for part in (f"--mixture.{name}", "0")]


def listing(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with what commands may stumble over."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("x")
    (tmp_path / "broken.yaml").write_text("generations: [1")
    (tmp_path / "misspelled.yaml").write_text("es:\n  populaton_size: 3\n")
    (tmp_path / "negative.yaml").write_text("mixture: {uniform: -1}")
    config = PretrainConfig()
    Run.open("pretrain", config, out=tmp_path / "run").close()
    Run.open("pretrain", dataclasses.replace(config, seed=5), out=tmp_path / "damaged").close()
    (tmp_path / "damaged" / "config.json").write_text('{"command": "pre')
    return tmp_path


@pytest.fixture
def uncompiled(monkeypatch):
    """Compile no program of stage 1: --out is looked at after that, which is where a run could turn out too large."""
    monkeypatch.setattr(pretrain, "compile_chunk", lambda *_: None)
    monkeypatch.setattr("edl_jax.pretrain.evolve.solve_optimum", lambda _: None)


BAD = {
    "pretran": "unknown command 'pretran': did you mean pretrain? choose from ablate, data, ",
    "--foo": "unknown command '--foo'",
    "pretrain --strategy chaotic": "unknown strategy 'chaotic': did you mean chaotic_es? choose from ars, ",
    "pretrain --strategy cma": "unknown strategy 'cma': did you mean cma_es",
    "pretrain --config debgu": "unknown pretrain preset 'debgu': did you mean debug",
    "pretrain --config nowhere/mine.yaml": "unknown pretrain preset 'nowhere/mine.yaml': choose from boundary, ",
    "pretrain --config broken.yaml": "broken.yaml is not valid YAML",
    "pretrain --config misspelled.yaml": "'es.populaton_size': did you mean es.population_size?",
    "pretrain --config negative.yaml": "mixture weight uniform is -1",
    "pretrain --config": "--config: expected one argument",
    "pretrain --populaton-size 3": "unknown flag --populaton-size: did you mean --population-size? see edl-jax pretrain",
    "pretrain --std_decy=1 --seed 1": "unknown flag --std_decy: did you mean --std-decay",
    "pretrain --mixture.unifrom 1": "unknown flag --mixture.unifrom: did you mean --mixture.uniform",
    "pretrain --es.population-size 4": "unknown flag --es.population-size: did you mean --population-size?",
    "pretrain --bogus": "unknown flag --bogus; see edl-jax pretrain --help",
    "pretrain chaotic_es": "unexpected argument 'chaotic_es'; see edl-jax pretrain --help",
    "pretrain --std": "--std needs a value; see edl-jax pretrain --help",
    "pretrain --std wide": "--std is 'wide', expected FLOAT; see edl-jax pretrain --help",
    "pretrain --generations 1.5": "--generations is '1.5', expected INT",
    "pretrain --network.hidden a b": "--network.hidden is ['a', 'b'], expected [INT [INT ...]]",
    "pretrain --network.hidden": "network hidden widths are ()",
    "pretrain --network.hidden 0": "network hidden widths are (0,)",
    "pretrain --network.activation silly": "unknown activation 'silly': did you mean silu?",
    "pretrain --network.kind per_clas": "unknown network kind 'per_clas': did you mean per_class?",
    "pretrain --network.kind table --network.hidden 9": "unknown network kind 'table': choose from joint, monotone, ",
    "pretrain --network.output abz": "unknown network output 'abz': did you mean abs?",
    "pretrain --network.kind monotone --network.output abs": "network output is abs, expected identity",
    "pretrain --evaluation fast": "unknown evaluation 'fast': did you mean auto? choose from auto, plain, tabulated",
    "pretrain --evaluation tabulated --network.kind joint": "but a joint network is no function of one variable",
    "pretrain --evaluation tabulated --network.kind pairwise": "expected auto or plain",
    "pretrain --roughness 1 --network.kind joint": "roughness is 1.0, expected 0: a joint network is no",
    "pretrain --reuse 0": "reuse is 0, expected at least 1",
    "pretrain --reuse 513": "reuse is 513, expected at most half of num_pairs (1024)",
    "pretrain --held-out-pairs 1": "held_out_pairs is 1, expected at least 2",
    "pretrain --runs 0": "runs is 0, expected at least 1",
    "pretrain --runs -3": "runs is -3, expected at least 1",
    "pretrain --runs 3000000000": "runs is 3000000000, expected less than 2^31",
    "pretrain --runs two": "--runs is 'two', expected INT",
    "pretrain --seed 2147483640 --runs 20": "seed 2147483640 leaves no room for 20 runs, expected less than 2^31",
    "pretrain --mixture.designed 1": "mixture designed_log_p has 0 quantiles, expected at least 2",
    "pretrain --mixture.spread 0": "mixture spread is 0.0, expected a number from 1e-3",
    "pretrain --severity nl": "unknown severity 'nl': did you mean nll? choose from brier, error, margin, nll",
    "pretrain --std-rule expo": "unknown std rule 'expo': did you mean exponential?",
    "pretrain --chaotic-map logstic": "unknown chaotic map 'logstic': did you mean logistic?",
    "pretrain --chaotic-map tent --control idependent": "unknown control 'idependent': did you mean independent?",
    "pretrain --r 3.83": "periodic window",
    "pretrain --r 4.5": "logistic map: r is 4.5, expected ",
    "pretrain --r nan": "logistic map: r is nan, expected ",
    "pretrain --chaotic-map gauss --r 1": "r is 1.0, but this map has no parameter: leave r out",
    "pretrain --chaotic-map chebyshev --r 2.5": "chebyshev map: r is 2.5, expected ",
    "pretrain --population-size 1": "population_size is 1, expected at least 2",
    "pretrain --strategy open_es --population-size 5": "population_size is 5, expected an even number for open_es",
    "pretrain --num-classes 1": "num_classes is 1, expected at least 2",
    "pretrain --generations 0": "generations is 0, expected at least 1",
    "pretrain --generations 3000000000": "generations is 3000000000, expected less than 2^31",
    "pretrain --chunk 0": "chunk is 0, expected at least 1",
    "pretrain --num-pairs 1": "num_pairs is 1, expected at least 2",
    "pretrain --seed -1": "seed is -1, expected at least 0",
    "pretrain --mixture.uniform -1": "mixture weight uniform is -1.0, expected a finite number, 0 or more",
    "pretrain --mixture.uniform nan": "mixture weight uniform is nan",
    "pretrain --mixture.uniform inf": "mixture weight uniform is inf",
    "pretrain " + " ".join(NO_WEIGHT): "mixture weights sum to 0",
    "pretrain --mixture.confidence 0": "mixture confidence is 0.0",
    "pretrain --mixture.log-p-min 1": "mixture log_p_min is 1.0",
    "pretrain --std nan": "std is nan, expected a positive number",
    "pretrain --std 0": "std is 0.0, expected a positive number",
    "pretrain --alpha 1.5": "alpha is 1.5, expected 0 <= alpha <= 1",
    "pretrain --elite-ratio nan": "elite_ratio is nan",
    "pretrain --beta inf": "beta is inf, expected a positive number",
    "pretrain --margin nan": "margin is nan, expected 0 or a positive number",
    "pretrain --wrong-way -1": "wrong_way is -1.0, expected 0 or a positive number",
    "pretrain --out": "--out needs a value",
    "pretrain --out run": "run exists: give --resume to continue it, --overwrite to replace it, or another --out",
    "pretrain --out notes --overwrite": "notes is no run directory (it has no config.json of a run): refusing to",
    "pretrain --out file": "file is a file, expected a run directory",
    "pretrain --out file/deeper": "file/deeper: Not a directory; give another --out",
    "pretrain --resume": "--resume needs the run directory: give it with --out DIR",
    "pretrain --resume --out nowhere": "nowhere: check --out, or drop --resume to start one",
    "pretrain --resume --out notes": "notes is no run directory",
    "pretrain --resume --overwrite --out run": "--resume and --overwrite contradict each other",
    "pretrain --resume --out run --seed 1 --num-classes 3": "(config.num_classes: 10 -> 3; config.seed: 0 -> 1)",
    "pretrain --resume --out damaged": "config.json is damaged",
    "ablate --factors nosie": "unknown factor 'nosie': did you mean noise? choose from chaos_schedule, ",
    "ablate --factors": "no factor given, expected some of noise, ",
    "ablate --runs 0": "runs is 0, expected 1 or more",
    "ablate --runs 1.5": "--runs is '1.5', expected INT",
    "ablate --base.runs 2": "base.runs is 2, expected 1: give --runs for seeds per cell",
    "ablate --base.generations 0": "generations is 0, expected at least 1",
    "ablate --base.seed 2147483640": "base.seed 2147483640 leaves no room for 10 runs",
    "ablate --base.reuse 40": "factor num_pairs, level 64: reuse is 40, expected at most half of num_pairs (64)",
    "ablate --generation 3": "unknown flag --generation: did you mean --base.generations? see edl-jax ablate --help",
    "ablate --config debgu": "unknown ablate preset 'debgu': did you mean debug or default? choose from debug, default",
    "ablate --config misspelled.yaml": "unknown key in misspelled.yaml: 'es': ",
    "ablate --config debug --out notes": "notes exists: give --resume to continue it",
    "ablate --config debug --out run --resume": "cannot resume",
    "ablate --config debug --resume": "--resume needs the run directory: give it with --out DIR",
    "design-mixture --target focl": "unknown loss 'focl': did you mean focal?",
    "design-mixture --target label_smoothing": "label_smoothing turns up again at p_t = 0.91: no mixture has it as",
    "design-mixture --target brier": "brier is not a function of p_t alone",
    "design-mixture --target focal --parameters gama=2": "unknown hyper-parameter 'gama' of loss focal: did you mean",
    "design-mixture --target focal --parameters gamma": "'gamma' is not of the form name=number, such as gamma=2",
    "design-mixture --target focal --parameters gamma=x": "'gamma=x' is not of the form name=number",
    "design-mixture --num-classes 1": "num_classes is 1, expected at least 2",
    "design-mixture --log-p-min 0": "log_p_min is 0.0, expected -80 or more, below 0",
    "design-mixture --beta nan": "beta is nan, expected a positive number",
    "design-mixture --knots 2": "knots is 2, expected a number from 3 to 4096",
    "design-mixture --out mine": "--out is mine, expected a name ending in .yaml",
    "design-mixture --out negative.yaml": "negative.yaml exists: give --overwrite to replace it, or another --out",
    "design-mixture --out file/mine.yaml": "file is a file, expected a folder: give another --out",
    "design-mixture --taget focal": "unknown flag --taget: did you mean --target? see edl-jax design-mixture --help",
    "design-mixture focal": "unexpected argument 'focal'; see edl-jax design-mixture --help",
    "downstream --arch resnet19": "unknown arch 'resnet19': did you mean resnet18",
    "downstream --dataset cifar": "unknown dataset 'cifar': did you mean cifar10",
    "downstream --loss cross_entrop": "unknown loss 'cross_entrop': did you mean cross_entropy",
    "downstream --config debug --loss nowhere.safetensors": "nowhere.safetensors",
    "downstream --config debug --loss file": "file",
    "downstream --dataset cifar10 --data-dir notes": "notes",
    "downstream --config papr": "unknown downstream preset 'papr': did you mean paper",
    "downstream --lr nan": "lr is nan, expected a positive number",
    "downstream --batchsize 3": "unknown flag --batchsize: did you mean --batch-size?",
    "downstream --config debug --resume --out run": "cannot resume",
    "downstream --ema 1": "ema is 1.0, expected at least 0 and below 1",
    "downstream --val-size -1": "val_size is -1, expected at least 0",
    "downstream --config debug --val-size 1400": "train_size and val_size are 512 and 1400, expected at most 1437",
    "downstream --config digits --val-size 1400": "batch_size is 64, expected at most the 1437 training images",
    "downstream --target-accuracy 95": "target_accuracy is 95.0, expected above 0 and at most 1",
    "downstream --config debug --seeds": "--seeds is empty, expected some numbers, such as 0 1 2",
    "downstream --config debug --seeds 0 1 0": "seed 0 is given twice in --seeds",
    "downstream --config debug --seeds 0 -1": "seed is -1, expected at least 0",
    "downstream --config debug --seeds a": "--seeds is ['a'], expected [INT [INT ...]]",
    "downstream --config debug --seeds 0 --seed 1": "--seed and --seeds contradict each other: give one of them",
    "downstream --config debug --seeds 0 --profile": "--profile looks at one run: give it with --seed,",
    "downstream --config debug --seeds 0 --out run": "run exists: give --resume to continue it",
    "downstream --tensorbord": "unknown flag --tensorbord: did you mean --tensorboard",
    "summarize": "no run directories given",
    "summarize nowhere": "nowhere is no finished run (config.json is missing)",
    "summarize file": "file is no finished run",
    "summarize run": "run is no finished run (result.json is missing)",
    "data": "no data command given",
    "data prepre": "unknown data command 'prepre': did you mean prepare?",
    "data prepare": "missing NAME: cifar10, cifar100, fashion_mnist or mnist; see edl-jax data prepare --help",
    "data prepare cifar": "unknown dataset 'cifar': did you mean cifar10",
    "data prepare cifar10 --archive file": "file is not the published cifar-10-binary.tar.gz",
    "data prepare cifar10 --archive nowhere.tar.gz": "nowhere.tar.gz",
}


@pytest.mark.parametrize("line", BAD)
@pytest.mark.usefixtures("uncompiled")
def test_bad_input_is_one_line_and_nothing_is_written(folder, capsys, line):
    before = listing(folder)
    assert cli.main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert BAD[line] in err
    assert listing(folder) == before


def command(*args, **keywords):
    return subprocess.run(
        [sys.executable, str(RUN_PY), *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, **keywords
    )


@pytest.mark.parametrize(
    ("line", "locale"),
    [
        ("pretrain --populaton-size 3", "C"),
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
    assert BAD[line] in done.stderr


@pytest.mark.parametrize("line", ["pretrain --std nan", "pretrain --populaton-size 3", "nosuch"])
def test_debug_shows_the_traceback_and_keeps_the_exit_code(capsys, line):
    assert cli.main([*line.split(), "--debug"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1].startswith("error: ")
    assert cli.main(line.split()) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("", ["pretrain", "downstream", "summarize", "data prepare", "--debug", "--version"]),
        ("", ["design-mixture", "ablate"]),
        ("pretrain", ["--strategy", "--population-size", "--mixture.log-uniform", "--resume", "--out", "--config"]),
        ("pretrain", ["--runs", "--profile", "--evaluation", "--reuse", "--network.kind", "--control", "--alpha-rule"]),
        ("downstream", ["--arch", "--dataset", "--loss", "--data-dir", "--resume", "--overwrite"]),
        ("downstream", ["--seeds", "--ema", "--val-size", "--target-accuracy", "--tensorboard", "--profile"]),
        ("ablate", ["--factors", "--runs", "--base.strategy", "--base.std", "--config", "--resume", "--overwrite"]),
        ("design-mixture", ["--target", "--parameters", "--beta", "--knots", "--out", "--overwrite"]),
        ("summarize", ["RUN", "Run directories"]),
        ("data", ["data prepare NAME"]),
        ("data prepare", ["NAME", "--archive", "--data-dir"]),
    ],
)
def test_help_of_every_command(capsys, name, flags, flag):
    try:
        code = cli.main([*name.split(), flag])
    except SystemExit as stop:
        code = stop.code
    assert not code
    out, err = capsys.readouterr()
    assert err == ""
    for word in flags:
        assert word in out or word.upper() in out.upper()


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
        found.append((config, keywords))
        path = str(Path.cwd() / "out" / "loss.safetensors")
        spread = {"mean": {"ranking_accuracy": 0.75, "fitness_ratio": 1.5}, "std": dict.fromkeys(RATES, 0.125)}
        return {
            **dict.fromkeys(RATES, 0.99512),
            "fitness": 0.25,
            "r_squared": {"brier": 0.75},
            "artifact": path,
            **spread,
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
    assert keywords == {"out": Path("out"), "resume": False, "overwrite": True, "profile": True}
    out, err = capsys.readouterr()
    assert err == ""
    assert "held-out ranking accuracy 0.9951" in out
    assert "fitness 0.2500, 0.9951 of the optimum's" in out
    assert "R^2 of the loss with: brier 0.7500" in out
    assert f"loss artifact: {Path('out/loss.safetensors')}" in out
    assert "runs:" not in out


def test_several_runs_print_mean_and_deviation(calls, capsys):
    assert cli.main(["pretrain", "--runs", "3", "--seed", "7"]) == 0
    assert (calls[0][0].runs, calls[0][0].seed) == (3, 7)
    out = capsys.readouterr().out
    assert "3 runs: ranking accuracy 0.7500 ± 0.1250" in out
    assert "3 runs: fitness ratio 1.5000 ± 0.1250" in out
    assert "held-out ranking accuracy 0.9951" in out


def test_no_flags_mean_the_default_preset(calls):
    assert cli.main(["pretrain", "--strategy", "chaotic_es"]) == 0
    assert calls[0] == (PretrainConfig(), {"out": None, "resume": False, "overwrite": False, "profile": False})


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("a is 1, expected 2:\n do that"), 2, "a is 1, expected 2: do that"),
        (DivergedError("training became non-finite at step 7"), 3, "non-finite at step 7"),
        (KeyboardInterrupt(), 1, "interrupted: give the same command with --out and --resume to go on"),
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


def test_errors_of_ours_are_not_hidden(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(pretrain, "run", fail)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main(["pretrain"])


def test_summarize_prints_the_table(tmp_path, capsys):
    for seed, accuracy in enumerate([0.5, 0.7]):
        path = tmp_path / f"r{seed}"
        path.mkdir()
        config = {"command": "downstream", "config": {"loss": "edl", "seed": seed}}
        (path / "config.json").write_text(json.dumps(config))
        (path / "result.json").write_text(json.dumps({"test_accuracy": accuracy}))
    assert cli.main(["summarize", str(tmp_path / "r0"), str(tmp_path / "r1")]) == 0
    assert "| edl | 0 1 | - | 0.6000 ± 0.1414 |" in capsys.readouterr().out


def test_downstream_from_a_shell_is_silent_but_for_its_estimate(tmp_path):
    out = tmp_path / "run"
    done = command("downstream", "--config", "debug", "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cross_entropy on digits: test accuracy 0.")
    assert done.stdout.count("\n") == 1
    assert "Warning" not in done.stderr
    assert done.stderr.count("\n") <= 1
    assert json.loads((out / "result.json").read_text())["dataset"] == "digits"
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
