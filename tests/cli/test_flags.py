"""What the flags of several commands share."""

import inspect

import numpy as np
import pytest

from edl_jax.cli import ablate, compare, downstream, evaluate, main as cli, pretrain
from edl_jax.cli.flags import load
from edl_jax.core.errors import UserError
from edl_jax.downstream import DownstreamConfig, evaluate as evaluation, run as train, run_seeds
from edl_jax.plot import classifier, style
from edl_jax.plot.style import FORMATS
from edl_jax.pretrain import run as evolve
from edl_jax.study.ablate import run as study
from edl_jax.study.compare import run as run_grid

HEADS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.mark.parametrize("name", FORMATS)
def test_a_figure_is_the_same_file_each_time(name, tmp_path):
    contents = []
    for folder in ("a", "b"):
        figure = style.new_figure(3.0, 2.0)
        axis = figure.subplots()
        axis.plot([1.0, 2.0], [2.0, 1.0], "o", label="x")
        axis.legend()
        style.write(tmp_path / folder / f"figure.{name}", figure)
        contents.append((tmp_path / folder / f"figure.{name}").read_bytes())
    assert contents[0].startswith(HEADS[name])
    assert contents[0] == contents[1]


def test_figures_of_a_classifier_have_the_format_that_is_asked_for(tmp_path):
    bins = (np.array([1.0, 3.0]), np.array([0.0, 3.0]), np.array([0.4, 2.7]))
    rows = [{"epoch": 1, "train_accuracy": 0.5, "test_accuracy": 0.4, "train_loss": 1.0, "test_nll": 2.0}]
    labels = {"loss": "mae", "names": ["x", "y"], "title": "t"}
    classifier.draw(tmp_path, rows, bins=bins, confusion=np.eye(2), **labels, figure_format="svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confusion.svg", "curves.svg", "reliability.svg"]
    assert all(path.read_bytes().startswith(HEADS["svg"]) for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "epochs", "warmup"),
    [
        ("--config digits --epochs 1", 1, 0.1),
        ("--epochs=1 --config=debug", 1, 0.1),
        ("--config digits --epochs 1 --warmup_epochs 0.5", 1, 0.5),
        ("--config digits --epochs 2", 2, 1.0),
        ("--epochs 3", 3, 5.0),  # the default, which is fitted when it is used
    ],
)
def test_a_presets_warmup_is_fitted_to_typed_epochs(line, epochs, warmup):
    config = DownstreamConfig
    found = load(downstream.Flags, config, line.split(), "downstream", config.beside).settings
    assert (found.epochs, found.warmup_epochs) == (epochs, warmup)


@pytest.mark.parametrize("command", [pretrain, ablate, compare, downstream, evaluate])
def test_commands_that_draw_have_the_flag(command):
    assert "figure_format" in command.Flags.__dataclass_fields__


@pytest.mark.parametrize("function", [evolve, study, run_grid, train, run_seeds, evaluation.run])
def test_an_unknown_format_is_refused_before_anything_else(function):
    first = [None] * sum(p.default is p.empty for p in inspect.signature(function).parameters.values())
    with pytest.raises(UserError, match=r"unknown figure_format 'gif': .*choose from pdf, png, svg"):
        function(*first, figure_format="gif")


def test_an_unknown_format_on_the_command_line(capsys):
    assert cli.main(["evaluate", "run", "--figure-format", "pgn"]) == 2
    assert "'pgn': did you mean png? choose from pdf, png, svg" in capsys.readouterr().err


@pytest.mark.slow  # tests/study/test_losses.py draws one in the fast tier, and tests/plot/test_text.py in every format
@pytest.mark.parametrize("name", FORMATS)
def test_a_loss_is_drawn_as_the_suffix_says(name, tmp_path):
    file = tmp_path / f"mae.{name}"
    assert cli.main(["losses", "mae", "--plot", str(file)]) == 0
    assert file.read_bytes().startswith(HEADS[name])
