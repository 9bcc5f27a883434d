"""What a study of surrogates says: report.md and the two tables as CSV."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from edl_jax.core.files import write_atomic, write_csv
from edl_jax.core.markdown import code, escaped, images, settings, table
from edl_jax.stats.ranks import Estimate
from edl_jax.study.surrogates.agreement import SUBSETS, Network, Row, pairs, quarter, tenth

_BEST = 10  # candidates of the table of the best
_LONGEST = 80  # characters of a formula in it

Found = Mapping[tuple[str, str, str, str], Row]


def write(
    folder: Path,
    facts: Mapping[str, Any],
    candidates: Sequence[tuple[str, str]],
    networks: Sequence[Network],
    rows: Sequence[Row],
    figures: Sequence[Path] = (),
) -> None:
    """Write report.md, agreement.csv and errors.csv.

    Args:
      folder: where to write.
      facts: what to know of the study, in words: name -> value.
      candidates: (name, formula) of the n candidates.
      networks: of these candidates, the smaller first.
      rows: what `agreement.measure` returns for them.
      figures: files below the folder, embedded in this order.
    """
    for name, lines in (("agreement.csv", _agreement(rows)), ("errors.csv", _errors(candidates, networks))):
        header, *body = lines
        write_csv(folder / name, header, body)
    write_atomic(folder / "report.md", _markdown(folder, facts, candidates, networks, rows, figures).encode())


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run`: a line for each network that stands for the largest."""
    *others, last = result["networks"]
    told = []
    for network in others:
        key = (network["name"], last["name"], "all", "spearman")
        row = next(x for x in result["rows"] if (x["surrogate"], x["reference"], x["subset"], x["measure"]) == key)
        estimate = Estimate(*(math.nan if row[name] is None else row[name] for name in Estimate._fields))
        told.append(
            f"{network['name']} for {last['name']}: Spearman {_range(estimate)} over {row['candidates']} losses, "
            f"{network['seconds']:.3g} s a loss in place of {last['seconds']:.3g}"
        )
    return told


def _markdown(
    folder: Path,
    facts: Mapping[str, Any],
    candidates: Sequence[tuple[str, str]],
    networks: Sequence[Network],
    rows: Sequence[Row],
    figures: Sequence[Path],
) -> str:
    found, count = _by_key(rows), len(candidates)
    last = networks[-1]
    parts = [
        "# Do small networks rank losses as larger ones do?",
        settings(facts),
        "## Networks",
        "From the smaller to the larger, in the order given; of a pair the later one is the larger, which the other is "
        "to stand for. A candidate has failed whose training did not end finite, ended early because nothing was "
        "learnt, or ended within three standard errors of chance, the error of a guess. Those that failed in a network "
        "share the last rank there.",
        _networks(networks),
        "## Agreement",
        "Correlation of the ranks of validation errors, with 95 % intervals: percentile bootstrap over candidates. The "
        f"best tenth and quarter are the {tenth(count)} and {quarter(count)} best of the larger network, with those "
        "that are equal to the last of them and without those that failed in it; they are resampled as they are, and "
        "their number is in brackets.",
        "Spearman's rank correlation:",
        _correlations(networks, found, "spearman"),
        "Kendall's tau-b:",
        _correlations(networks, found, "kendall"),
    ]
    if last.repeat is not None:
        parts += _reliability(networks, found)
    parts += [
        "## What a choice by the smaller network costs",
        f"Recall: the share of the larger network's best {tenth(count)} that is among the smaller one's best "
        f"{2 * tenth(count)}, or its best {quarter(count)}; where of equal candidates only some have room, each counts "
        "in part. Regret: the error of the larger network with the candidate that the smaller one finds best, or with "
        f"the best of its best {tenth(count)}, minus that with the best of all; a failed one has the error of chance.",
        _choices(networks, found),
        f"## The best by {escaped(last.name)}",
        _best(candidates, networks),
    ]
    parts += images(figures, folder)
    return "\n\n".join(parts) + "\n"


def _networks(networks: Sequence[Network]) -> str:
    last = networks[-1].seconds
    failures = ("not finite", "ended early", "at chance")
    header = ("network", "trained", *failures, "best error", "median error", "seconds a loss")
    rows = []
    for network in networks:
        trained = network.errors[np.isfinite(network.errors)]
        shown = [f"{x:.4f}" for x in (trained.min(), np.median(trained))] if len(trained) else ["–", "–"]
        error, full = network.outcome
        finite = np.isfinite(error)
        failed = [np.sum(~finite), np.sum(finite & ~full), np.sum(finite & full & ~np.isfinite(network.errors))]
        chance = f"{failed[2]} (≥ {network.chance.limit:.4f})"
        share = "" if network is networks[-1] or not last else f" ({100.0 * network.seconds / last:.3g} %)"
        cost = f"{network.seconds:.3g}{share}"
        rows.append((code(network.training), len(trained), *failed[:2], chance, *shown, cost))
    return table(header, rows)


def _correlations(networks: Sequence[Network], found: Found, measure: str) -> str:
    header = ("smaller → larger", "all", "trained in both", "the best quarter", "the best tenth")
    rows = []
    for surrogate, reference in pairs(networks):
        chosen = [found[surrogate.name, reference.name, subset, measure] for subset in SUBSETS]
        rows.append((_pair(surrogate, reference), *(f"{_range(row.estimate)} [{row.candidates}]" for row in chosen)))
    return table(header, rows)


def _reliability(networks: Sequence[Network], found: Found) -> list[str]:
    """Return how far networks agree with themselves, and which agreement that leaves room for."""
    own = [
        (
            escaped(network.name),
            *(_range(found[network.name, network.name, subset, "spearman"].estimate) for subset in SUBSETS),
        )
        for network in networks
    ]
    rows = []
    for surrogate, reference in pairs(networks):
        key = (surrogate.name, reference.name)
        cells = []
        for subset in SUBSETS:
            value = found[*key, subset, "spearman"].estimate.value
            ceiling = found[*key, subset, "ceiling"].estimate.value
            cells.append(f"{_number(ceiling)} ({_number(value / ceiling if ceiling > 0.0 else math.nan)})")
        rows.append((_pair(surrogate, reference), *cells))
    subsets = ("all", "trained in both", "the best quarter", "the best tenth")
    return [
        "## The ceiling",
        "Two trainings of one network with other first weights and batches do not rank candidates alike. Spearman's "
        "correlation of a network with itself:",
        table(("network", *subsets), own),
        "The noise of both networks leaves room for the geometric mean of their correlations with themselves over the "
        "same candidates. In brackets, as a note: the correlation over that ceiling, what it may be without noise; it "
        "has no interval, and exceeds 1 by chance.",
        table(("smaller → larger", *subsets), rows),
    ]


def _choices(networks: Sequence[Network], found: Found) -> str:
    header = ("smaller → larger", "recall, twice as many", "recall, quarter", "regret of the best", "of the best tenth")
    measures = ("recall_twice", "recall_quarter", "regret_one", "regret_tenth")
    rows = []
    for surrogate, reference in pairs(networks):
        cells = []
        for measure in measures:
            row = found[surrogate.name, reference.name, "all", measure]
            digits = 4 if measure.startswith("regret") else 2
            by_chance = "" if math.isnan(row.by_chance) else f"; by chance {row.by_chance:.{digits}f}"
            cells.append(_range(row.estimate, digits) + by_chance)
        rows.append((_pair(surrogate, reference), *cells))
    return table(header, rows)


def _best(candidates: Sequence[tuple[str, str]], networks: Sequence[Network]) -> str:
    """Return the best candidates of the largest network, and their ranks in all."""
    ranks = [rankdata(network.errors) for network in networks]
    last = networks[-1]
    order = [i for i in np.argsort(last.errors, kind="stable")[:_BEST] if np.isfinite(last.errors[i])]
    header = ("", "error", *(f"rank by {escaped(network.name)}" for network in networks), "loss")
    rows = [
        (
            candidates[i][0],
            f"{last.errors[i]:.4f}",
            *(f"{rank[i]:g}" for rank in ranks),
            code(candidates[i][1], _LONGEST),
        )
        for i in order
    ]
    return table(header, rows)


def _agreement(rows: Sequence[Row]) -> Iterable[Sequence[object]]:
    yield [*(name for name in Row._fields if name != "estimate"), *Estimate._fields]
    for row in rows:
        yield list(row.to_dict().values())


def _errors(candidates: Sequence[tuple[str, str]], networks: Sequence[Network]) -> Iterable[Sequence[object]]:
    columns = {network.name: network.outcome.error for network in networks}
    columns |= {f"{n.name}, other seed": n.repeat.error for n in networks if n.repeat is not None}
    yield ["candidate", "formula", *columns]
    for i, (name, formula) in enumerate(candidates):
        yield [name, formula, *(float(error[i]) for error in columns.values())]


def _by_key(rows: Sequence[Row]) -> dict[tuple[str, str, str, str], Row]:
    return {(row.surrogate, row.reference, row.subset, row.measure): row for row in rows}


def _pair(surrogate: Network, reference: Network) -> str:
    return f"{escaped(surrogate.name)} → {escaped(reference.name)}"


def _range(estimate: Estimate, digits: int = 2) -> str:
    value, low, high = (_number(x, digits) for x in estimate)
    return value if math.isnan(estimate.low) else f"{value} ({low} to {high})"


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"
