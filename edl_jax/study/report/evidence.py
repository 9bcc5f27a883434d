"""Which numbers of a report speak to a claim, and what they say: `RULES`, functions by the name that claims.yaml uses.

Each takes the grids of `compare` and all directories, and returns what it finds there, or nothing.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.loss import registry
from edl_jax.loss.artifacts.learned import Artifact
from edl_jax.stats.comparison import compare
from edl_jax.study.compare.statistics import BETTER, LEVEL, WORSE, Row
from edl_jax.study.loss_spec import parse_loss
from edl_jax.study.report.grid import Grid, title_of
from edl_jax.study.report.sources import Source

HOLDS, HOLDS_NOT, UNCLEAR = "holds", "does not hold", "cannot be told here"
_SIZE = 0.05
_FEWEST = 3  # runs of a loss, for a comparison of two losses
_CROSS_ENTROPY = "cross_entropy"
_FAMILIES = {"edl": ("edl", "edl_optimum"), "evomal": ("ace", "sparse_lsr"), "nlfs": ()}


class Evidence(NamedTuple):
    """A measurement that speaks to a claim.

    Attributes:
      ours: what was measured, with its interval.
      n: runs, or whatever was counted.
      outcome: `HOLDS`, `HOLDS_NOT` or `UNCLEAR`.
      where: directory and setting.
    """

    ours: str
    n: int | None
    outcome: str
    where: str


Rule = Callable[..., list[Evidence]]
_OfSource = Callable[..., Iterator[Evidence]]


def family(text: str) -> str | None:
    """Return which paper a loss speaks for: edl, nlfs or evomal; None for others, and for files that are gone.

    Args:
      text: loss, as `compare` has it: a name, or the path of an artifact that says how it was found.
    """
    name = parse_loss(text).name
    for paper, names in _FAMILIES.items():
        if name in names:
            return paper
    if name in registry.names():
        return None
    with contextlib.suppress(UserError, OSError, LookupError, TypeError, AttributeError):
        artifact = registry.load_artifact(name)
        if isinstance(artifact, Artifact):
            return "edl"
        method = artifact.metadata["config"]["method"]
        return method if method in _FAMILIES else None
    return None


def better(grids: Sequence[Grid], sources: Sequence[Source], *, family: str, finals: bool = False) -> list[Evidence]:
    """Return how losses of a family compare with cross-entropy in test accuracy."""
    found = []
    for grid, row in _against_cross_entropy(grids, family):
        outcomes = {BETTER: HOLDS, WORSE: HOLDS_NOT, LEVEL: HOLDS_NOT}
        outcome = outcomes.get(row.verdict, UNCLEAR)
        ours = f"{_title(row)}: {_points(row.difference, row.difference_low, row.difference_high)}, {_p(row.p_holm)}"
        ours += f"; {row.verdict}"
        found.append(Evidence(ours, row.pairs, outcome, f"{grid.source.name}, {title_of(row.place, grid)}"))
    return found + (_finals(grids, sources, number="test_accuracy", sign=1.0) if finals else [])


def gap(grids: Sequence[Grid], sources: Sequence[Source], *, family: str, finals: bool = False) -> list[Evidence]:
    """Return how train minus test accuracy of losses of a family compares with that of cross-entropy."""
    found = []
    for grid, row in _against_cross_entropy(grids, family):
        mine, theirs = (_gaps(grid, row, loss) for loss in (row.loss, row.baseline))
        seeds = sorted(mine.keys() & theirs.keys())
        where = f"{grid.source.name}, {title_of(row.place, grid)}"
        if seeds:
            c = compare([mine[s] for s in seeds], [theirs[s] for s in seeds], by_correlation=False)
            outcome = _outcome(-c.difference, c.p) if row.diverged == 0 else UNCLEAR
            ours = f"{_title(row)}: gap {_points(c.difference, c.low, c.high)}, {_p(c.p, '')}"
            found.append(Evidence(ours, len(seeds), outcome, where))
    return found + (_finals(grids, sources, number="accuracy_gap", sign=-1.0) if finals else [])


def _of(made_by: str) -> Callable[[_OfSource], Rule]:
    """Make a rule of a function of one finished directory of a command; one that it cannot read tells nothing."""

    def decorate(function: _OfSource) -> Rule:
        @functools.wraps(function)
        def rule(grids: Sequence[Grid], sources: Sequence[Source], **options: Any) -> list[Evidence]:
            del grids
            found: list[Evidence] = []
            for source in sources:
                if source.command != made_by or source.result is None:
                    continue
                try:
                    found += list(function(source, source.result, **options))
                except (LookupError, TypeError, ValueError, AttributeError) as error:
                    ours = f"result.json is not what this release writes ({type(error).__name__}: {error})"
                    found.append(Evidence(ours, None, UNCLEAR, source.name))
            return found

        return rule

    return decorate


@_of("pretrain")
def ranking(source: Source, result: Mapping[str, Any], *, least: float) -> Iterator[Evidence]:
    """Yield the ranking accuracy of a pretraining on held-out pairs."""
    accuracy = result["ranking_accuracy"]
    outcome = HOLDS if accuracy >= least else HOLDS_NOT
    yield Evidence(f"{100 * accuracy:.2f} % of held-out pairs", None, outcome, source.name)


@_of("transfer")
def covered(source: Source, result: Mapping[str, Any], *, least: float) -> Iterator[Evidence]:
    """Yield the share of real predictions that the mixture covers, for every training and part."""
    shares: dict[tuple[str, str], list[float]] = {}
    for row in result["rows"]:
        if row["quantity"] == "log_p_t":
            shares.setdefault((row["run"], row["part"]), []).append(row["covered"])
    for (run, part), values in shares.items():
        ours = f"{100 * min(values):.1f} to {100 * max(values):.1f} % covered over {len(values)} epochs (99 by chance)"
        outcome = HOLDS if min(values) >= least else HOLDS_NOT
        yield Evidence(ours, len(values), outcome, f"{source.name}, {run}, {part} images")


@_of("ablate")
def noise(source: Source, result: Mapping[str, Any], *, measure: str, unit: float, name: str) -> Iterator[Evidence]:
    """Yield how Gaussian mutation compares with logistic chaos in an ablation; less is better in all measures."""
    against = result["factors"].get("noise", {}).get("gaussian", {}).get(f"{measure}_against_logistic")
    if against is None:
        return
    difference, low, high = (_number(against[key]) for key in ("difference", "low", "high"))
    # Without a mean, for runs that never get there, the effect says which side is better.
    sign = difference if math.isfinite(difference) else _number(against["cliffs_delta"])
    ours = f"gaussian minus logistic, {name}: {_range((difference, low, high), unit)}, {_p(against['p_holm'])}"
    yield Evidence(ours, int(source.config["runs"]), _outcome(sign, against["p_holm"]), source.name)


@_of("surrogate-study")
def surrogates(source: Source, result: Mapping[str, Any], *, most: float) -> Iterator[Evidence]:
    """Yield the rank correlations of small networks with the largest one."""
    last = result["networks"][-1]["name"]
    for row in result["rows"]:
        key = (row["measure"], row["subset"], row["reference"])
        if key == ("spearman", "all", last) and row["surrogate"] != last:
            value, low, high = (_number(row[name]) for name in ("value", "low", "high"))
            outcome = HOLDS if high < most else HOLDS_NOT if low > most else UNCLEAR
            ours = f"{row['surrogate']} for {last}: {_range((value, low, high), 1.0)}"
            yield Evidence(ours, int(row["candidates"]), outcome, source.name)


@_of("correlate")
def predicts(source: Source, result: Mapping[str, Any], *, number: str, subset: str) -> Iterator[Evidence]:
    """Yield the rank correlation of a pretraining number with each network's accuracy; positive where it predicts."""
    for row in result["rows"]:
        if (row["number"], row["subset"], row["measure"]) == (number, subset, "spearman"):
            value, low, high = (_number(row[name]) for name in ("value", "low", "high"))
            ours = f"{row['network']}: {_range((value, low, high), 1.0)}, {_p(row['p_holm'])}"
            yield Evidence(ours, int(row["artifacts"]), _outcome(value, row["p_holm"]), source.name)


@_of("search")
def groups(source: Source, result: Mapping[str, Any], *, method: str) -> Iterator[Evidence]:
    """Yield the group of the best loss of a search by a method."""
    group = result.get("group")
    if result["method"] == method and group is not None:
        yield Evidence(str(group), 1, HOLDS_NOT if group == "other" else HOLDS, source.name)


@_of("flatness")
def flatter(source: Source, result: Mapping[str, Any]) -> Iterator[Evidence]:
    """Yield how the normalised trace of networks trained with learned losses compares with cross-entropy's."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in result["rows"]:
        if row["hessian_of"] == _CROSS_ENTROPY:
            losses = values.setdefault((row["arch"], row["dataset"]), {})
            losses.setdefault(row["run_loss"], []).append(row["normalised_trace"])
    for (arch, dataset), losses in values.items():
        theirs = losses.get(_CROSS_ENTROPY, [])
        for loss, mine in losses.items():
            if not theirs or family(loss) is None:
                continue
            c = compare(mine, theirs, paired_by_seed=False)
            enough = min(len(mine), len(theirs)) >= _FEWEST
            ours = f"{loss}: {np.mean(mine):.4g} against {np.mean(theirs):.4g}"
            ours += f", difference {_range((c.difference, c.low, c.high), 1.0)}, {_p(c.p, '')}" if enough else ""
            outcome = _outcome(-c.difference, c.p) if enough else UNCLEAR
            yield Evidence(ours, len(mine), outcome, f"{source.name}, {arch} on {dataset}")


@_of("eliminate")
def _finals(source: Source, result: Mapping[str, Any], *, number: str, sign: float) -> Iterator[Evidence]:
    """Yield what the finals of an elimination say of a number of the losses that survived, against cross-entropy."""
    if result["reference"] != _CROSS_ENTROPY:
        return
    for winner in result["winners"]:
        found = result["finals"][winner["name"]][number]
        c = found.get("difference")
        if c is not None:
            difference, low, high = (_number(c[key]) for key in ("difference", "low", "high"))
            ours = f"{winner['name']}: {_points(difference, low, high)}, {_p(c['p_holm'])}"
            outcome = _outcome(sign * difference, c["p_holm"])
            yield Evidence(ours, len(found["values"]), outcome, source.name)


def cost(
    grids: Sequence[Grid], sources: Sequence[Source], *, method: str, other: str, low: float, high: float
) -> list[Evidence]:
    """Return the ratio of the seconds a trained candidate of two methods of search, on the same task."""
    mine, theirs = _searches(sources, method), _searches(sources, other)
    return [
        Evidence(
            f"{a.seconds / b.seconds:.2f} times",
            a.trained,
            HOLDS if low <= a.seconds / b.seconds <= high else HOLDS_NOT,
            f"{a.name} and {b.name}",
        )
        for a in mine
        for b in theirs
        if a.task == b.task
    ]


class _Search(NamedTuple):
    name: str
    task: tuple[str, str]
    seconds: float
    trained: int


def _searches(sources: Sequence[Source], method: str) -> list[_Search]:
    """Return what a trained candidate took in the finished searches by a method that say it."""
    found = []
    for source in sources:
        result = source.result
        if source.command == "search" and result is not None:
            with contextlib.suppress(LookupError, TypeError, ValueError):
                trained, seconds = int(result["counts"]["trained"]), float(result["seconds"]["total"])
                if result["method"] == method and trained > 0 and seconds > 0.0:
                    found.append(_Search(source.name, (result["dataset"], result["arch"]), seconds / trained, trained))
    return found


RULES: Mapping[str, Rule] = {
    each.__name__: each for each in (better, gap, ranking, covered, noise, surrogates, predicts, cost, groups, flatter)
}
"""Name -> function, as claims.yaml names them."""


def _against_cross_entropy(grids: Sequence[Grid], paper: str) -> Iterator[tuple[Grid, Row]]:
    """Yield the rows of accuracy of losses that speak for a paper, against cross-entropy."""
    for grid in grids:
        if parse_loss(grid.config.baseline_loss).text == _CROSS_ENTROPY:
            for row in grid.rows:
                if row.metric == "accuracy" and row.difference is not None and family(row.loss) == paper:
                    yield grid, row


def _gaps(grid: Grid, row: Row, loss: str) -> dict[int, float]:
    cells = grid.cells(row.place, loss)
    known = [each for each in cells if None not in (each["train_accuracy"], each["test_accuracy"])]
    return {each["seed"]: each["train_accuracy"] - each["test_accuracy"] for each in known}


def _outcome(gain: float, p: float | None) -> str:
    """Return what a test says of a gain, which is positive where the claim holds."""
    if p is None or p >= _SIZE or not gain:
        return UNCLEAR
    return HOLDS if gain > 0.0 else HOLDS_NOT


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _title(row: Row) -> str:
    return parse_loss(row.loss).title


def _points(value: float | None, low: float | None, high: float | None) -> str:
    return f"{_range((_number(value), _number(low), _number(high)), 100.0, '+.2f')} points"


def _range(bounds: tuple[float, float, float], unit: float, form: str = ".3g") -> str:
    value, low, high = (unit * bound for bound in bounds)
    if not math.isfinite(value):
        return "no mean, for runs that never get there"
    text = f"{value:{form}}"
    return f"{text} ({low:{form}} to {high:{form}})" if math.isfinite(low) and math.isfinite(high) else text


def _p(p: float | None, corrected: str = " (Holm)") -> str:
    return f"no p{corrected}" if p is None else f"p{corrected} = {p:.3g}"
