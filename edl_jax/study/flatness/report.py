"""What a comparison of minima says: report.md and a table as CSV."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core import markdown
from edl_jax.core.files import write_atomic, write_csv
from edl_jax.study.flatness.measure import Curvature, Mean, Measured
from edl_jax.study.flatness.network import OWN, REFERENCE


def rows(found: Sequence[Measured], tolerance: float) -> list[dict[str, Any]]:
    """Return a mapping for each network and Hessian, with the same keys in all.

    Args:
      found: what was measured.
      tolerance: error of an eigenvalue, as a share of the largest, up to which it counts as known.
    """
    table = []
    for each in found:
        config = each.network.config
        for c in each.curvatures:
            line: dict[str, Any] = {
                "run": each.network.name,
                "run_loss": config.loss_title,
                "arch": config.arch,
                "dataset": config.dataset,
                "seed": config.seed,
                "epoch": each.network.epoch,
                "test_accuracy": each.network.test_accuracy,
                "train_accuracy": each.accuracy,
                "hessian_of": c.loss,
                "loss": each.losses[c.loss],
                "scale": c.scale,
                "converged": all(c.known(tolerance)),
                "products": c.products,
            }
            for i, (value, error) in enumerate(zip(c.eigenvalues, c.errors, strict=True), 1):
                line |= {f"eigenvalue_{i}": value, f"eigenvalue_{i}_error": error}
            for name, mean in (("trace", c.trace), ("normalised_trace", c.normalised)):
                line |= {name: mean.value, f"{name}_error": mean.error}
            line |= {"eigenvalue_1_over_scale": c.eigenvalues[0] / c.scale, "trace_over_scale": c.trace.value / c.scale}
            line |= {"normalised_trace_over_scale": c.normalised.value / c.scale}
            table.append({**line, "rise_at_half": rise(each, c.loss)})
    keys = list(dict.fromkeys(key for line in table for key in line))  # a small network has fewer eigenvalues
    return [{key: line.get(key) for key in keys} for line in table]


def rise(each: Measured, name: str) -> float:
    """Return by how much a loss rises, in the mean over directions, half a filter's length from the weights."""
    at, lines = each.slices.at, each.slices.lines[name]
    reach = min(0.5, float(at[-1]))
    ends = [np.interp((-reach, reach), at, line) for line in lines]
    return float(np.mean(ends)) - each.losses[name]


def write(
    folder: Path,
    facts: Mapping[str, Any],
    found: Sequence[Measured],
    table: Sequence[Mapping[str, Any]],
    figures: Sequence[Path] = (),
    *,
    tolerance: float,
) -> None:
    """Write report.md and flatness.csv.

    Args:
      folder: where to write.
      facts: what to know of the comparison, in words: name -> value.
      found: what was measured.
      table: of `rows`.
      figures: files below the folder, embedded in this order.
      tolerance: as of `rows`.
    """
    write_csv(folder / "flatness.csv", [*table[0]], [[*line.values()] for line in table])
    parts = [
        "# How flat are the minima?",
        markdown.settings(facts),
        "All are of the mean loss over the same number of training images, with labels as trained on, without "
        "augmentation and weight decay, batch normalisation by the statistics of the run.",
        "## Networks",
        markdown.table(
            (
                "run",
                "what",
                "weights",
                "epoch",
                "test accuracy",
                "training accuracy",
                "loss of the run",
                "cross-entropy",
            ),
            [_network(each) for each in found],
        ),
        "## Hessian of cross-entropy",
        "The same loss for all runs, whatever they were trained with. Eigenvalues by Lanczos's method; one with ≥ is "
        "not known to the tolerance, and at least that large. Trace by Hutchinson's method, ± one standard error. "
        "Normalised trace: mean second derivative along random directions in which each filter has the length of its "
        "weights, which does not depend on the size of weights before a normalisation. Rise: of the loss, half a "
        "filter's length away.",
        _curvatures(found, tolerance, own=False),
    ]
    if any(each.own.loss == OWN for each in found):
        parts += [
            "## Hessian of the loss of the run",
            "A loss of twice the size has twice the eigenvalues. So each is divided by the scale of its loss: the mean "
            "norm of its gradient over cross-entropy's, on the predictions of the default mixture.",
            _curvatures(found, tolerance, own=True),
        ]
    parts += _by_loss(table)
    parts += markdown.images(figures, folder)
    write_atomic(folder / "report.md", ("\n\n".join(parts) + "\n").encode())


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`: a line a network."""
    return [
        f"{row['run']} ({row['run_loss']}): of cross-entropy, largest eigenvalue {row['eigenvalue_1']:.4g}, "
        f"trace {row['trace']:.4g} ± {row['trace_error']:.2g}, normalised trace {row['normalised_trace']:.4g} ± "
        f"{row['normalised_trace_error']:.2g}"
        for row in result["rows"]
        if row["hessian_of"] == REFERENCE
    ]


def _network(each: Measured) -> tuple[object, ...]:
    own = each.losses.get(OWN, each.losses[REFERENCE])
    accuracy = each.network.test_accuracy
    return (
        markdown.escaped(each.network.name),
        markdown.escaped(each.network.title),
        each.parameters,
        each.network.epoch,
        "–" if accuracy is None else f"{accuracy:.4f}",
        f"{each.accuracy:.4f}",
        f"{own:.4g}",
        f"{each.losses[REFERENCE]:.4g}",
    )


def _curvatures(found: Sequence[Measured], tolerance: float, *, own: bool) -> str:
    lines = []
    for each in found:
        c = each.own if own else each.reference
        scale = c.scale if own else 1.0
        shown = [f"{c.scale:.3g}"] if own else []
        rest = (_mean(c.trace, scale), _mean(c.normalised, scale), f"{rise(each, c.loss) / scale:.3g}")
        lines.append((markdown.escaped(each.network.name), *shown, _eigenvalues(c, tolerance, scale), *rest))
    header = ("run", *(["scale"] if own else []), "largest eigenvalues", "trace", "normalised trace", "rise")
    return markdown.table(header, lines)


def _eigenvalues(c: Curvature, tolerance: float, scale: float) -> str:
    marks = ["" if known else "≥ " for known in c.known(tolerance)]
    return ", ".join(f"{mark}{value / scale:.4g}" for mark, value in zip(marks, c.eigenvalues, strict=True))


def _mean(mean: Mean, scale: float) -> str:
    return f"{mean.value / scale:.4g} ± {mean.error / scale:.2g}"


def _by_loss(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the means over runs of a loss, where one has several."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in table:
        if row["hessian_of"] == REFERENCE:
            groups.setdefault(f"{row['run_loss']}, {row['arch']} on {row['dataset']}", []).append(row)
    if all(len(group) == 1 for group in groups.values()):
        return []
    names = ("test_accuracy", "eigenvalue_1", "trace", "normalised_trace", "rise_at_half")
    lines = [
        (markdown.escaped(title), len(group), *(_spread([row[name] for row in group]) for name in names))
        for title, group in groups.items()
    ]
    header = ("loss", "runs", "test accuracy", "largest eigenvalue", "trace", "normalised trace", "rise")
    return ["## By loss", "Of cross-entropy: mean ± standard deviation over runs.", markdown.table(header, lines)]


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.fmean(known):.4g}"
    return f"{mean} ± {statistics.stdev(known):.2g}" if len(known) > 1 else mean
