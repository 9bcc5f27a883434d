"""Figures of how networks learn with several losses, and of these losses: what is drawn where."""

import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.plot import learning
from edl_jax.plot.learning import Bins, Panel
from edl_jax.plot.loss import draw_several, profile

BEFORE = Bins(np.array([0, 10, 30]), np.array([0, 4, 27]), np.array([0.0, 6.0, 27.0]))
AFTER = Bins(np.array([0, 20, 20]), np.array([0, 13, 18]), np.array([0.0, 12.0, 18.5]))


def test_a_curve_is_the_mean_of_its_runs_and_a_legend_serves_all_panels():
    curves = {"edl": np.array([[1.0, 3.0], [3.0, 5.0]]), "$loss_": np.array([[1.0, np.nan]])}
    figure = learning.curves_figure([Panel("accuracy", curves), Panel("NLL", curves, log_y=True)])
    figure.canvas.draw()
    first, second = figure.axes
    assert list(first.lines[0].get_ydata()) == [2.0, 4.0]
    assert (first.get_yscale(), second.get_yscale()) == ("linear", "log")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["edl", r"\$loss_"]
    with pytest.raises(UserError, match="no curves"):
        learning.curves_figure([])


@pytest.mark.parametrize("log_y", [False, True])
def test_the_interval_of_two_runs_does_not_set_the_axis(log_y):
    runs = np.array([[0.5, 0.7, np.nan], [0.6, 0.8, np.inf]])  # the intervals are 1.3 wide
    (axis,) = learning.curves_figure([Panel("accuracy", {"edl": runs, "gce": runs - 0.1}, log_y=log_y)]).axes
    low, high = axis.get_ylim()
    assert 0.35 < low < 0.4
    assert 0.8 < high < 0.9


def test_reliability_is_the_gap_by_confidence_before_and_after():
    figure = learning.reliability_figure({"edl": (BEFORE, AFTER), "gce": (BEFORE, None)})
    figure.canvas.draw()
    both, one = figure.axes
    gaps = [np.round(np.transpose(line.get_data()), 6).tolist() for line in both.lines[1:]]
    assert gaps == [[[0.6, -0.2], [0.9, 0.0]], [[0.6, 0.05], [0.925, -0.025]]]
    assert both.get_title() == "edl\nECE 0.0500 → 0.0375"
    assert one.get_title() == "gce\nECE 0.0500"
    assert BEFORE.plus(AFTER).examples.tolist() == [0, 30, 50]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["as predicted", "at its temperature"]


def test_pull_is_relative_to_cross_entropy(tmp_path):
    p = np.array([0.001, 0.5, 0.999])
    found = {name: profile(loss.get(name), p, 10) for name in ("cross_entropy", "brier")}
    np.testing.assert_allclose(found["cross_entropy"].pull, 1.0, rtol=1e-9)
    # 2 p (1 - p) (1 + 1 / (C - 1)) times cross-entropy's direction, for equal wrong classes
    np.testing.assert_allclose(found["brier"].pull, 2.0 * p * (1.0 - p) * (1.0 + 1.0 / 9.0), rtol=1e-6)
    draw_several(tmp_path / "losses.svg", p, found)
    assert (tmp_path / "losses.svg").read_bytes().startswith(b"<?xml")
