"""`edl-jax design-mixture`: from a wanted loss to a preset whose mixture makes evolution find it."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from edl_jax import loss
from edl_jax.cli import main as cli
from edl_jax.core.config import load_preset
from edl_jax.core.errors import UserError
from edl_jax.plot import pretraining as figures
from edl_jax.pretrain import PretrainConfig, design_mixture, solve_optimum
from edl_jax.pretrain.design_mixture import DesignConfig, run
from edl_jax.synthetic import design
from edl_jax.synthetic.optimum import draw_severities
from edl_jax.synthetic.optimum_loss import optimum_artifact

# Losses as functions of p_t, and the hyper-parameters that make them.
TARGETS = {
    "cross_entropy": ((), lambda p: -np.log(p)),
    "focal": (("gamma=2",), lambda p: -((1.0 - p) ** 2) * np.log(p)),
    "gce": (("q=0.7",), lambda p: (1.0 - p**0.7) / 0.7),
    "poly1": (("epsilon=2",), lambda p: -np.log(p) + 2.0 * (1.0 - p)),
    "mae": ((), lambda p: 1.0 - p),
    "taylor_cross_entropy": (("order=3",), lambda p: (1.0 - p) + (1.0 - p) ** 2 / 2.0 + (1.0 - p) ** 3 / 3.0),
}
# The others are for `make test-all`.
FAST = ("focal",)


def r_squared(x, y):
    return np.corrcoef(x, y)[0, 1] ** 2


def p_of_mixture(config):
    """Return p_t `[N]`, float64, of predictions of a preset's mixture."""
    return np.exp(-draw_severities(jax.random.key(3), config.mixture, "nll", config.num_classes))


@pytest.mark.parametrize("name", [*FAST, *(pytest.param(x, marks=pytest.mark.slow) for x in TARGETS if x not in FAST)])
def test_the_optimum_of_the_written_preset_is_the_target(name, tmp_path):
    parameters, function = TARGETS[name]
    out = tmp_path / "designed.yaml"
    result = run(DesignConfig(target=name, parameters=parameters), out=out)
    assert result == {"preset": str(out), "figure": str(tmp_path / "designed.png"), "r_squared": result["r_squared"]}
    assert 0.999 < result["r_squared"] <= 1.0
    config = load_preset("pretrain", str(out), PretrainConfig())
    p = p_of_mixture(config)
    assert r_squared(solve_optimum(config).loss_of_severity(1.0 - p), function(p)) > 0.999
    assert p.min() > 1e-4  # e^-9


def test_the_preset_is_readable_and_sets_the_mixture_alone(tmp_path):
    out = tmp_path / "mine.yml"
    run(
        DesignConfig(target="focal", parameters=("gamma=2",), num_classes=7, log_p_min=-4.0, beta=2.0, knots=9), out=out
    )
    text = out.read_text()
    assert text.startswith("# Mixture whose optimum is focal gamma=2: edl-jax pretrain --config ")
    values = yaml.safe_load(text)
    assert {name: values[name] for name in ("margin", "beta", "num_classes")} == {
        "margin": 0.0,
        "beta": 2.0,
        "num_classes": 7,
    }
    assert values.keys() == {"margin", "beta", "num_classes", "mixture"}
    mixture = values["mixture"]
    assert len(mixture["designed_log_p"]) == 9
    assert (mixture["designed_log_p"][0], mixture["log_p_min"], mixture["log_uniform"]) == (-4.0, -4.0, 0.0)
    wanted = design.mixture_for(loss.get("focal", gamma=2.0), 7, -4.0, beta=2.0, knots=9)
    assert tuple(mixture["designed_log_p"]) == wanted.designed_log_p
    # Margin 0 even where the defaults that it overrides have another.
    assert load_preset("pretrain", str(out), PretrainConfig(margin=1.0)).margin == 0.0
    assert 0.5 < np.mean(imread(out.with_suffix(".png")) == 1.0) < 0.99


@pytest.mark.slow
def test_a_learned_loss_by_its_path_is_a_target(tmp_path):
    """The optimum that pretrain stores of another designed mixture gives that mixture's quantiles back."""
    run(DesignConfig(target="gce"), out=tmp_path / "first.yaml")
    config = load_preset("pretrain", str(tmp_path / "first.yaml"), PretrainConfig())
    loss.save(
        optimum_artifact(jax.random.key(0), solve_optimum(config), config.mixture), tmp_path / "gce-found.safetensors"
    )
    result = run(DesignConfig(target=str(tmp_path / "gce-found.safetensors")), out=tmp_path / "second.yaml")
    again = load_preset("pretrain", result["preset"], PretrainConfig())
    p = p_of_mixture(config)
    assert r_squared(solve_optimum(again).loss_of_severity(1.0 - p), TARGETS["gce"][1](p)) > 0.995


# What is refused.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "label_smoothing"}, "label_smoothing turns up again at p_t = 0.91: no mixture has it as optimum"),
        ({"target": "ace"}, "ace turns up again at p_t = 0.91"),
        ({"target": "brier"}, "brier is not a function of p_t alone"),
        (
            {"target": "asymmetric"},
            "--target asymmetric does not fit --num-classes 10: asymmetric is a loss of two classes",
        ),
        ({"target": "focl"}, "unknown loss 'focl': did you mean focal"),
        ({"target": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"target": "focal", "parameters": ("gamma",)}, "hyper-parameter 'gamma' is not of the form name=number"),
        ({"target": "focal", "parameters": ("gamma=",)}, "hyper-parameter 'gamma=' is not of the form name=number"),
        ({"target": "focal", "parameters": ("gamma=x",)}, "hyper-parameter 'gamma=x' is not of the form name=number"),
        ({"target": "focal", "parameters": ("=2",)}, "hyper-parameter '=2' is not of the form name=number"),
        ({"target": "focal", "parameters": ("gama=2",)}, "unknown hyper-parameter 'gama' of loss focal: did you mean"),
        ({"target": "mae", "parameters": ("q=1",)}, "unknown hyper-parameter 'q' of loss mae: it has none"),
        ({"target": "focal", "parameters": ("gamma=nan",)}, "focal: gamma is nan"),
        ({"target": "gce", "parameters": ("q=2",)}, "gce: q is 2"),
        ({"target": "taylor_cross_entropy", "parameters": ("order=2.5",)}, "order is 2.5, expected an integer"),
    ],
)
def test_targets_that_are_refused_leave_nothing_behind(values, message, tmp_path):
    with pytest.raises(UserError) as refusal:
        run(DesignConfig(**values), out=tmp_path / "designed.yaml")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1, expected at least 2"),
        ({"knots": 2}, "knots is 2, expected a number from 3 to 4096"),
        ({"knots": 4097}, "knots is 4097, expected a number from 3 to 4096"),
        ({"log_p_min": 0.0}, "log_p_min is 0.0"),
        ({"log_p_min": -81.0}, "log_p_min is -81.0"),
        ({"log_p_min": float("nan")}, "log_p_min is nan"),
        ({"beta": 0.0}, "beta is 0.0, expected a positive number"),
        ({"beta": float("inf")}, "beta is inf"),
    ],
)
def test_settings_that_are_refused(values, message):
    with pytest.raises(UserError) as refusal:
        DesignConfig(**values)
    assert message in str(refusal.value)


@pytest.mark.parametrize("name", ["mine", "mine.json", "folder/mine.txt", "mine.yaml.bak"])
def test_a_file_that_is_no_yaml_is_refused(name, tmp_path):
    with pytest.raises(UserError, match=r"expected a name ending in \.yaml"):
        run(DesignConfig(), out=tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def quick(monkeypatch):
    """Draw nothing and check nothing: for what happens to the files."""
    monkeypatch.setattr(figures, "designed", lambda path, *_: path.write_text("a picture"))
    monkeypatch.setattr(design, "report", lambda *_, **__: SimpleNamespace(r_squared=1.0))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["mine.yaml", "mine.png"])
def test_existing_files_are_replaced_only_when_asked_to(name, tmp_path):
    tmp_path = tmp_path / os.fsdecode(b"a\n\xff: [")  # which the preset's first line names
    tmp_path.mkdir()
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=rf"{name} exists: give --overwrite to replace it, or another --out"):
        run(DesignConfig(), out=tmp_path / "mine.yaml")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
    run(DesignConfig(), out=tmp_path / "mine.yaml", overwrite=True)
    assert load_preset("pretrain", str(tmp_path / "mine.yaml"), PretrainConfig()).mixture.designed == 1.0
    assert (tmp_path / "mine.png").read_text() == "a picture"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file/mine.yaml", "file is a file, expected a folder: give another --out"),
        ("file/deeper/mine.yaml", "Not a directory"),
        ("x" * 300 + ".yaml", "File name too long"),
        ("folder.yaml", "folder.yaml exists: give --overwrite"),
    ],
)
def test_a_path_that_cannot_be_written_is_one_line(out, message, tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match=message) as refusal:
        run(DesignConfig(), out=tmp_path / out)
    assert "give" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.usefixtures("quick")
def test_a_folder_may_not_be_replaced(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(UserError, match="Is a directory; give another --out"):
        run(DesignConfig(), out=tmp_path / "folder.yaml", overwrite=True)
    assert (tmp_path / "folder.yaml").is_dir()


@pytest.mark.usefixtures("quick")
def test_a_folder_that_is_not_writable_is_one_line(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")  # a superuser may write anywhere

    monkeypatch.setattr(figures, "designed", refuse)
    found = run(DesignConfig(), out=tmp_path / "mine.yaml")  # a figure is not worth the preset
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text())["num_classes"] == 10
    assert not Path(found["figure"]).exists()
    assert "mine.png (PermissionError: [Errno 13] Permission denied)" in caplog.text
    monkeypatch.setattr(design_mixture, "write_atomic", refuse)
    with pytest.raises(UserError, match=r"^cannot write .*mine\.yaml: Permission denied; give another --out$"):
        run(DesignConfig(), out=tmp_path / "mine.yaml", overwrite=True)


# The command.


def test_the_command_writes_to_runs_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["design-mixture", "--target", "focal", "--parameters", "gamma=2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first, second, third = out.splitlines()
    assert first.startswith("R^2 of focal with the optimum of this mixture: 0.99") or first.endswith("1.00000")
    assert second == "preset: runs/designed-focal.yaml   figure: runs/designed-focal.png"
    assert third == "evolve it: edl-jax pretrain --config runs/designed-focal.yaml"
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"designed-focal.yaml", "designed-focal.png"}
    assert cli.main(["design-mixture", "--target", "focal"]) == 2
    assert "runs/designed-focal.yaml exists" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cross_entropy", "focal", "gce", "poly1", "mae"])
def test_evolution_finds_the_wanted_loss(name, tmp_path, monkeypatch, capsys):
    """Design, then pretrain with the preset: the evolved loss has the target's shape over the mixture."""
    monkeypatch.chdir(tmp_path)
    parameters, function = TARGETS[name]
    flags = ["--parameters", *parameters] if parameters else []
    assert cli.main(["design-mixture", "--target", name, *flags, "--out", "designed.yaml"]) == 0
    settings = "--population-size 64 --generations 150 --chunk 150 --num-pairs 512 --held-out-pairs 2048 --out run"
    assert cli.main(["pretrain", "--config", "designed.yaml", *settings.split()]) == 0
    assert capsys.readouterr().err == ""
    p = p_of_mixture(load_preset("pretrain", "designed.yaml", PretrainConfig()))
    rest = np.log1p(-p) - np.log(9.0)
    log_p = np.column_stack([np.log(p), *[rest] * 9]).astype(np.float32)
    evolved = np.asarray(loss.load("run/loss.safetensors")(log_p, np.zeros(len(p), np.int32)))
    assert r_squared(evolved, function(p)) > 0.98
