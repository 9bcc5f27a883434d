"""The figures of a comparison of minima, from its numbers."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edl_jax.plot import flatness as plot
from edl_jax.plot.style import draw_all
from edl_jax.study.flatness.measure import Measured
from edl_jax.study.flatness.network import OWN, REFERENCE


def draw(folder: Path, found: Sequence[Measured], figure_format: str = "png") -> list[Path]:
    """Draw eigenvalues and traces, slices along lines, and planes; return the paths of those that are there.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to draw.
      found: what was measured, a network each.
      figure_format: png, pdf or svg.
    """
    slices = {
        "cross-entropy": [_slice(each, each.slices.lines[REFERENCE]) for each in found],
        "training accuracy": [_slice(each, each.slices.accuracy) for each in found],
    }
    if any(each.own.loss == OWN for each in found):
        own = [_slice(each, each.slices.lines[each.own.loss] / each.own.scale) for each in found]
        slices = {"the loss of the run, over its scale": own, **slices}
    figures: dict[str, Callable[[Path], None]] = {
        "hessian": partial(plot.draw_points, panels=_panels(found)),
        "slices": partial(plot.draw_slices, at=found[0].slices.at, panels=slices, logarithmic=["cross-entropy"]),
    }
    planes = {f"{each.network.config.loss_title} ({each.network.name})": each.slices.plane for each in found}
    if all(planes.values()):
        heights = {title: plane[REFERENCE] for title, plane in planes.items()}
        figures["planes"] = partial(plot.draw_planes, at=found[0].slices.grid, planes=heights)
    paths = {folder / f"{name}.{figure_format}": function for name, function in figures.items()}
    draw_all(paths)
    return [path for path in paths if path.exists()]


def _panels(found: Sequence[Measured]) -> dict[str, list[plot.Point]]:
    """Return the panels of the Hessians: of cross-entropy, and of the losses of the runs where they are others."""

    def points(number: Callable[[Measured], tuple[float, float | None]]) -> list[plot.Point]:
        return [plot.Point(each.network.config.loss_title, *number(each)) for each in found]

    panels = {
        "largest eigenvalue,\ncross-entropy": points(lambda x: (x.reference.eigenvalues[0], None)),
        "trace,\ncross-entropy": points(lambda x: (x.reference.trace.value, x.reference.trace.error)),
        "normalised trace,\ncross-entropy": points(
            lambda x: (x.reference.normalised.value, x.reference.normalised.error)
        ),
    }
    if any(each.own.loss == OWN for each in found):
        panels["largest eigenvalue,\nown loss over its scale"] = points(
            lambda x: (x.own.eigenvalues[0] / x.own.scale, None)
        )
        panels["normalised trace,\nown loss over its scale"] = points(
            lambda x: (x.own.normalised.value / x.own.scale, x.own.normalised.error / x.own.scale)
        )
    return panels


def _slice(each: Measured, values: np.ndarray) -> plot.Slice:
    return plot.Slice(each.network.config.loss_title, values)
