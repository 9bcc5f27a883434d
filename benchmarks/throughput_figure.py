"""Figure of pretrain_throughput.py: python benchmarks/throughput_figure.py throughput.json throughput.png"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.plot.style import BLUE, GREY, ORANGE, dress, log_numbers, new_figure, write

_LABELS = {
    "population": "members of the population",
    "pairs": "pairs a generation",
    "classes": "classes",
    "width": "width of both hidden layers",
}
_TORCH = "PyTorch"


def draw(path: Path, scaling: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Draw ms a generation against each size, one panel a size: medians, and quartiles as a band.

    Args:
      path: PNG to write.
      scaling: by axis, rows of `value` and `ms` (by name, one a round). Of the PyTorch names the faster one is drawn.
    """
    columns = min(len(scaling), 2)
    figure = new_figure(4.4 * columns, 3.4 * -(-len(scaling) // columns))
    grid = figure.subplots(-(-len(scaling) // columns), columns, squeeze=False, sharey=True)
    for axis, (size, rows) in zip(grid.flat, scaling.items(), strict=False):
        dress(axis)
        axis.set(xscale="log", yscale="log", xlabel=_LABELS[size])
        axis.set_xticks([row["value"] for row in rows], minor=False)
        axis.set_xticks([], minor=True)
        axis.xaxis.set_major_formatter("{x:g}")
        log_numbers(axis.yaxis)
        for label, colour, mark, prefix in (
            ("PyTorch, the faster of two", ORANGE, "s", _TORCH),
            ("ours, network at every prediction", GREY, "^", "plain"),
            ("ours, tabulated", BLUE, "o", "tabulated"),
        ):
            _line(axis, rows, prefix, label=label, color=colour, marker=mark)
    for row in grid:
        row[0].set_ylabel("ms a generation")
    grid[0, 0].legend(fontsize=8)
    for axis in list(grid.flat)[len(scaling) :]:
        axis.set_visible(False)
    write(path, figure)


def _line(axis: Any, rows: Sequence[Mapping[str, Any]], prefix: str, *, color: str, **style: Any) -> None:
    """Draw one contender where it was measured."""
    values, quantiles = [], []
    for row in rows:
        candidates = [np.quantile(ms, [0.25, 0.5, 0.75]) for name, ms in row["ms"].items() if name.startswith(prefix)]
        if candidates:
            values.append(row["value"])
            quantiles.append(min(candidates, key=lambda found: found[1]))
    if values:
        low, middle, high = np.array(quantiles).T
        axis.plot(values, middle, color=color, ms=4, **style)
        axis.fill_between(values, low, high, color=color, alpha=0.25, lw=0)


if __name__ == "__main__":
    draw(Path(sys.argv[2]), json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["scaling"])
