"""What a comparison of synthetic predictions with real ones says: report.md and two tables as CSV."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edl_jax.core.files import write_atomic, write_csv
from edl_jax.core.markdown import escaped, images, settings, table
from edl_jax.stats.two_sample import TwoSample
from edl_jax.study.transfer.matched import Matched
from edl_jax.study.transfer.measure import Row, Summary, tables
from edl_jax.study.transfer.predictions import QUANTITIES

_LEAST_P = 1e-4

Record = Mapping[str, Any]


def write(
    folder: Path,
    facts: Mapping[str, Any],
    trainings: Sequence[tuple[str, str]],
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    matched: Mapping[str, Matched],
    files: Mapping[str, Sequence[Path]],
    figures: Sequence[Path] = (),
) -> None:
    """Write report.md, transfer.csv and tests.csv.

    Args:
      folder: where to write.
      facts: what to know of the comparison, in words: name -> value.
      trainings: (name, what it is) of the trainings.
      rows: distances, by run, part, epoch and quantity.
      summaries: of all predictions of a place.
      matched: run -> the mixtures that would have matched.
      files: run -> where these are written.
      figures: files below the folder, embedded in this order.
    """
    first, second = tables(rows, summaries)
    for name, lines in (("transfer.csv", first), ("tests.csv", second)):
        write_csv(folder / name, [*lines[0]], [[*line.values()] for line in lines])
    parts = [
        "# Do synthetic predictions resemble those of networks while they train?",
        settings(facts),
        "## Trainings",
        table(("name", "what"), [(escaped(name), escaped(what)) for name, what in trainings]),
        "Train: training images as the loss sees them (augmented, batch normalisation by the batch, labels as trained "
        "on). Test: test images as in an evaluation.",
        "## How far apart",
        "Wasserstein distance between the real predictions and the mixture's, in the unit of the quantity; in brackets "
        "that of as many predictions of the mixture itself. Covered: real predictions between the mixture's 0.5 % and "
        "99.5 % quantiles of ln p_t, 99 % by chance. Outside: those with a p_t below or above all but a few in a "
        "million of the mixture's.",
        _distances(rows, summaries),
        "The nearest component of the mixture by ln p_t, and its distance:",
        _nearest(rows),
        "## Told apart by a classifier",
        "A small network is trained on half of the predictions to tell real ones from those of the mixture, by the ten "
        "largest probabilities and the place of the label among them, and tested on the other half. Chance is 50 %; "
        "the p-value is of a binomial test. Matched: against the mixture whose weights are fitted to that epoch.",
        _tests(summaries),
        "## What would have matched",
        "Weights of the components that bring the mixture closest to the real law of p_t, by non-negative least "
        "squares on the density of logit p_t. Left: share of the predictions that would still have to move; in "
        "brackets by chance. All: every epoch of the training counts alike. Training images.",
        _weights(summaries, matched),
        "The optimum of ranking over the mixture of the whole training is the loss that such predictions imply: it is "
        "drawn below, beside that over the real predictions themselves. Presets of pretrain are the mixture with these "
        "weights and the one with the quantiles of the real ln p_t, whose law of p_t is the real one; the first is "
        "there as a loss, too:",
        "\n".join(f"- `{path.relative_to(folder).as_posix()}`" for paths in files.values() for path in paths),
    ]
    parts += images(figures, folder)
    write_atomic(folder / "report.md", ("\n\n".join(parts) + "\n").encode())


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`: two lines for each training."""
    lines = []
    for run in dict.fromkeys(each["run"] for each in result["tests"]):
        chosen = [each for each in result["tests"] if (each["run"], each["part"]) == (run, "train")]
        ends = " to ".join(f"{each['told_apart_accuracy']:.2f} (epoch {each['epoch']})" for each in _ends(chosen))
        lines.append(f"{run}: real and synthetic predictions told apart with accuracy {ends}")
        fitted = result["matched"][run]
        weights = ", ".join(f"{name} {w:.2f}" for name, w in fitted["weights"].items() if w >= 0.005)
        lines.append(f"  would have matched: {weights}; left {fitted['left']:.3f}")
    return lines


def _ends(found: Sequence[Record]) -> list[Record]:
    return [found[0]] if len(found) == 1 else [found[0], found[-1]]


def _distances(rows: Sequence[Row], summaries: Sequence[Summary]) -> str:
    by_place: dict[Any, dict[str, Row]] = {}
    for row in rows:
        by_place.setdefault(row.place, {})[row.quantity] = row
    outside = {each.place: f"{100 * each.below:.1f} % / {100 * each.above:.1f} %" for each in summaries}
    accuracy = {each.place: f"{each.accuracy:.3f}" for each in summaries}
    lines = []
    for place, found in by_place.items():
        distances = [f"{found[name].distance:.3g} ({found[name].by_chance:.2g})" for name in QUANTITIES]
        covered = f"{100 * found['log_p_t'].covered:.1f} %"
        lines.append((*_place(place), accuracy[place], *distances, covered, outside[place]))
    header = ("run", "part", "epoch", "accuracy", *QUANTITIES.values(), "covered", "outside, below / above")
    return table(header, lines)


def _nearest(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        if row.quantity == "log_p_t":
            name = min(row.components, key=row.components.__getitem__)
            quantiles = (f"{row.low:.2f}", f"{row.median:.2f}", f"{row.high:.2f}")
            lines.append((*_place(row.place), *quantiles, name, f"{row.components[name]:.3g}"))
    header = ("run", "part", "epoch", "ln p_t, 5 %", "median", "95 %", "nearest component", "distance")
    return table(header, lines)


def _tests(summaries: Sequence[Summary]) -> str:
    lines = [
        (*_place(each.place), each.told_apart.examples, *_told(each.told_apart), *_told(each.told_from_matched))
        for each in summaries
    ]
    return table(("run", "part", "epoch", "held out", "accuracy", "p", "matched: accuracy", "p"), lines)


def _told(found: TwoSample) -> tuple[str, str]:
    p = f"{found.p_value:.2g}" if found.p_value >= _LEAST_P else f"< {_LEAST_P:g}"
    return f"{found.accuracy:.3f} ({found.low:.3f} to {found.high:.3f})", p


def _weights(summaries: Sequence[Summary], matched: Mapping[str, Matched]) -> str:
    names = list(next(iter(matched.values())).fit.weights)
    lines = []
    for run, found in matched.items():
        fits = [(each.place.epoch, each.matched) for each in summaries if each.place[:2] == (run, "train")]
        for epoch, each in [*fits, ("all", found.fit)]:
            weights = [f"{each.weights[name]:.3f}" if each.weights[name] else "–" for name in names]
            lines.append((escaped(run), epoch, *weights, f"{each.left:.3f} ({each.by_chance:.3f})"))
    return table(("run", "epoch", *(name.replace("_", " ") for name in names), "left"), lines)


def _place(place: Any) -> tuple[str, str, int]:
    return escaped(place.run), place.part, place.epoch
