"""What a study of pretraining numbers says: report.md and the tables as CSV."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core.files import write_atomic, write_csv
from edl_jax.core.markdown import code, escaped, images, settings, table
from edl_jax.stats.ranks import Estimate
from edl_jax.study.correlate.config import FEWEST
from edl_jax.study.correlate.correlation import (
    Measured,
    Row,
    accuracies_of,
    errors_of,
    reliability,
)
from edl_jax.study.correlate.numbers import NUMBERS
from edl_jax.study.stages.networks import Trained

_LONGEST = 60  # characters of a formula
_TOLD = 3  # numbers that a line of the summary names
_TITLES = {
    "all": "All artifacts",
    "trained": "Those that the network learnt something with",
    "evolved": "Evolved ones alone",
    "formula": "Known formulas alone",
    "found": "Found and random ones alone",
}


def write(
    folder: Path,
    facts: Mapping[str, Any],
    measured: Sequence[Measured],
    dropped: Sequence[tuple[str, str]],
    networks: Sequence[Trained],
    rows: Sequence[Row],
    figures: Sequence[Path] = (),
) -> None:
    """Write report.md, correlations.csv and artifacts.csv.

    Args:
      folder: where to write.
      facts: what to know of the study, in words: name -> value.
      measured: artifacts.
      dropped: (name, why) of losses that took no part.
      networks: that were trained with the artifacts.
      rows: what `correlation.measure` returns for them.
      figures: files below the folder, embedded in this order.
    """
    lines = [row.to_dict() for row in rows]
    write_csv(folder / "correlations.csv", [*lines[0]], [_cells(line) for line in lines])
    artifacts = artifact_rows(measured, networks)
    write_csv(folder / "artifacts.csv", [*artifacts[0]], [_cells(line) for line in artifacts])
    write_atomic(folder / "report.md", _markdown(folder, facts, measured, dropped, networks, rows, figures).encode())


def artifact_rows(measured: Sequence[Measured], networks: Sequence[Trained]) -> list[dict[str, Any]]:
    """Return a mapping for each artifact: what it is, its numbers, and of each network accuracy and whether it failed.

    An accuracy is the mean over seeds; NaN where a training did not end finite.
    """
    errors = {network.name: errors_of(network) for network in networks}
    accuracies = {network.name: accuracies_of(network) for network in networks}
    found = []
    for i, each in enumerate(measured):
        line: dict[str, Any] = {
            "name": each.name,
            "family": each.family,
            "origin": each.origin,
            "formula": each.formula,
            "scale": each.scale,
            **each.numbers,
        }
        for name in errors:
            line |= {
                f"accuracy_{name}": float(accuracies[name][i]),
                f"trained_{name}": bool(np.isfinite(errors[name][i])),
            }
        found.append(line)
    return found


def result_of(
    measured: Sequence[Measured], dropped: Sequence[tuple[str, str]], networks: Sequence[Trained], rows: Sequence[Row]
) -> dict[str, Any]:
    """Return what result.json says of a study."""
    return {
        "rows": [row.to_dict() for row in rows],
        "artifacts": artifact_rows(measured, networks),
        "networks": [
            {
                "name": network.name,
                "training": network.training,
                "seeds": len(network.outcomes),
                "seconds": round(network.seconds, 4),
                "trained": int(np.isfinite(errors_of(network)).sum()),
                "best_accuracy": 1.0 - float(errors_of(network).min()),
                "accuracy_of_a_guess": 1.0 - network.chance.error,
                "least_accuracy": 1.0 - network.chance.limit,
                "reliability": reliability(network),
            }
            for network in networks
        ],
        "numbers": {key: number._asdict() for key, number in NUMBERS.items()},
        "dropped": [{"name": name, "why": why} for name, why in dropped],
    }


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`: a line for each network, with what predicts it best."""
    lines = []
    for network in result["networks"]:
        rows = [
            row
            for row in result["rows"]
            if (row["network"], row["subset"], row["measure"]) == (network["name"], "all", "spearman")
            and math.isfinite(_estimate(row).value)
        ]
        if not rows:
            lines.append(f"{network['name']}: no correlation is defined: all accuracies are equal")
            continue
        best = sorted(rows, key=lambda row: -row["value"])[:_TOLD]
        fitness = next((row for row in rows if row["number"] == "fitness_ratio"), None)
        shown = best if fitness is None or fitness in best else [*best, fitness]
        told = ", ".join(f"{result['numbers'][row['number']]['title']} {_range(_estimate(row))}" for row in shown)
        lines.append(f"{network['name']}, Spearman over {rows[0]['artifacts']} artifacts: {told}")
    return lines


def _markdown(
    folder: Path,
    facts: Mapping[str, Any],
    measured: Sequence[Measured],
    dropped: Sequence[tuple[str, str]],
    networks: Sequence[Trained],
    rows: Sequence[Row],
    figures: Sequence[Path],
) -> str:
    parts = [
        "# Which pretraining number predicts real accuracy?",
        settings(facts),
        "## Networks",
        "Each was trained with every artifact, from the same first weights on the same batches. A training has failed "
        "that did not end finite or ended within three standard errors of a guess; such artifacts share the last rank. "
        "Test images are not read.",
        _networks(networks),
        "## Which number predicts accuracy",
        "Spearman's rank correlation of each number with the validation accuracy (mean over seeds), with a 95 % "
        "interval: percentile bootstrap over artifacts. A positive one predicts in the direction that is expected: "
        "less is better of F / F\\* and the wrong-way share, more of the others. `*`: p < 0.05 after Holm's correction "
        "over all numbers and networks of the table. F orders as F / F\\* does, since F\\* is one number here. A dash: "
        f"all values are equal, or fewer than {FEWEST} artifacts have one.",
    ]
    for subset in dict.fromkeys(row.subset for row in rows):
        parts += [f"### {_title(subset)}", _correlations(networks, rows, subset, "spearman")]
    parts += [
        "### Kendall's tau-b",
        "All artifacts.",
        _correlations(networks, rows, "all", "kendall"),
        "## Artifacts",
        "On the common scale, the best by the last network first. Scale: the factor that brought it there. A training "
        "that failed has a ✗.",
        _artifacts(measured, networks),
    ]
    if dropped:
        parts += [
            "Took no part:",
            "\n".join(f"- {escaped(name)} {escaped(why)}" for name, why in dropped),
        ]
    parts += images(figures, folder)
    return "\n\n".join(parts) + "\n"


def _title(subset: str) -> str:
    family, _, rest = subset.partition(", ")
    return f"{_TITLES[family]}, that trained" if rest else _TITLES[family]


def _networks(networks: Sequence[Trained]) -> str:
    header = ("network", "trained", "failed", "best", "median", "a guess, less than", "seeds agree", "seconds a loss")
    lines = []
    for network in networks:
        errors = errors_of(network)
        right = 1.0 - errors[np.isfinite(errors)]
        shown = [f"{x:.4f}" for x in (right.max(), np.median(right))] if len(right) else ["–", "–"]
        agreement = reliability(network)
        lines.append(
            (
                code(network.training),
                len(right),
                len(errors) - len(right),
                *shown,
                f"{1.0 - network.chance.limit:.4f}",
                "–" if agreement is None else _number(agreement),
                f"{network.seconds:.3g}",
            )
        )
    return table(header, lines)


def _correlations(networks: Sequence[Trained], rows: Sequence[Row], subset: str, measure: str) -> str:
    found = {(row.number, row.network): row for row in rows if (row.subset, row.measure) == (subset, measure)}
    counts = {network.name: max(found[key, network.name].artifacts for key in NUMBERS) for network in networks}
    header = ("number", *(f"{escaped(name)} [{count}]" for name, count in counts.items()))
    lines = []
    for key, number in NUMBERS.items():
        cells = []
        for network in networks:
            row = found[key, network.name]
            mark = "*" if row.p_holm is not None and row.p_holm < 0.05 else ""
            count = "" if row.artifacts == counts[network.name] else f" [{row.artifacts}]"
            cells.append(f"{_range(row.estimate)}{escaped(mark)}{count}")
        lines.append((escaped(number.title), *cells))
    return table(header, lines)


def _artifacts(measured: Sequence[Measured], networks: Sequence[Trained]) -> str:
    errors = [errors_of(network) for network in networks]
    accuracies = [accuracies_of(network) for network in networks]
    order = np.lexsort((np.arange(len(measured)), errors[-1]))
    header = (
        "artifact",
        "family",
        *(escaped(network.name) for network in networks),
        "F",
        *(escaped(number.title) for number in NUMBERS.values()),
        "scale",
        "formula",
    )
    lines = []
    for i in order:
        each = measured[i]
        cells = []
        for error, accuracy in zip(errors, accuracies, strict=True):
            mark = "" if np.isfinite(error[i]) else " ✗"
            cells.append(f"{_number(accuracy[i], 4)}{mark}")
        shown = [_significant(each.numbers.get(key, math.nan)) for key in ("fitness", *NUMBERS)]
        lines.append(
            (
                escaped(each.name),
                each.family,
                *cells,
                *shown,
                _significant(each.scale),
                code(each.formula, _LONGEST),
            )
        )
    return table(header, lines)


def _estimate(row: Mapping[str, Any]) -> Estimate:
    return Estimate(*(math.nan if row[name] is None else row[name] for name in Estimate._fields))


def _cells(line: Mapping[str, Any]) -> list[Any]:
    return ["" if value is None else value for value in line.values()]


def _range(estimate: Estimate, digits: int = 2) -> str:
    value, low, high = (_number(x, digits) for x in estimate)
    return value if math.isnan(estimate.low) else f"{value} ({low} to {high})"


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def _significant(value: float) -> str:
    return f"{value:.4g}".replace("-", "−") if math.isfinite(value) else "–"
