"""Which numbers of a report speak to a claim, and what they say: `RULES`, functions by the name that claims.yaml uses.

Each takes the grids of `compare` and all directories, and returns what it finds there, or nothing.
"""

import contextlib
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
    return found + (_finals(sources, "test_accuracy", 1.0) if finals else [])


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
    return found + (_finals(sources, "accuracy_gap", -1.0) if finals else [])


def ranking(grids: Sequence[Grid], sources: Sequence[Source], *, least: float) -> list[Evidence]:
    """Return the ranking accuracy of pretrainings on held-out pairs."""
    found = []
    for source in _finished(sources, "pretrain"):
        accuracy = _at(source.result, "ranking_accuracy")
        if accuracy is not None:
            outcome = HOLDS if accuracy >= least else HOLDS_NOT
            found.append(Evidence(f"{100 * accuracy:.2f} % of held-out pairs", None, outcome, source.name))
    return found


def covered(grids: Sequence[Grid], sources: Sequence[Source], *, least: float) -> list[Evidence]:
    """Return the share of real predictions that the mixture covers, for every training and part."""
    shares: dict[tuple[str, str, str], list[float]] = {}
    for source in _finished(sources, "transfer"):
        for row in source.result["rows"]:
            if row["quantity"] == "log_p_t":
                shares.setdefault((source.name, row["run"], row["part"]), []).append(row["covered"])
    return [
        Evidence(
            f"{100 * min(values):.1f} to {100 * max(values):.1f} % covered over {len(values)} epochs (99 by chance)",
            len(values),
            HOLDS if min(values) >= least else HOLDS_NOT,
            f"{name}, {run}, {part} images",
        )
        for (name, run, part), values in shares.items()
    ]


def noise(grids: Sequence[Grid], sources: Sequence[Source], *, measure: str, unit: float, name: str) -> list[Evidence]:
    """Return how Gaussian mutation compares with logistic chaos in an ablation; less is better in all measures."""
    found = []
    for source in _finished(sources, "ablate"):
        levels = source.result["factors"].get("noise", {})
        against = levels.get("gaussian", {}).get(f"{measure}_against_logistic")
        if against is None:
            continue
        difference = _number(against["difference"])
        bounds = (difference, _number(against["low"]), _number(against["high"]))
        # Without a mean, for runs that never get there, the effect says which side is better.
        sign = difference if math.isfinite(difference) else _number(against["cliffs_delta"])
        shown = f"gaussian minus logistic, {name}: {_range(bounds, unit)}, {_p(against['p_holm'])}"
        runs = int(_at(source.config, "runs") or 0) or None
        found.append(Evidence(shown, runs, _outcome(sign, against["p_holm"]), source.name))
    return found


def surrogates(grids: Sequence[Grid], sources: Sequence[Source], *, most: float) -> list[Evidence]:
    """Return the rank correlations of small networks with the largest one."""
    found = []
    for source in _finished(sources, "surrogate-study"):
        last = source.result["networks"][-1]["name"]
        for row in source.result["rows"]:
            key = (row["measure"], row["subset"], row["reference"])
            if key != ("spearman", "all", last) or row["surrogate"] == last:
                continue
            low, high = _number(row["low"]), _number(row["high"])
            outcome = HOLDS if high < most else HOLDS_NOT if low > most else UNCLEAR
            ours = f"{row['surrogate']} for {last}: {_range((_number(row['value']), low, high), 1.0)}"
            found.append(Evidence(ours, row["candidates"], outcome, source.name))
    return found


def cost(
    grids: Sequence[Grid], sources: Sequence[Source], *, method: str, other: str, low: float, high: float
) -> list[Evidence]:
    """Return the ratio of the seconds a trained candidate of two methods of search, on the same task."""
    seconds: dict[str, list[tuple[tuple[str, str], float, str, int]]] = {method: [], other: []}
    for source in _finished(sources, "search"):
        result = source.result
        trained = _at(result["counts"], "trained")
        if result["method"] in seconds and trained:
            task = (result["dataset"], result["arch"])
            each = (task, result["seconds"]["total"] / trained, source.name, int(trained))
            seconds[result["method"]].append(each)
    found = []
    for task, mine, where, count in seconds[method]:
        for other_task, theirs, other_where, _ in seconds[other]:
            if task == other_task and theirs > 0:
                ratio = mine / theirs
                outcome = HOLDS if low <= ratio <= high else HOLDS_NOT
                found.append(Evidence(f"{ratio:.2f} times", count, outcome, f"{where} and {other_where}"))
    return found


def groups(grids: Sequence[Grid], sources: Sequence[Source], *, method: str) -> list[Evidence]:
    """Return the group of the best loss of searches by a method."""
    found = []
    for source in _finished(sources, "search"):
        group = _at(source.result, "group")
        if source.result["method"] == method and group is not None:
            found.append(Evidence(str(group), 1, HOLDS_NOT if group == "other" else HOLDS, source.name))
    return found


def flatter(grids: Sequence[Grid], sources: Sequence[Source]) -> list[Evidence]:
    """Return how the normalised trace of networks trained with learned losses compares with cross-entropy's."""
    found = []
    for source in _finished(sources, "flatness"):
        values: dict[tuple[str, str], dict[str, list[float]]] = {}
        for row in source.result["rows"]:
            if row["hessian_of"] == "cross_entropy":
                losses = values.setdefault((row["arch"], row["dataset"]), {})
                losses.setdefault(row["run_loss"], []).append(row["normalised_trace"])
        for (arch, dataset), losses in values.items():
            theirs = losses.get(_CROSS_ENTROPY, [])
            for loss, mine in losses.items():
                if not theirs or family(loss) is None:
                    continue
                c = compare(mine, theirs, paired_by_seed=False)
                enough = min(len(mine), len(theirs)) >= _FEWEST
                told = f"{loss}: {np.mean(mine):.4g} against {np.mean(theirs):.4g}"
                told += f", difference {_range((c.difference, c.low, c.high), 1.0)}, {_p(c.p, '')}" if enough else ""
                outcome = _outcome(-c.difference, c.p) if enough else UNCLEAR
                found.append(Evidence(told, len(mine), outcome, f"{source.name}, {arch} on {dataset}"))
    return found


RULES: Mapping[str, Callable[..., list[Evidence]]] = {
    each.__name__: each for each in (better, gap, ranking, covered, noise, surrogates, cost, groups, flatter)
}
"""Name -> function, as claims.yaml names them."""


def _against_cross_entropy(grids: Sequence[Grid], paper: str) -> Iterator[tuple[Grid, Row]]:
    """Yield the rows of accuracy of losses that speak for a paper, against cross-entropy."""
    for grid in grids:
        if parse_loss(grid.config.baseline_loss).text == _CROSS_ENTROPY:
            for row in grid.rows:
                if row.metric == "accuracy" and row.difference is not None and family(row.loss) == paper:
                    yield grid, row


def _finals(sources: Sequence[Source], number: str, sign: float) -> list[Evidence]:
    """Return what the finals of eliminations say of a number of the losses that survived, against cross-entropy."""
    found = []
    for source in _finished(sources, "eliminate"):
        if source.result["reference"] != _CROSS_ENTROPY:
            continue
        for winner in source.result["winners"]:
            c = source.result["finals"].get(winner["name"], {}).get(number, {}).get("difference")
            if c is None:
                continue
            bounds = (_number(c["difference"]), _number(c["low"]), _number(c["high"]))
            count = len(source.result["finals"][winner["name"]][number]["values"])
            ours = f"{winner['name']}: {_points(*bounds)}, {_p(c['p_holm'])}"
            found.append(Evidence(ours, count, _outcome(sign * bounds[0], c["p_holm"]), source.name))
    return found


def _finished(sources: Sequence[Source], made_by: str) -> list[Any]:
    """Return the finished directories of a command."""
    return [source for source in sources if source.command == made_by and source.result is not None]


def _gaps(grid: Grid, row: Row, loss: str) -> dict[int, float]:
    cells = grid.cells(row.place, loss)
    known = [each for each in cells if None not in (each["train_accuracy"], each["test_accuracy"])]
    return {each["seed"]: each["train_accuracy"] - each["test_accuracy"] for each in known}


def _outcome(gain: float, p: float | None) -> str:
    """Return what a test says of a gain, which is positive where the claim holds."""
    if p is None or p >= _SIZE or not gain:
        return UNCLEAR
    return HOLDS if gain > 0.0 else HOLDS_NOT


def _at(mapping: Mapping[str, Any] | None, name: str) -> Any:
    return (mapping or {}).get(name)


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
