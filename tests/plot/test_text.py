"""Text of people in figures: drawn to the letter, whatever is in it; a figure that fails costs a line."""

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.text import Text

from edl_jax.plot import style, text
from edl_jax.plot.classifier import confusion_matrix_figure, reliability_figure, training_curves_figure
from edl_jax.plot.curves import convergence_figure, differences_figure
from edl_jax.plot.sensitivity import sensitivity_figure
from edl_jax.plot.text import literal, literals

# What a person has typed, and what is to be read.
TEXTS = {
    "cost $5$": "cost $5$",
    "$\\frac{$ 100 %": "$\\frac{$ 100 %",
    r"a\$b\$c {x} %s": r"a\$b\$c {x} %s",
    "_hidden": " _hidden",
    "two\nlines\tand\x1b[31m more": "two lines and□[31m more",
    "\u202egnp.exe\udcff": "gnp.exe□",
    "": " ",
    "x" * 5000: "x" * 39 + "…",
    "\U00012000": "□",  # cuneiform
}


def read(text):
    """Return the characters that Matplotlib lays out."""
    shown, is_math = Text(0, 0, text)._preprocess_math(text)
    assert is_math is False
    return shown


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_drawn_to_the_letter(text):
    assert read(literal(text)) == TEXTS[text]


def test_a_line_does_not_break_within_an_escape():
    lines = read(literal("$" * 10, width=3))
    assert lines == "$$$\n$$$\n$$$\n$"


def test_characters_without_a_font_are_said_once(caplog):
    text._say_missing.cache_clear()
    text._family.cache_clear()
    assert literals(["\U00012000\U00012001", "\U00012002", "\U00012003"]) == ["0 □□", "1 □", "2 □"]
    assert caplog.messages == ["no installed font has some characters of the names in figures: they are □ there"]


def test_other_fonts_are_asked_for_what_the_usual_one_lacks():
    assert text._family("\u2abd") not in ("", None)  # a relation of mathematics, which STIX has
    figure = style.new_figure(1.0, 1.0)
    figure.text(0, 0, literal("a \u2abd b"))
    assert text.font_families(figure)[1:] == [text._family("\u2abd")]


def test_names_that_would_look_alike_have_numbers():
    assert literals(["a", "b"]) == ["a", "b"]
    assert literals(["x" * 50 + "a", "x" * 50 + "b"]) == [f"{i} {'x' * 23}…" for i in range(2)]


def test_no_place_for_a_persons_text_reads_mathtext():
    math, ones = "$a$", np.ones(2)
    row = {"epoch": 1, "train_accuracy": 0.5, "train_loss": 1.0, "test_nll": 1.0}
    figures = [
        confusion_matrix_figure(np.eye(2), names=[math, "b"], title=math),
        convergence_figure({math: np.ones((1, 3))}, ylabel="y", reference=1.0, reference_label=math),
        differences_figure([(math, 1.0, 0.0, 2.0)], xlabel="x"),
        sensitivity_figure({math: ([math], np.ones((1, 2)))}, ylabel="y", default={math: math}),
        reliability_figure(ones, ones, ones, title=math),
        training_curves_figure([row], loss=math),
    ]
    for figure in figures:
        assert any(math in read(text.get_text()) for text in figure.findobj(Text))


@pytest.mark.parametrize("kind", style.FORMATS)
def test_any_name_is_written_in_every_format(kind, tmp_path):
    """Under a matplotlibrc that asks for TeX; a warning, as of a glyph, would be an error."""
    with rc_context({"text.usetex": True}):
        figure = confusion_matrix_figure(np.eye(len(TEXTS)), names=list(TEXTS), title=" ".join([*TEXTS][:-2]))
        style.write(tmp_path / f"figure.{kind}", figure)
    assert [path.name for path in tmp_path.iterdir()] == [f"figure.{kind}"]


def test_a_legend_lists_every_name():
    figure = convergence_figure({name: np.ones((1, 3)) for name in TEXTS}, ylabel="y")
    shown = [text.get_text() for axis in figure.axes for text in axis.get_legend().get_texts()]
    assert sorted(shown) == sorted(map(literal, TEXTS))


def test_figures_that_fail_cost_a_line_and_leave_no_part(tmp_path, caplog, monkeypatch):
    def broken(path):
        figure = style.new_figure(2.0, 1.0)
        monkeypatch.setattr(figure, "savefig", lambda file, **_: (file.write(b"part"), 1 / 0))
        style.write(path, figure)

    folder = tmp_path / "figures"
    drawn = {"a.png": broken, "b.png": lambda path: path.write_bytes(b"b"), "c.png": broken}
    style.draw_all({folder / name: draw for name, draw in drawn.items()}, "do this")
    assert [path.name for path in folder.iterdir()] == ["b.png"]
    assert caplog.messages == [
        f"not drawn in {folder}: a.png, c.png (ZeroDivisionError: division by zero); all numbers are written; "
        "to draw again do this"
    ]
