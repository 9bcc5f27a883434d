"""How far small networks order losses as larger ones do: correlations, recall, regret, and the ceiling of noise."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from edl_jax.stats import ranks
from edl_jax.stats.ranks import Estimate
from edl_jax.study.stages.networks import Chance, Outcome

SUBSETS = ("all", "trained", "best quarter", "best tenth")
"""Candidates that a correlation is over: all of them, those that trained in both networks, the reference's best."""
CORRELATIONS = ("spearman", "kendall")


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A network of a study.

    Attributes:
      name: for tables and figures.
      training: how it was trained, in words.
      chance: on its validation examples.
      seconds: of training and validation, a candidate.
      outcome: what it found.
      repeat: what it found with another seed, or None.
    """

    name: str
    training: str
    chance: Chance
    seconds: float
    outcome: Outcome
    repeat: Outcome | None = None

    @property
    def errors(self) -> np.ndarray:
        """The errors `[n]`; of candidates that failed infinity."""
        return self.outcome.settled(self.chance)

    @property
    def again(self) -> np.ndarray:
        """The errors `[n]` with another seed, likewise."""
        assert self.repeat is not None
        return self.repeat.settled(self.chance)


class Row(NamedTuple):
    """One number of a study.

    Attributes:
      surrogate: name of the cheaper network; that of the reference where its own repetition stands for it.
      reference: name of the network that it is to stand for.
      subset: one of `SUBSETS`.
      candidates: how many there are of the subset.
      measure: `spearman`, `kendall`; `ceiling`, the largest Spearman correlation that the noise of both networks leaves
        room for; `recall_twice`, `recall_quarter`: share of the reference's best tenth among the surrogate's best two
        tenths or best quarter; `regret_one`, `regret_tenth`: error of the reference with the surrogate's best, or with
        the best of its best tenth, minus that of the best candidate.
      estimate: value and interval.
      by_chance: what an order drawn at random gives, in the mean; NaN where that is of no interest.
    """

    surrogate: str
    reference: str
    subset: str
    candidates: int
    measure: str
    estimate: Estimate
    by_chance: float = math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        plain = {key: value for key, value in self._asdict().items() if key != "estimate"}
        return {**plain, **self.estimate._asdict()}


def tenth(count: int) -> int:
    """Return how many of `count` candidates are the best tenth, rounded up."""
    return -(-count // 10)


def quarter(count: int) -> int:
    """Return how many of `count` candidates are the best quarter, rounded up."""
    return -(-count // 4)


def pairs(networks: Sequence[Network]) -> Iterator[tuple[Network, Network]]:
    """Yield (surrogate, reference): each network with each later one, which is the larger."""
    yield from itertools.combinations(networks, 2)


def measure(networks: Sequence[Network], report: Callable[[str], None] = lambda what: None) -> list[Row]:
    """Return all numbers of a study.

    Args:
      networks: of the same candidates, the smaller first.
      report: called with what is being compared, at least every second or so.
    """
    rows: list[Row] = []
    for surrogate, reference in pairs(networks):
        report(f"comparing {surrogate.name} with {reference.name}")
        names = (surrogate.name, reference.name)
        rows += _correlations(*names, surrogate.errors, reference.errors)
        if surrogate.repeat is not None and reference.repeat is not None:
            rows += _ceilings(surrogate, reference)
        rows += _choices(surrogate, reference)
    for network in networks:
        if network.repeat is not None:
            report(f"comparing {network.name} with itself")
            rows += _correlations(network.name, network.name, network.again, network.errors)
    return rows


def subsets(surrogate: np.ndarray, reference: np.ndarray) -> dict[str, np.ndarray]:
    """Return the candidates of each of `SUBSETS`, bool `[n]`, by errors that are settled.

    Candidates that are equal to the last of the best tenth or quarter belong to it; those that failed in the reference
    do not.
    """
    trained = np.isfinite(reference)
    best = [
        trained & (ranks.among_best(reference, size(len(reference)))(np.ones((1, len(reference))))[0] > 0.0)
        for size in (quarter, tenth)
    ]
    return dict(zip(SUBSETS, (np.ones(len(reference), bool), trained & np.isfinite(surrogate), *best), strict=True))


def _correlations(surrogate: str, reference: str, a: np.ndarray, b: np.ndarray) -> list[Row]:
    return [
        Row(surrogate, reference, name, int(chosen.sum()), measure, _coefficient(measure, a[chosen], b[chosen]), 0.0)
        for name, chosen in subsets(a, b).items()
        for measure in CORRELATIONS
    ]


def _coefficient(measure: str, a: np.ndarray, b: np.ndarray) -> Estimate:
    if len(a) < 3:
        return ranks.NOTHING
    return {"spearman": ranks.spearman, "kendall": ranks.kendall}[measure](a, b)


def _ceilings(surrogate: Network, reference: Network) -> list[Row]:
    """Return the geometric mean of the correlations of both networks with their own repetitions, for each subset."""
    rows = []
    for name, chosen in subsets(surrogate.errors, reference.errors).items():
        own = []
        for network in (surrogate, reference):
            both = chosen & np.isfinite(network.again) if name == "trained" else chosen
            own.append(_value(network.errors[both], network.again[both]))
        value = math.sqrt(math.prod(own)) if min(own) > 0.0 else math.nan
        estimate = Estimate(value, math.nan, math.nan)
        rows.append(Row(surrogate.name, reference.name, name, int(chosen.sum()), "ceiling", estimate))
    return rows


def _value(a: np.ndarray, b: np.ndarray) -> float:
    return ranks.spearman(a, b).value if len(a) >= 3 else math.nan


def _choices(surrogate: Network, reference: Network) -> list[Row]:
    """Return recall and regret: what choosing by the surrogate costs."""
    a, b = surrogate.errors, reference.errors
    count = len(a)
    best, fourth = tenth(count), quarter(count)
    error = np.where(np.isfinite(b), b, reference.chance.error)  # what failed guesses
    random = float(error.mean() - error.min())
    found = {
        "recall_twice": (ranks.recall(b, a, best, 2 * best), min(2 * best / count, 1.0)),
        "recall_quarter": (ranks.recall(b, a, best, fourth), fourth / count),
        "regret_one": (ranks.regret(error, a), random),
        "regret_tenth": (ranks.regret(error, a, best), math.nan),
    }
    return [
        Row(surrogate.name, reference.name, "all", count, name, ranks.bootstrap(statistic, count), by_chance)
        for name, (statistic, by_chance) in found.items()
    ]
