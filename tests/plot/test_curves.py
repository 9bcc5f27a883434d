import itertools
import math
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from edl_jax.core.errors import UserError
from edl_jax.plot.curves import LINES_PER_PANEL, convergence, convergence_figure, differences, differences_figure
from edl_jax.plot.sensitivity import sensitivity, sensitivity_figure
from edl_jax.stats import intervals as statistics

INF, NAN = math.inf, math.nan
NAMES = [f"noise {i}" for i in range(20)]


def make_curves(count, runs=5, points=40):
    decay = np.exp(-np.arange(points) / 8.0)
    noise = 0.02 * np.random.default_rng(0).random((count, runs, points))
    return {NAMES[i]: (1.0 + 0.1 * i) + 3.0 * decay + noise[i] for i in range(count)}


def make_factors(**extra):
    values = np.random.default_rng(1).random
    return {
        "noise": (["logistic", "gaussian", "independent"], 1.0 + values((3, 5))),
        "population": ([16, 64, 256, 1024], 1.0 + values((4, 5))),
        **extra,
    }


LONG = (["independent draws, same law", "b"], np.array([[1.0, INF], [2.0, 3.0]]))
DEFAULT = {"noise": "gaussian", "population": 64}
ROWS = [("noise: tent", 0.1, -0.1, 0.3), ("std: 0.3", -0.4, -0.6, -0.2), ("std: 1", NAN, NAN, NAN)]


def lines(axis):
    """Labelled lines of axes by label."""
    return {line.get_label(): line for line in axis.lines if not line.get_label().startswith("_")}


def is_inside(figure):
    """Say whether all that is drawn, text included, lies within the figure."""
    figure.canvas.draw()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return drawn.x0 >= 0.0 and drawn.x1 <= width and drawn.y0 >= 0.0 and drawn.y1 <= height


# All figures.


FIGURES = {
    "convergence": lambda: convergence_figure(make_curves(3), ylabel="fitness"),
    "spread": lambda: convergence_figure(make_curves(12), ylabel="spread", default="noise 0", log_x=True, log_y=True),
    "sensitivity": lambda: sensitivity_figure(make_factors(), ylabel="fitness", default=DEFAULT),
    "long names": lambda: sensitivity_figure({"f": LONG}, ylabel="generations", default={"f": "b"}),
    "differences": lambda: differences_figure(ROWS, xlabel="difference"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_clipped(name):
    assert is_inside(FIGURES[name]())


def test_figures_are_written_without_pyplot(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    convergence(tmp_path / "new" / "c.png", make_curves(2), ylabel="fitness")
    sensitivity(tmp_path / "s.png", make_factors(), ylabel="fitness", default=DEFAULT)
    differences(tmp_path / "d.png", ROWS, xlabel="difference")
    assert ("matplotlib.pyplot" in sys.modules) == before
    for path in ("new/c.png", "s.png", "d.png"):
        image = imread(tmp_path / path)
        assert image.shape[1] >= 5 * 140
        assert 0.5 < np.mean(image == 1.0) < 0.99


# Convergence.


def test_convergence_draws_means_bands_and_the_reference():
    curves = make_curves(3)
    figure = convergence_figure(curves, ylabel="fitness", reference=0.9, reference_label="F*", xlabel="evaluations")
    (axis,) = figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("evaluations", "fitness")
    drawn = lines(axis)
    assert set(drawn) == {*curves, "F*"}
    for label, values in curves.items():
        np.testing.assert_array_equal(drawn[label].get_xdata(), np.arange(1, 41))
        np.testing.assert_allclose(drawn[label].get_ydata(), np.mean(values, axis=0))
    for area, values in zip(axis.collections, curves.values(), strict=True):
        heights = area.get_paths()[0].vertices[:, 1]
        _, low, high = statistics.band(values)
        np.testing.assert_allclose([heights.min(), heights.max()], [low.min(), high.max()])
    legend = axis.get_legend()
    # From the highest end to the lowest.
    assert [text.get_text() for text in legend.get_texts()] == ["noise 2", "noise 1", "noise 0", "F*"]
    assert legend.get_title().get_text() == "mean, 95 % interval\nover 5 runs"


def test_a_linear_axis_shows_what_follows_the_start():
    curves = {"a": np.r_[1e6, np.linspace(3.0, 2.0, 99)] + np.array([[0.0], [0.01]])}
    low, high = convergence_figure(curves, ylabel="fitness", reference=1.5).axes[0].get_ylim()
    assert 1.0 < low < 1.5
    assert 3.0 < high < 4.0


def test_a_logarithmic_axis_shows_geometric_means():
    curves = {"a": np.array([[1.0, 0.01, 0.1], [4.0, 0.04, 0.0]])}  # at 0 there is no logarithm
    (axis,) = convergence_figure(curves, ylabel="spread", log_y=True).axes
    assert axis.get_yscale() == "log"
    np.testing.assert_allclose(lines(axis)["a"].get_ydata(), [2.0, 0.02, NAN])
    assert axis.get_legend().get_title().get_text().startswith("geometric mean")
    # The band of two runs reaches 1e-7 and would flatten the curve.
    assert 0.005 < axis.get_ylim()[0] < 0.02


@pytest.mark.parametrize(
    ("count", "default", "panels"), [(8, None, 1), (9, None, 2), (8, "noise 3", 1), (16, "noise 3", 3)]
)
def test_at_most_eight_lines_share_a_panel(count, default, panels):
    curves = make_curves(count, points=5)
    figure = convergence_figure(curves, ylabel="fitness", default=default)
    drawn = [lines(axis) for axis in figure.axes]
    assert len(drawn) == panels
    assert all(len(panel) <= LINES_PER_PANEL for panel in drawn)
    assert {label for panel in drawn for label in panel} == set(curves)
    for panel in drawn:
        looks = {(line.get_color(), line.get_linestyle()) for line in panel.values()}
        assert len(looks) == len(panel)
        assert default is None or panel[default].get_color() == "#000000"
    assert len({axis.get_ylim() for axis in figure.axes}) == 1


def test_convergence_over_a_measure_of_each_label():
    curves = make_curves(2, points=3)
    seconds = {"noise 0": np.array([1.0, 2.0, 3.0]), "noise 1": np.array([2.0, 4.0, 6.0])}
    (axis,) = convergence_figure(curves, ylabel="fitness", x=seconds, xlabel="seconds").axes
    for label, x in seconds.items():
        np.testing.assert_array_equal(lines(axis)[label].get_xdata(), x)
    with pytest.raises(UserError, match="noise 0 has 3 points"):
        convergence_figure(curves, ylabel="fitness", x=np.arange(4))


@pytest.mark.parametrize("case", ["single run", "single point", "constant", "diverged", "all diverged"])
@pytest.mark.parametrize("log_y", [False, True])
def test_curves_of_few_equal_or_infinite_values_can_be_drawn(tmp_path, case, log_y):
    values = make_curves(1)["noise 0"]
    if case == "single run":
        values = values[:1]
    elif case == "single point":
        values = values[:, :1]
    elif case == "constant":
        values = np.ones_like(values)
    else:
        values[0 if case == "diverged" else slice(None), 20:] = INF
        values[-1, 30:] = NAN
    convergence(tmp_path / "c.png", {"a": values}, ylabel="fitness", log_y=log_y)
    assert imread(tmp_path / "c.png").shape[0] == 504


def test_the_legend_counts_the_runs():
    curves = make_curves(2, runs=3)
    titles = []
    for counts in ((1, 1), (3, 3), (1, 3)):
        some = {label: values[:count] for (label, values), count in zip(curves.items(), counts, strict=True)}
        titles.append(convergence_figure(some, ylabel="fitness").axes[0].get_legend().get_title().get_text())
    assert titles == ["one run", "mean, 95 % interval\nover 3 runs", "mean, 95 % interval\nover 1 to 3 runs"]


def test_curves_that_cannot_be_drawn_are_refused():
    with pytest.raises(UserError, match="no curves"):
        convergence_figure({}, ylabel="fitness")
    with pytest.raises(UserError, match="default 'c' is not among the curves: noise 0, noise 1"):
        convergence_figure(make_curves(2), ylabel="fitness", default="c")
    with pytest.raises(UserError, match=r"a has shape \(4,\), expected \[runs, points\]"):
        convergence_figure({"a": np.ones(4)}, ylabel="fitness")


# Sensitivity.


def test_sensitivity_draws_a_panel_a_factor_with_every_run_and_its_means():
    factors = make_factors()
    figure = sensitivity_figure(factors, ylabel="fitness", default=DEFAULT, reference=1.0)
    assert [axis.get_title() for axis in figure.axes] == list(factors)
    assert len({axis.get_ylim() for axis in figure.axes}) == 1
    assert figure.axes[0].get_ylabel() == "fitness"
    for axis, (levels, values) in zip(figure.axes, factors.values(), strict=True):
        assert [text.get_text() for text in axis.get_xticklabels()] == [str(level) for level in levels]
        points = [line.get_ydata() for line in axis.lines if line.get_marker() == "."]
        np.testing.assert_array_equal(points, values)
        intervals = [statistics.interval(runs) for runs in values]
        drawn = {container.lines[0].get_ydata()[0]: container for container in axis.containers}
        np.testing.assert_allclose(list(drawn), [mean for mean, _, _ in intervals])
        for container, (_, low, high) in zip(drawn.values(), intervals, strict=True):
            np.testing.assert_allclose(container.lines[2][0].get_segments()[0][:, 1], [low, high])
        markers = [container.lines[0].get_marker() for container in drawn.values()]
        assert markers == ["s" if level in DEFAULT.values() else "o" for level in levels]
        assert len(axis.patches) == 1  # the default's shade
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["one run", "mean, 95 % interval", "default level"]


@pytest.mark.parametrize(
    ("levels", "ratios"),
    [
        ([0.0, 0.5, 0.75, 1.0], [2, 1, 1]),
        ([1, 2, 3, 4], [1, 1, 1]),
        ([16, 64, 256, 2048], [2, 2, 3]),  # logarithmic
        ([3.6, 3.9, 3.95, 4.0], [1, 1, 1]),  # would be crowded
        ([4, 2, 1], [-1, -1]),
        (["a", "b", "c"], [1, 1]),
    ],
)
def test_levels_stand_at_their_values_unless_crowded(levels, ratios):
    values = np.ones((len(levels), 3)) + np.arange(3)
    (axis,) = sensitivity_figure({"f": (levels, values)}, ylabel="y", default={}).axes
    steps = np.diff(axis.get_xticks())
    np.testing.assert_allclose(steps / abs(steps[-1]), np.array(ratios) / abs(ratios[-1]), rtol=1e-9)
    connected = [line for line in axis.lines if len(line.get_xdata()) == len(levels) and line.get_marker() == "None"]
    assert len(connected) == (not isinstance(levels[0], str))


def test_runs_that_never_got_there_are_triangles_and_have_a_median():
    values = np.array([[10.0, 20.0, 30.0, INF], [10.0, 11.0, 12.0, 13.0], [INF] * 4])
    figure = sensitivity_figure({"std": ([0.1, 0.3, 1.0], values)}, ylabel="g", default={"std": 0.3}, log_y=True)
    (axis,) = figure.axes
    assert [len(line.get_xdata()) for line in axis.lines if line.get_marker() == "^"] == [1, 4]
    assert len(axis.containers) == 1  # one level has a mean
    bars = [line for line in axis.lines if line.get_linewidth() == 1.8]
    assert [list(line.get_ydata()) for line in bars] == [[25.0, 25.0]]
    assert [t.get_text() for t in figure.legends[0].get_texts()][-2:] == [
        "run that never got there",
        "median, where some never did",
    ]


def test_many_factors_take_several_rows(tmp_path):
    factors = {name: (["a", "b"], np.ones((2, 3))) for name in NAMES[:10]}
    factors["wide"] = (NAMES, np.ones((20, 3)) + np.arange(3))
    figure = sensitivity_figure(factors, ylabel="y", default={})
    assert len(figure.axes) == 11
    assert is_inside(figure)
    boxes = [axis.get_position() for axis in figure.axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert len({round(box.y1, 6) for box in boxes}) == 4


@pytest.mark.parametrize(
    "values", [[[1.0], [2.0]], [[1.0, NAN], [2.0, 3.0]], [[NAN, NAN], [1.0, 1.0]], [[0.1, 5.0], [1, 1]]]
)
@pytest.mark.parametrize("log_y", [False, True])
def test_levels_of_few_or_missing_runs_can_be_drawn(tmp_path, values, log_y):
    sensitivity(tmp_path / "s.png", {"f": (["a", "b"], np.array(values))}, ylabel="y", default={}, log_y=log_y)
    assert imread(tmp_path / "s.png").shape[1] == 700


def test_factors_that_cannot_be_drawn_are_refused():
    with pytest.raises(UserError, match="no factors"):
        sensitivity_figure({}, ylabel="y", default={})
    with pytest.raises(UserError, match="default 'c' is not a level of f: a, b"):
        sensitivity_figure({"f": (["a", "b"], np.ones((2, 2)))}, ylabel="y", default={"f": "c"})
    with pytest.raises(UserError, match=r"values of f have shape \(3, 2\), expected one row for each of 2 levels"):
        sensitivity_figure({"f": (["a", "b"], np.ones((3, 2)))}, ylabel="y", default={})


# Differences.


@pytest.mark.parametrize("linear_within", [None, 0.1])
def test_differences_are_drawn_from_top_to_bottom_with_a_line_at_zero(linear_within):
    figure = differences_figure(ROWS, xlabel="difference of F", linear_within=linear_within)
    (axis,) = figure.axes
    assert axis.get_xlabel().splitlines()[0] == "difference of F"
    assert axis.get_xscale() == ("linear" if linear_within is None else "symlog")
    assert [text.get_text() for text in axis.get_yticklabels()] == [label for label, *_ in ROWS]
    assert axis.yaxis_inverted()
    zero, *others = axis.lines
    assert list(zero.get_xdata()) == [0.0, 0.0]
    assert [[*map(float, line.get_xdata())] for line in others] == [[-0.1, 0.3], [0.1], [-0.6, -0.2], [-0.4]]
    marks = [line for line in others if line.get_marker() == "o"]
    # Filled where the interval leaves out zero.
    assert [mark.get_markerfacecolor() == mark.get_color() for mark in marks] == [False, True]
    assert [text.get_text() for text in axis.texts] == ["no mean: runs that never got there"]


def test_a_difference_without_an_interval_is_a_point():
    (axis,) = differences_figure([("a", 1.0, NAN, NAN)], xlabel="d").axes
    assert [list(line.get_xdata()) for line in axis.lines[1:]] == [[1.0]]


def test_no_differences_are_refused():
    with pytest.raises(UserError, match="no differences"):
        differences_figure([], xlabel="d")
