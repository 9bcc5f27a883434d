"""How far pretraining numbers order losses as the accuracy of networks does."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from edl_jax.stats import intervals, ranks
from edl_jax.stats.ranks import Estimate
from edl_jax.study.correlate.config import FEWEST
from edl_jax.study.correlate.numbers import NUMBERS
from edl_jax.study.stages.networks import Trained

COEFFICIENTS: Mapping[str, Callable[..., Estimate]] = {"spearman": ranks.spearman, "kendall": ranks.kendall}


class Measured(NamedTuple):
    """A loss and what is known of it.

    Attributes:
      name: short.
      family: evolved, formula or found.
      origin: where it comes from.
      formula: in writing.
      scale: factor that brought it to the common scale.
      numbers: of pretraining; NaN where one is not known.
    """

    name: str
    family: str
    origin: str
    formula: str
    scale: float
    numbers: Mapping[str, float]


class Row(NamedTuple):
    """A pretraining number and the accuracy of a network.

    Attributes:
      number: key of `NUMBERS`.
      network: its name.
      subset: `all`; `trained`, those that the network learnt something with; a family, or those of it that trained.
      artifacts: how many the correlation is over.
      measure: `spearman` or `kendall`.
      estimate: the correlation and its interval; positive where the number predicts accuracy in the way that its sign
        says.
      p: of Spearman's, two-sided; None where it is not defined.
      p_holm: corrected for all numbers and networks of the subset.
    """

    number: str
    network: str
    subset: str
    artifacts: int
    measure: str
    estimate: Estimate
    p: float | None = None
    p_holm: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        first = {name: getattr(self, name) for name in self._fields[:5]}
        return {**first, **self.estimate._asdict(), "p": self.p, "p_holm": self.p_holm}


def errors_of(network: Trained) -> np.ndarray:
    """Return the mean error over seeds `[n]`; infinity where a training of one seed failed."""
    return np.asarray(np.mean([outcome.settled(network.chance) for outcome in network.outcomes], axis=0))


def accuracies_of(network: Trained) -> np.ndarray:
    """Return the mean accuracy over seeds `[n]` as it is; NaN where a training did not end finite."""
    errors = np.mean([outcome.error for outcome in network.outcomes], axis=0)
    return np.where(np.isfinite(errors), 1.0 - errors, math.nan)


def subsets(measured: Sequence[Measured], errors: np.ndarray) -> dict[str, np.ndarray]:
    """Return which artifacts `[n]` each subset has: all, those that trained, and each family that is large enough."""
    trained = np.isfinite(errors)
    found = {"all": np.ones(len(measured), bool), "trained": trained}
    for family in dict.fromkeys(each.family for each in measured):
        inside = np.array([each.family == family for each in measured])
        if inside.sum() >= FEWEST:
            found |= {family: inside, f"{family}, trained": inside & trained}
    return found


def measure(
    measured: Sequence[Measured], networks: Sequence[Trained], report: Callable[[str], None] = lambda what: None
) -> list[Row]:
    """Return the correlations of every number with the accuracy of every network.

    Args:
      measured: n artifacts.
      networks: that were trained with them.
      report: called with what is being compared, at least every second or so.
    """
    rows: list[Row] = []
    for network in networks:
        report(f"comparing with {network.name}")
        errors = errors_of(network)
        for subset, chosen in subsets(measured, errors).items():
            for number in NUMBERS:
                rows += _rows(number, network.name, subset, measured, errors, chosen)
    return _corrected(rows)


def _rows(
    number: str, network: str, subset: str, measured: Sequence[Measured], errors: np.ndarray, chosen: np.ndarray
) -> list[Row]:
    values = np.array([each.numbers.get(number, math.nan) for each in measured], float)
    chosen = chosen & ~np.isnan(values)
    x, y = NUMBERS[number].sign * values[chosen], -errors[chosen]
    count = int(chosen.sum())
    rows = []
    for name, coefficient in COEFFICIENTS.items():
        estimate = coefficient(x, y) if count >= FEWEST else ranks.NOTHING
        known = name == "spearman" and not math.isnan(estimate.value)
        p = float(stats.spearmanr(stats.rankdata(x), stats.rankdata(y)).pvalue) if known else None
        rows.append(Row(number, network, subset, count, name, estimate, p))
    return rows


def _corrected(rows: Sequence[Row]) -> list[Row]:
    """Return rows with Holm's correction over all numbers and networks of a subset."""
    found: dict[tuple[str, str, str], float | None] = {}
    for subset in dict.fromkeys(row.subset for row in rows):
        tested = {str(i): row.p for i, row in enumerate(rows) if row.subset == subset and row.measure == "spearman"}
        for place, p in intervals.holm(tested).items():
            row = rows[int(place)]
            found[row.subset, row.number, row.network] = p
    return [
        row._replace(p_holm=found[row.subset, row.number, row.network]) if row.measure == "spearman" else row
        for row in rows
    ]


def reliability(network: Trained) -> float | None:
    """Return the mean Spearman correlation of a network's seeds with each other, or None of a single seed."""
    errors = [outcome.settled(network.chance) for outcome in network.outcomes]
    pairs = [ranks.spearman(errors[i], errors[j]).value for i in range(len(errors)) for j in range(i + 1, len(errors))]
    return float(np.mean(pairs)) if pairs else None
