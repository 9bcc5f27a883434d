"""Figures of compared losses: what is drawn where."""

import math

import numpy as np
import pytest

from edl_jax.core.errors import UserError
from edl_jax.plot import comparison
from edl_jax.plot.comparison import Difference, Runs

DIFFERENCES = {
    "resnet8 on cifar10": [
        Difference("edl", 0.8, 0.4, 1.2, "better"),
        Difference("gce", -1.0, -1.5, -0.5, "worse"),
        Difference("poly1", 0.1, -0.1, 0.2, "level"),
    ],
    "lenet5 on $mnist_": [
        Difference("edl", 0.2, -0.8, 1.2, "open"),
        Difference("gce", 2.0, math.nan, math.nan, "diverged"),
    ],
}


def of_colour(axis, colour):
    return [line for line in axis.lines if line.get_color() == colour]


def test_differences_have_their_verdict_and_the_margin_is_shaded():
    figure = comparison.differences_figure(DIFFERENCES, xlabel="accuracy", margin=0.3)
    figure.canvas.draw()
    first, second = figure.axes
    for axis in figure.axes:
        (shaded,) = axis.patches
        assert (shaded.get_x(), shaded.get_x() + shaded.get_width()) == (-0.3, 0.3)
    assert [tuple(line.get_xdata()) for line in of_colour(first, comparison.GREEN)] == [(0.4, 1.2), (0.8,)]
    assert [tuple(line.get_xdata()) for line in of_colour(first, comparison.ORANGE)] == [(-1.5, -0.5), (-1.0,)]
    assert [tuple(line.get_xdata()) for line in of_colour(second, comparison.BLACK)] == [(2.0,)]  # no interval
    assert first.get_xlim() == second.get_xlim()
    assert [label.get_text() for label in first.get_yticklabels()] == ["edl", "gce", "poly1"]
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["better", "worse", "level", "open", "diverged", "within ±0.3"]


def test_losses_of_a_panel_are_named_where_the_first_one_has_others():
    figure = comparison.differences_figure(DIFFERENCES, xlabel="accuracy", margin=0.3)
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["edl", "gce"]
    panels = {title: rows[:2] for title, rows in DIFFERENCES.items()}
    figure = comparison.differences_figure(panels, xlabel="accuracy", margin=0.3)
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["", ""]


def test_every_run_is_a_dot():
    values = 90.0 + np.random.default_rng(0).normal(size=7)
    runs = [Runs("cross_entropy", values, 90.0, 89.0, 91.0), Runs("edl", [91.0], 91.0, math.nan, math.nan)]
    figure = comparison.settings_figure({"mlp on digits": runs}, xlabel="accuracy (%)")
    figure.canvas.draw()
    (axis,) = figure.axes
    drawn = [line for line in axis.lines if len(line.get_xdata()) == 7]
    np.testing.assert_array_equal(drawn[0].get_xdata(), values)
    assert (90.0, 90.0) in [tuple(line.get_xdata()) for line in axis.lines]  # the baseline's mean
    assert sum(tuple(line.get_xdata()) == (91.0,) for line in axis.lines) == 2  # a run, and the mean: no interval


def test_seeds_that_are_enough_are_filled():
    panels = {"a": [("edl", 8.0), ("gce", 1200.0)], "b": [("edl", 30.0)]}
    figure = comparison.seeds_needed_figure(panels, xlabel="seeds", have=10)
    figure.canvas.draw()
    first, _ = figure.axes
    assert first.get_xscale() == "log"
    dots = [line for line in first.lines if line.get_marker() == "o"]
    assert [line.get_markerfacecolor() for line in dots] == [comparison.BLUE, "white"]
    assert [text.get_text() for text in first.texts] == ["8", "1,200"]
    assert first.get_xlim()[1] > 1200.0


def test_many_panels_are_in_rows_of_three():
    panels = {str(i): DIFFERENCES["resnet8 on cifar10"] for i in range(5)}
    figure = comparison.differences_figure(panels, xlabel="accuracy", margin=0.3)
    assert len(figure.axes) == 5
    with pytest.raises(UserError, match="no panels"):
        comparison.differences_figure({}, xlabel="accuracy", margin=0.3)
