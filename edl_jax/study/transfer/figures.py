"""The figures of a comparison of synthetic predictions with real ones, from its numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edl_jax import loss
from edl_jax.plot import transfer as plot
from edl_jax.plot.style import draw_all
from edl_jax.study.transfer import fit
from edl_jax.study.transfer.matched import Matched
from edl_jax.study.transfer.measure import Row, Summary
from edl_jax.study.transfer.predictions import QUANTITIES
from edl_jax.synthetic.mixture import COMPONENTS, MixtureConfig

_LOGIT = np.linspace(-12.0, 12.0, 481)


def draw(
    folder: Path,
    mixture: MixtureConfig,
    titles: Mapping[str, str],
    laws: Mapping[str, Sequence[plot.Law]],
    matched: Mapping[str, Matched],
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    figure_format: str = "png",
) -> list[Path]:
    """Draw all figures into a folder; return the paths of those that are there.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to draw.
      mixture: that is compared.
      titles: run -> what it is, in a line.
      laws: run -> the law of p_t after each epoch.
      matched: run -> the mixtures that would have matched.
      rows: distances.
      summaries: of all predictions.
      figure_format: png, pdf or svg.
    """
    figures: dict[str, Callable[[Path], None]] = {}
    for run, found in laws.items():
        shares = {
            name: weight * fit.coarse(fit.component_shares(mixture, name, matched[run].num_classes))
            for name, weight in zip(COMPONENTS, mixture.weights, strict=True)
            if weight > 0.0
        }
        whole = np.sum(list(shares.values()), axis=0)
        figures[f"densities-{run}"] = partial(
            plot.draw_densities, title=titles[run], edges=fit.COARSE, laws=found, whole=whole, components=shares
        )
        figures[f"loss-{run}"] = partial(plot.draw_losses, title=titles[run], curves=_curves(matched[run]))
    # What a run is says more than the name of its folder, where it tells the runs apart.
    shown = titles if len(set(titles.values())) == len(titles) else {run: run for run in titles}
    figures["distance"] = _distance(rows, shown)
    figures["told_apart"] = _told_apart(rows, summaries, shown)
    weights = {shown[run]: bars for run, bars in _weights(summaries, matched).items()}
    figures["weights"] = partial(plot.draw_weights, weights=weights)
    paths = {folder / f"{name}.{figure_format}": function for name, function in figures.items()}
    draw_all(paths)
    return [path for path in paths if path.exists()]


def _curves(matched: Matched) -> list[plot.LossCurve]:
    classes = matched.num_classes
    losses = {
        "cross-entropy": (loss.get("cross_entropy"), "known"),
        "edl": (loss.get("edl"), "known"),
        "implied by the fitted weights": (loss.learned_loss(matched.artifact), "implied"),
    }
    curves = []
    for name, (function, style) in losses.items():
        values, norms = loss.margin_profile(function, _LOGIT + math.log(classes - 1), classes)
        # The gradient sums to 0 and is equal for the wrong classes.
        pull = norms / math.sqrt(1.0 + 1.0 / (classes - 1))
        curves.append(plot.LossCurve(name, _LOGIT, values - values[-1], pull, style))
    return [*curves, plot.LossCurve("implied by the real law", *matched.implied, "implied")]


def _distance(rows: Sequence[Row], shown: Mapping[str, str]) -> Callable[[Path], None]:
    panels: dict[str, list[plot.Line]] = {}
    floors: dict[str, float] = {}
    for quantity, name in QUANTITIES.items():
        title = name.replace("p_t", "$p_t$")
        chosen = [row for row in rows if row.quantity == quantity]
        panels[title] = _lines([(row.place, row.distance) for row in chosen], shown)
        floors[title] = float(np.mean([row.by_chance for row in chosen]))
    return partial(
        plot.draw_lines,
        panels=panels,
        floors=floors,
        below="as many predictions of the mixture itself",
        label="Wasserstein distance",
    )


def _told_apart(rows: Sequence[Row], summaries: Sequence[Summary], shown: Mapping[str, str]) -> Callable[[Path], None]:
    covered = "share of real $p_t$ that the mixture covers"
    apart, matched = "accuracy of a classifier, real or mixture", "the same, mixture matched to the epoch"
    panels = {
        covered: _lines([(row.place, row.covered) for row in rows if row.quantity == "log_p_t"], shown),
        apart: _lines([(each.place, each.told_apart) for each in summaries], shown),
        matched: _lines([(each.place, each.told_from_matched) for each in summaries], shown),
    }
    floors = {covered: 0.99, apart: 0.5, matched: 0.5}
    return partial(plot.draw_lines, panels=panels, floors=floors, below="by chance", limits=(0.0, 1.04))


def _lines(found: Sequence[tuple], shown: Mapping[str, str]) -> list[plot.Line]:
    """Return a line for each run and part, from (place, number or two-sample test); `shown` names the runs."""
    lines = []
    for run, part in dict.fromkeys((place.run, place.part) for place, _ in found):
        chosen = [(place.epoch, value) for place, value in found if (place.run, place.part) == (run, part)]
        epochs, values = zip(*chosen, strict=True)
        if isinstance(values[0], float):
            lines.append(plot.Line(shown[run], part, epochs, values))
        else:
            columns = [[getattr(value, name) for value in values] for name in ("accuracy", "low", "high")]
            lines.append(plot.Line(shown[run], part, epochs, *columns))
    return lines


def _weights(summaries: Sequence[Summary], matched: Mapping[str, Matched]) -> dict[str, dict[str, Mapping[str, float]]]:
    found: dict[str, dict[str, Mapping[str, float]]] = {}
    for each in summaries:
        if each.place.part == "train":
            found.setdefault(each.place.run, {})[str(each.place.epoch)] = each.matched.weights
    for run, bars in found.items():
        bars["all"] = matched[run].fit.weights
    return found
