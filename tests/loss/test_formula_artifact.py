"""Expression losses as artifacts: stored, loaded, described, damaged."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from edl_jax import loss
from edl_jax.cli import main as cli
from edl_jax.core.errors import UserError
from edl_jax.loss import expression

FOCAL = "-y * (1 - p)^2 * ln(p)"


def stored(path, **changes):
    """Write a formula's file with parts of its header changed."""
    header = {"expression": {"formula": FOCAL, "weights": None, "flip": False}, "metadata": {}} | changes
    metadata = {"format": "edl_jax.loss", "format_version": "3", "loss": json.dumps(header)}
    save_file({}, path, metadata=metadata)


def test_a_formula_comes_back_as_it_was(tmp_path, batch):
    tree = expression.parse(FOCAL)
    weights = tuple(np.linspace(0.9, 1.1, tree.size).tolist())
    artifact = loss.FormulaArtifact(expression.Record(tree, weights, True), {"found by": "hand", "é": [1, 2.5]})
    loss.save(artifact, tmp_path / "a.safetensors")
    again = loss.load_artifact(tmp_path / "a.safetensors")
    assert again.record == artifact.record
    assert again.metadata == artifact.metadata
    expected = loss.expression_loss(FOCAL, weights, flip=True)(*batch)
    np.testing.assert_array_equal(loss.load(tmp_path / "a.safetensors")(*batch), expected)
    np.testing.assert_array_equal(loss.get(str(tmp_path / "a.safetensors"))(*batch), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expression": {"formula": "y * lm(p)"}}, "column 5: unknown function 'lm'"),
        ({"expression": {"formula": FOCAL, "weights": [1.0]}}, "weights"),
        ({"expression": {"formula": FOCAL, "weights": ["a"] * 9}}, "weights"),
        ({"expression": {"formula": FOCAL, "flip": 1}}, "flip is 1, expected true or false"),
        ({"expression": "y"}, "an expression is stored as formula"),
        ({"metadata": 7}, "metadata is 7, expected a mapping"),
    ],
)
def test_damaged_files_are_named(tmp_path, changes, message):
    path = tmp_path / "bad.safetensors"
    stored(path, **changes)
    with pytest.raises(UserError) as caught:
        loss.load(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_an_expression_is_damaged(tmp_path):
    metadata = {"format": "edl_jax.loss", "format_version": "3", "loss": json.dumps({"metadata": {}})}
    save_file({}, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(UserError, match="damaged metadata"):
        loss.load(tmp_path / "a.safetensors")


def test_weights_that_do_not_fit_are_not_saved(tmp_path):
    artifact = loss.FormulaArtifact(expression.Record(expression.parse(FOCAL), (1.0, 2.0)))
    with pytest.raises(UserError, match="weights"):
        loss.save(artifact, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_command_line_stores_a_formula_and_describes_it(tmp_path, capsys, batch):
    path = tmp_path / "new" / "mine.safetensors"
    assert cli.main(["losses", "--formula", FOCAL, "--save", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "formula     sum_c [-y*(1 - p)^2*ln(p)]" in shown
    assert "p_t -> 0    unbounded; gradient 1, 1, 1 of cross-entropy's" in shown
    assert r"\ln\left(p\right)" in shown
    np.testing.assert_allclose(loss.load(path)(*batch), loss.focal(*batch), rtol=1e-5, atol=1e-6)
    assert cli.main(["losses", "--formula", FOCAL, "--save", str(path)]) == 2
    assert "exists: give --overwrite" in capsys.readouterr().err


def test_a_formula_that_does_not_parse_is_shown_with_its_place(capsys):
    assert cli.main(["losses", "--formula", "-y * lm(p)"]) == 2
    assert capsys.readouterr().err == (
        "error: formula '-y * lm(p)', column 6: unknown function 'lm': did you mean ln?\n  -y * lm(p)\n       ^\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["focal", "--formula", "y"], "loss focal and --formula were given, expected one of them"),
        (["--save", "a.safetensors"], "--save needs a loss"),
        (["--formula", "y*p", "--save", "a.txt"], "--save is a.txt, expected a name ending in .safetensors"),
        (["--formula", "y*p", "--parameters", "a=1"], "--parameters does not go with --formula"),
        (["--formula"], "--formula needs a value"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, capsys):
    assert cli.main(["losses", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
