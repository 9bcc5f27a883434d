import math

import numpy as np
import pytest
from matplotlib.image import imread

from edl_jax.core.errors import UserError
from edl_jax.plot.classifier import (
    confusion_matrix,
    confusion_matrix_figure,
    reliability,
    reliability_figure,
    training_curves,
    training_curves_figure,
)


def make_rows(count):
    return [
        {
            "epoch": epoch,
            "train_accuracy": 1 - 0.9 / epoch,
            "test_accuracy": 0.9 - 0.5 * abs(epoch - 3) / count,
            "train_loss": -math.log(epoch),
            "test_nll": 1 / epoch,
        }
        for epoch in range(1, count + 1)
    ]


BINS = {
    "count": np.array([0, 10, 0, 30]),
    "correct": np.array([0, 2, 0, 30]),
    "confidence": np.array([0.0, 4.0, 0.0, 27.0]),
}


def test_figures_are_written_as_images(tmp_path):
    folder = tmp_path / "figures"
    training_curves(folder / "curves.png", make_rows(40), loss="edl")
    reliability(folder / "reliability.png", **BINS)
    confusion_matrix(folder / "confusion.png", np.eye(3))
    sizes = {path.stem: imread(path).shape[:2] for path in folder.iterdir()}
    assert sizes == {"curves": (476, 1540), "reliability": (700, 616), "confusion": (756, 868)}


def test_curves_mark_the_best_test_accuracy_and_name_the_loss():
    accuracy, loss, nll = training_curves_figure(make_rows(10), loss="edl").axes
    assert "best test: 90.0 %, epoch 3" in [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert loss.get_title() == "training loss (edl)"
    np.testing.assert_allclose(nll.lines[0].get_ydata(), 1 / np.arange(1, 11))


def test_curves_of_a_validation_part_mark_its_best_epoch():
    rows = [{**row, "val_accuracy": 0.1 * row["epoch"], "val_nll": 2.0} for row in make_rows(5)]
    accuracy, _, nll = training_curves_figure(rows).axes
    assert "best val: 50.0 %, epoch 5" in [text.get_text() for text in accuracy.get_legend().get_texts()]
    assert [line.get_label() for line in nll.lines] == ["val", "test"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_curves_leave_a_gap_where_a_value_is_missing(value):
    rows = make_rows(3)
    rows[1] = {"epoch": 2, "train_accuracy": value, "test_accuracy": value, "train_loss": value}
    assert np.isnan(training_curves_figure(rows).axes[2].lines[0].get_ydata()).tolist() == [False, True, False]
    rows = [{**row, "test_accuracy": value} for row in rows]
    figure = training_curves_figure(rows)
    assert np.isnan(figure.axes[1].lines[0].get_ydata()).tolist() == [False, True, False]
    assert len(figure.axes[0].lines) == 2  # no best epoch to mark


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_few_epochs_have_whole_numbers_on_their_axis(epochs):
    axis = training_curves_figure(make_rows(epochs)).axes[0]
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == list(range(1, epochs + 1))


def test_reliability_shows_used_bins_alone_and_their_ece():
    upper, lower = reliability_figure(**BINS, title="net").axes
    assert upper.get_title() == "net, ECE 0.1250"  # (|2 - 4| + |30 - 27|) / 40
    assert [bar.get_height() for bar in upper.patches] == pytest.approx([0.2, 1.0])
    assert [bar.get_height() for bar in lower.patches] == pytest.approx([0, 25, 0, 75])


def texts(axis):
    return [text.get_text() for text in axis.texts]


def test_confusion_of_few_classes_is_written_and_rows_are_shares():
    matrix = np.array([[9, 1, 0], [0, 0, 0], [1, 1, 2]])
    axis = confusion_matrix_figure(matrix, names=["cat", "dog", "horse"]).axes[0]
    assert texts(axis) == ["90.0", "10.0", "25.0", "25.0", "50.0"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["cat", "dog", "horse"]
    assert "grey: no examples" in axis.get_ylabel()
    assert axis.images[0].get_array().mask.tolist() == [[False] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize(("size", "ticks"), [(1, 1), (12, 12), (20, 20), (21, 11), (100, 20), (1000, 20)])
def test_ticks_are_thinned_where_classes_are_many(size, ticks):
    axis = confusion_matrix_figure(np.eye(size)).axes[0]
    assert len(axis.get_xticks()) == len(axis.get_yticks()) == ticks
    assert len(texts(axis)) == (size if size <= 12 else 0)


def test_figures_of_degenerate_input_are_drawn_without_a_warning(tmp_path):
    confusion_matrix(tmp_path / "empty.png", np.zeros((30, 30)), names=[f"a class called {i}" for i in range(30)])
    training_curves(tmp_path / "nothing.png", [{"epoch": 1, "train_loss": math.nan}])
    one = np.array([1])
    reliability(tmp_path / "one.png", one, one, one)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: training_curves_figure([]), "no epochs to draw"),
        (lambda: reliability_figure(np.zeros(15), np.zeros(15), np.zeros(15)), "no examples to draw"),
        (lambda: reliability_figure(np.ones(15), np.ones(14), np.ones(15)), "bins have shapes"),
        (lambda: confusion_matrix_figure(np.zeros((2, 3))), r"confusion matrix has shape \(2, 3\), expected \[C, C\]"),
        (lambda: confusion_matrix_figure(np.eye(3), names=["a"]), "1 names for 3 classes"),
    ],
)
def test_figures_refuse_what_they_cannot_draw(draw, message):
    with pytest.raises(UserError, match=message):
        draw()
