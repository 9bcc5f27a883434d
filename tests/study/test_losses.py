"""`python run.py losses`: list, describe, compare, draw."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from edl_jax import loss
from edl_jax.cli import main as cli
from edl_jax.study import losses


def test_the_list_names_every_loss_once(capsys):
    assert cli.main(["losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == loss.names()
    assert "-(1 - p_t)^gamma ln p_t" in next(line for line in lines if line.startswith("focal "))


def test_one_loss_is_described_and_drawn(tmp_path, capsys):
    picture = tmp_path / "new" / "focal.png"
    arguments = ["losses", "focal", "--parameters", "gamma=0", "--plot", str(picture)]
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("focal\n")
    assert "gamma = 0" in shown
    assert "proper      yes" in shown  # cross-entropy, as it is computed from the loss with that gamma
    pixels = imread(picture)
    assert pixels.shape[0] > 300
    assert np.ptp(pixels[..., :3]) > 0.5
    assert cli.main(arguments) == 2
    assert "exists: give --overwrite" in capsys.readouterr().err


def test_a_genome_that_was_typed_into_a_file_becomes_a_loss(tmp_path, capsys):
    text = tmp_path / "from_paper.txt"
    text.write_text("# cross-entropy\nroot = mul(h1, h2)\nh1 = abs(y)\nh2 = log_shift(p)\n")
    stored = tmp_path / "mine.safetensors"
    assert cli.main(["losses", "--genome", str(text), "--save", str(stored)]) == 0
    assert "NLFS check  accepted, oriented the other way: write loss = -root" in capsys.readouterr().out
    assert loss.load(stored) == loss.expression.expression_loss("abs(y)*log_shift(p)")


def test_a_table_is_markdown(capsys):
    assert cli.main(["losses", "mae", "--table"]) == 0
    head, rule, row = capsys.readouterr().out.splitlines()
    assert head.count("|") == rule.count("|") == row.count("|") == len(loss.Description.COLUMNS) + 1
    assert row.startswith("| mae | → 1 | yes | yes |")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["focla"], "unknown loss 'focla': did you mean focal or dual_focal?"),
        (["focal", "--parameters", "gama=1"], "unknown hyper-parameter 'gama' of loss focal: did you mean gamma?"),
        (["focal", "--parameters", "gamma=-1"], "focal: gamma is -1, expected a finite number of at least 0"),
        (["focal", "--parameters", "gamma"], "hyper-parameter 'gamma' is not of the form name=number"),
        (["--plot", "a.png"], "--plot needs a loss"),
        (["--parameters", "gamma=1"], "--parameters needs a loss"),
        (["--genome", "root = mul(y)"], "'root = mul(y)': mul takes 2 inputs, got 1"),
        (["--genome", "neuroloss1.txt"], "--genome is neuroloss1.txt, which is no text file that can be read"),
        (["--genome", "root = neg(y)"], "the genome is -y, expected a loss of y and p"),
        (["focal", "--genome", "root = neg(y)"], "loss focal and --genome were given, expected one of them"),
        (["focal", "--plot", "a.txt"], "--plot is a.txt, expected a name ending in .png"),
        (["nowhere.safetensors"], "no loss artifact at nowhere.safetensors"),
        (["focal", "mae"], "unexpected argument 'mae'"),
        (["--tabel"], "unknown flag --tabel: did you mean --table or"),
    ],
)
def test_what_a_person_can_get_wrong(arguments, message, capsys):
    assert cli.main(["losses", *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {message}")
    assert shown.count("\n") == 1


def test_the_page_names_every_loss():
    assert [row.split("|")[1].strip() for row in table_of_the_page()[2:]] == loss.names()


@pytest.mark.slow
def test_the_table_of_the_page_is_what_the_command_prints():
    assert losses.run(table=True).splitlines() == table_of_the_page()


def table_of_the_page():
    page = (Path(__file__).parent.parent.parent / "docs" / "choosing.md").read_text(encoding="utf-8")
    start = page.index("| loss | least at p_t |")
    return page[start : page.index("\n\n", start)].splitlines()


def test_the_list_and_the_headings_of_the_table_fit_a_page():
    lines = losses.run().splitlines()
    assert max(map(len, lines)) <= 120
    assert next(line for line in lines if line.startswith("taylor_glo ")).count("…") == 1
    assert len("| " + " | ".join(loss.Description.COLUMNS) + " |") <= 120
