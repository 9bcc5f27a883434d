import itertools

import numpy as np
import pytest
from matplotlib.image import imread

from edl_jax.plot import search as figures
from edl_jax.plot.search import MOST_WINNERS, PARTS

GAP = np.linspace(-9.0, 12.0, 201)
ERROR = np.linspace(-2.0, 2.0, 101)
ORDINARY = np.tile(np.abs(ERROR), (3, 1))


def rows(count, **changed):
    return [
        {
            "generation": i + 1,
            "best": 0.1 + 0.5 / (i + 1),
            "generation_best": 0.11 + 0.6 / (i + 1),
            "generation_median": 0.3 + 0.6 / (i + 1),
            "evaluated": 20,
            "rejected": 8 if i else 18,
            "known": 5,
            "diverged": i % 2,
            **{name: 0.1 + j for j, name in enumerate(PARTS)},
            **changed,
        }
        for i in range(count)
    ]


def winners(count, classes=10):
    pull = 1.0 / (1.0 + np.exp(GAP - np.log(classes - 1)))
    return [(f"$1 {i}_y*p", GAP, pull ** (1 + i)) for i in range(count)]


def drawn(monkeypatch, function, *arguments):
    """Return the figure that a function draws, without writing it."""
    kept = []
    monkeypatch.setattr(figures, "write", lambda path, figure: kept.append(figure))
    function("f.png", *arguments)
    return kept[0]


def is_inside(figure):
    """Say whether all that is drawn, text included, lies within the figure."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return box.x0 >= 0.0 and box.x1 <= width and box.y0 >= 0.0 and box.y1 <= height


def test_a_search_has_three_figures(tmp_path):
    paths = figures.draw(tmp_path / "figures", rows(12), winners(2), 10)
    assert [path.name for path in paths] == ["convergence.png", "gradient_profile.png", "time.png"]
    for path in paths:
        image = imread(path)
        assert image.shape[1] >= 6 * 140
        assert 0.5 < np.mean(image == 1.0) < 0.99


def test_a_figure_that_fails_costs_no_other(tmp_path, monkeypatch, caplog):
    def fails(*_):
        raise ValueError("no ink")

    monkeypatch.setattr(figures, "gradient_profile", fails)
    monkeypatch.setattr(figures, "convergence", fails)
    (path,) = figures.draw(tmp_path, rows(2), winners(1), 10)
    assert path == tmp_path / "time.png"
    assert "convergence.png, gradient_profile.png (ValueError: no ink)" in caplog.text


def test_a_search_without_winners_has_no_profile(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(figures, "write", lambda path, figure: path.touch())
    assert [path.stem for path in figures.draw(tmp_path / "two", rows(2), [], 10)] == ["convergence", "time"]
    assert [path.stem for path in figures.draw(tmp_path / "one", rows(1), [], 10)] == ["time"]


MISSING = {"best": None, "generation_best": None, "generation_median": None}


@pytest.mark.parametrize(
    ("count", "changed"),
    [(60, {}), (2, MISSING), (3, {"evaluated": 0, "known": 0, "rejected": 0}), (1, {"best": 0.001})],
)
def test_convergence(monkeypatch, count, changed):
    figure = drawn(monkeypatch, figures.convergence, rows(count, **changed))
    above, below = figure.axes
    assert count < 60 or is_inside(figure)
    assert (above.get_yscale() == "log") == ("best" in changed and changed["best"] is not None)
    heights = [sum(bar.get_height() for bar in bars) for bars in zip(*below.containers, strict=True)]
    assert all(0.0 <= height <= 100.0 for height in heights)
    if not changed:
        assert heights[0] == pytest.approx(92.0)


@pytest.mark.parametrize("count", [1, 7])
def test_profiles_name_their_losses_to_the_letter(monkeypatch, count):
    figure = drawn(monkeypatch, figures.gradient_profile, winners(count), 10)
    shown = min(count, MOST_WINNERS)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*(rf"\$1 {i}_y*p" for i in range(shown)), "cross-entropy"]
    assert count == 1 or is_inside(figure)
    left, right = figure.axes
    named = {line.get_label(): line for line in left.lines}
    np.testing.assert_allclose(named["cross-entropy"].get_ydata(), named[r"\$1 0_y*p"].get_ydata())
    assert right.get_ylim()[0] > -0.3


def test_a_pull_that_is_not_finite_has_a_gap(monkeypatch):
    (label, gap, pull) = winners(1)[0]
    figure = drawn(monkeypatch, figures.gradient_profile, [(label, gap, np.where(gap > 0.0, pull, np.nan))], 10)
    assert np.isfinite(figure.axes[0].get_ylim()).all()


def test_regression_shapes(monkeypatch):
    broken = np.where(ERROR > 1.0, np.inf, np.square(ERROR)) + np.zeros((3, 1))
    losses = [("square", ERROR, 3.0 + 7.0 * np.tile(np.square(ERROR), (3, 1))), ("absolute", ERROR, ORDINARY)]
    figure = drawn(monkeypatch, figures.draw_regression_shapes, [*losses, ("broken", ERROR, broken)])
    assert is_inside(figure)
    assert len(figure.axes) == 3
    for axis in figure.axes:
        curves = {line.get_label(): line.get_ydata() for line in axis.lines}
        np.testing.assert_allclose(curves["square"], np.square(ERROR), atol=1e-9)
        np.testing.assert_allclose(curves["squared error"], np.square(ERROR))
    constant = drawn(monkeypatch, figures.draw_regression_shapes, [("c", ERROR, 0.0 * ORDINARY)])
    assert np.isfinite(constant.axes[0].lines[1].get_ydata()).all()


@pytest.mark.parametrize(("seconds", "unit"), [(0.0, "seconds"), (30.0, "seconds"), (300.0, "minutes"), (1e5, "hours")])
def test_time(monkeypatch, seconds, unit):
    spent = dict(zip(PARTS, itertools.chain([seconds], itertools.repeat(0.0)), strict=False))
    figure = drawn(monkeypatch, figures.time, rows(1, **spent))
    (axis,) = figure.axes
    assert seconds != 300.0 or is_inside(figure)
    assert axis.get_xlabel() == unit
    assert [label.get_text() for label in axis.get_yticklabels()] == (["kernels"] if seconds else [])
