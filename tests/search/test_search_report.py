"""The report of a search as Markdown: what is in it, and text that would break a table."""

import numpy as np

from edl_jax.loss.expression import parse
from edl_jax.search import formulas, report, shape
from edl_jax.search.formulas import Formula
from edl_jax.search.report import Winner
from edl_jax.search.shape import Shape
from edl_jax.search.tables import EXACT_LOG_P

SMOOTHING = Shape(shape.SMOOTHING, 0.995, 0.99, 0.834)
COUNTS = {"evaluated": 30, "known": 10, "rejected": 20, "diverged": 1}


def written(tmp_path, winners, title="A search", facts=None, **options):
    options = {"counts": COUNTS, "time": {"training": 90.0, "other": 10.0, "kernels": 0.0}, **options}
    report.write(tmp_path / "report.md", title, facts or {}, winners, **options)
    return (tmp_path / "report.md").read_text()


def cells(line):
    """Return the cells of a row of a table."""
    return [cell.strip() for cell in line.replace(r"\|", "<bar>").strip("|").split("|")]


def test_a_report(tmp_path):
    best = Winner(0.0312, 7, formulas.describe(parse("abs(log_clamp(1.2*y*p))")), SMOOTHING)
    other = Winner(0.05, 2, formulas.describe(parse("-y*ln(p)")), Shape(shape.ENTROPY, 1.0, 1.0, None))
    figure = tmp_path / "figures" / "gradient_profile.png"
    text = written(tmp_path, [best, other], facts={"method": "evomal"}, figures=[figure])
    lines = text.splitlines()
    assert lines[0] == "# A search"
    assert "| method | evomal |" in lines
    smoothing = "implicit label smoothing | 0.995 | 0.990 | 0.834 | 7 | 7 | `abs(log_clamp(1.2*p*y))` |"
    assert f"| 1 | 0.0312 | {smoothing}" in lines
    assert "| 2 | 0.05 | entropy-like | 1 | 1.000 | - | 4 | 2 | `-y*ln(p)` |" in lines
    assert f"$$\n{best.formula.latex}\n$$" in text
    assert "In full: `abs(log_clamp(1.2*y*p))`" in lines
    assert "| rejected | 20 | 50.0 % |" in lines
    assert "| training | 90 s | 90.0 % |" in lines or "| training | 1.5 min | 90.0 % |" in lines
    assert not any("kernels" in line for line in lines)
    assert "![gradient profile](<figures/gradient_profile.png>)" in lines
    assert f" downstream --loss {tmp_path / 'loss.safetensors'}" in text


def test_nothing_breaks_a_table(tmp_path):
    formula = Formula("a | b", "a | b", "|ln(p)| `x`\n" + "y" * 300, "", 3)
    winners = [Winner(0.1, 1, formula, SMOOTHING), Winner(0.2, 1, formula, None)]
    text = written(tmp_path, winners, title="a|b\n# c", facts={"data | set": "<x>\ny | z", "k": 1})
    lines = text.splitlines()
    assert lines[0] == r"# a\|b \# c"
    assert [cells(line) for line in lines if "data" in line] == [[r"data <bar> set", r"\<x\> y <bar> z"]]
    rows = [cells(line) for line in lines if "ln(p)" in line]
    assert [len(row) for row in rows] == [9, 9]
    assert rows[0][-1].startswith("`<bar>ln(p)<bar> 'x' yyy")
    assert rows[0][-1].endswith("y…`")
    assert rows[1][2:6] == ["-"] * 4
    assert "$$" not in text


def test_a_search_that_found_nothing(tmp_path):
    text = written(tmp_path, [], counts={}, time={})
    assert "No candidate has a finite fitness." in text
    assert "downstream" not in text
    assert "|" not in text


def test_a_regression_has_no_groups(tmp_path):
    text = written(tmp_path, [Winner(1.5, 3, formulas.describe(parse("(y - p)^2")))])
    assert "| 1 | 1.5 | 4 | 3 | `(y - p)^2` |" in text
    assert "entropy" not in text


def test_a_curve_is_at_the_scale_of_cross_entropy():
    table = np.stack([np.zeros_like(EXACT_LOG_P), np.full_like(EXACT_LOG_P, -7.0)]).astype(np.float32)
    label, gap, pull = report.curve("7 times", table, 10, shape.describe(table, 10))
    assert label == "scale 7: 7 times"
    np.testing.assert_allclose(pull, 1.0 / (1.0 + np.exp(gap) / 9.0), atol=1e-5)
    zeros = np.zeros_like(table)
    assert report.curve("nothing", zeros, 10, shape.describe(zeros, 10))[0] == "scale 0: nothing"
