"""Axes and legends that can be read: of differences, of F/F* - 1, of the NLL."""

import math

import numpy as np
import pytest

from edl_jax.plot import pretraining
from edl_jax.plot.classifier import training_curves_figure
from edl_jax.plot.curves import differences_figure

NAN = math.nan


def legend(figure):
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


@pytest.mark.parametrize(
    ("high", "scale", "ticks"),
    [
        (5.0, "linear", None),
        (12.0, "symlog", [-10, -5, -2, -1, 0, 1, 2, 5, 10]),
        (150.0, "symlog", [-100, -10, -1, 0, 1, 10, 100]),
    ],
)
def test_an_axis_of_differences_is_linear_unless_they_reach_far(high, scale, ticks):
    (axis,) = differences_figure([("a", 1.0, -1.0, high)], xlabel="d", linear_within=1.0).axes
    assert axis.get_xscale() == scale
    assert ("logarithmic beyond" in axis.get_xlabel()) == (scale == "symlog")
    if ticks is not None:
        np.testing.assert_allclose(axis.get_xticks(), ticks)
        assert len(axis.get_xticks(minor=True)) == 0


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((-1.0, 2.0), ["95 % interval holds 0"]),
        ((0.5, 2.0), ["95 % interval leaves out 0"]),
        ((NAN, NAN), ["no interval"]),
    ],
)
def test_the_legend_of_differences_lists_the_marks_that_occur(bounds, expected):
    assert legend(differences_figure([("a", 1.0, *bounds)], xlabel="d")) == expected


def test_differences_without_a_mean_have_no_legend():
    assert legend(differences_figure([("a", NAN, NAN, NAN)], xlabel="d")) == []


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures that would be written."""
    figures = []
    monkeypatch.setattr(pretraining, "write", lambda _, figure: figures.append(figure))
    return figures


def rows(count, **known):
    return [
        {"generation": i + 1, "fitness_mean": 0.4, "fitness_best": 0.33, "ranking_accuracy": 0.98, **known}
        for i in range(count)
    ]


def test_fitness_is_drawn_above_the_optimum_where_that_is_known(drawn, tmp_path):
    pretraining.convergence(tmp_path / "c.png", rows(50, fitness_ratio=1.1))
    axis = drawn[0].axes[0]
    assert axis.get_yscale() == "log"
    population, best, mark = axis.lines
    np.testing.assert_allclose(population.get_ydata(), 0.4 / 0.3 - 1.0)
    np.testing.assert_allclose(best.get_ydata(), 0.1)
    assert mark.get_ydata()[0] == 0.01


def test_fitness_is_drawn_as_it_is_where_the_optimum_is_not_known(drawn, tmp_path):
    pretraining.convergence(tmp_path / "c.png", rows(5))
    pretraining.convergence(tmp_path / "d.png", rows(5, fitness_ratio=None))
    for figure in drawn:
        assert figure.axes[0].get_yscale() == "linear"
        np.testing.assert_allclose(figure.axes[0].lines[1].get_ydata(), 0.33)


def test_the_nll_is_logarithmic_where_it_has_a_logarithm():
    known = {"train_accuracy": 0.5, "test_accuracy": 0.5, "train_loss": 1.0}
    for value, scale in ((2.0, "log"), (0.0, "linear"), (None, "linear")):
        figure = training_curves_figure([{"epoch": e, "test_nll": value, **known} for e in (1, 2)])
        assert figure.axes[2].get_yscale() == scale
