"""The figures of a study of surrogates, from its networks and numbers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from edl_jax.plot import agreement as plot
from edl_jax.plot.style import draw_all
from edl_jax.stats.ranks import Estimate
from edl_jax.study.surrogates.agreement import SUBSETS, Network, Row, tenth

_DRAWN = (SUBSETS[0], SUBSETS[-1])  # subsets of the figure of costs


def draw(folder: Path, networks: Sequence[Network], rows: Sequence[Row], figure_format: str = "png") -> list[Path]:
    """Draw ranks against ranks, and agreement against cost, into a folder; return the paths of those that are there.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to draw.
      networks: of the same candidates, the smaller first.
      rows: what `agreement.measure` returns for them.
      figure_format: png, pdf or svg.
    """
    found = {(row.surrogate, row.reference, row.subset, row.measure): row for row in rows}
    error = [network.errors for network in networks]
    names = [network.name for network in networks]
    panels = {}
    for i, reference in enumerate(networks):
        for j, surrogate in enumerate(networks[: i + 1]):
            other = error[j]
            if i == j:
                if reference.repeat is None:
                    continue
                other = reference.again
            failed = ~(np.isfinite(error[i]) & np.isfinite(other))
            correlation = found[surrogate.name, reference.name, SUBSETS[0], "spearman"].estimate
            panels[i, j] = plot.Panel(rankdata(other), rankdata(error[i]), failed, correlation)
    count = len(error[0])
    figures = {
        "ranks": partial(plot.draw_ranks, names=names, panels=panels, best=tenth(count)),
        "cost": partial(plot.draw_cost, reference=names[-1], points=_points(networks, found)),
    }
    paths = {folder / f"{name}.{figure_format}": function for name, function in figures.items()}
    draw_all(paths)
    return [path for path in paths if path.exists()]


def _points(networks: Sequence[Network], found: dict[tuple[str, str, str, str], Row]) -> list[plot.Point]:
    """Return the networks but the last, and how far each agrees with it."""
    reference = networks[-1].name
    points = []
    for network in networks[:-1]:
        key = (network.name, reference)
        drawn = [(subset, found[*key, subset, "spearman"]) for subset in _DRAWN]
        agreement = {f"{_title(subset)} ({row.candidates})": _numbers(row.estimate) for subset, row in drawn}
        ceiling = {
            f"{_title(subset)} ({row.candidates})": found[*key, subset, "ceiling"].estimate.value
            for subset, row in drawn
            if (*key, subset, "ceiling") in found
        }
        points.append(plot.Point(network.name, network.seconds, agreement, ceiling))
    return points


def _numbers(estimate: Estimate) -> plot.Estimate:
    return estimate.value, estimate.low, estimate.high


def _title(subset: str) -> str:
    return {"all": "all candidates", "best tenth": "the best tenth"}[subset]
