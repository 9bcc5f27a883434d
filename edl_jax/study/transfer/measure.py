"""How far real predictions are from those of a mixture, quantity by quantity, and whether a classifier can tell."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.stats import wasserstein_distance

from edl_jax.stats.two_sample import TwoSample, classifier_test
from edl_jax.study.transfer import fit
from edl_jax.study.transfer.fit import Fit
from edl_jax.study.transfer.predictions import Predictions, draw, features, quantities
from edl_jax.synthetic.law import law_of
from edl_jax.synthetic.mixture import COMPONENTS, MixtureConfig

_INSIDE = (0.005, 0.995)  # quantiles between which a prediction is covered
_CHANCE_DRAWS = 8


class Place(NamedTuple):
    """Which predictions a number is of.

    Attributes:
      run: name of the training.
      part: `train` or `test`.
      epoch: after which they were recorded.
    """

    run: str
    part: str
    epoch: int


class Row(NamedTuple):
    """A quantity of real predictions beside the mixture's.

    Attributes:
      place: of the predictions.
      quantity: one of `QUANTITIES`.
      low: 5 % quantile of the real predictions.
      median: of these.
      high: 95 % quantile.
      distance: Wasserstein distance of the real predictions from the mixture's.
      by_chance: the mean distance of as many predictions of the mixture itself.
      covered: share of the real predictions between the mixture's 0.5 % and 99.5 % quantiles; by chance 0.99.
      components: component of the mixture -> distance from it.
    """

    place: Place
    quantity: str
    low: float
    median: float
    high: float
    distance: float
    by_chance: float
    covered: float
    components: dict[str, float]


class Summary(NamedTuple):
    """What is said of the predictions of a place as a whole.

    Attributes:
      place: of the predictions.
      examples: how many they are.
      accuracy: share that is right.
      below: share with a p_t below all but a few in a million of the mixture's.
      above: share with a p_t above.
      told_apart: two-sample test of them and the mixture's.
      matched: the mixture that would have matched.
      told_from_matched: two-sample test of them and that mixture's.
    """

    place: Place
    examples: int
    accuracy: float
    below: float
    above: float
    told_apart: TwoSample
    matched: Fit
    told_from_matched: TwoSample


class Synthetic:
    """A mixture's predictions for one number of classes, drawn once.

    Attributes:
      mixture: the mixture.
      num_classes: C.
      whole: its predictions.
      values: quantity -> of these, sorted.
      components: component with a weight -> quantity -> values of its predictions.
      ends: lowest and highest ln p_t.
    """

    def __init__(self, mixture: MixtureConfig, num_classes: int, seed: int) -> None:
        self.mixture, self.num_classes = mixture, num_classes
        self._key = jax.random.key(seed)
        self.whole = draw(jax.random.fold_in(self._key, 0), mixture, num_classes)
        self.values = {name: np.sort(values) for name, values in quantities(self.whole).items()}
        self.components = {}
        for i, (name, weight) in enumerate(zip(COMPONENTS, mixture.weights, strict=True), 1):
            if weight > 0.0:
                drawn = draw(jax.random.fold_in(self._key, i), fit.only(mixture, name), num_classes)
                self.components[name] = quantities(drawn)
        law = law_of(mixture, "nll", num_classes)
        own = self.values["log_p_t"]
        self.ends = (float(own[0]), float(own[-1])) if law is None else law.range()
        self._chance: dict[tuple[str, int], float] = {}
        self._again = quantities(draw(jax.random.fold_in(self._key, len(COMPONENTS) + 1), mixture, num_classes))

    def by_chance(self, quantity: str, count: int) -> float:
        """Return the mean Wasserstein distance of `count` predictions of the mixture from `whole`."""
        if (quantity, count) not in self._chance:
            rng, pool = np.random.default_rng(0), self._again[quantity]
            drawn = [rng.choice(pool, count, replace=count > len(pool)) for _ in range(_CHANCE_DRAWS)]
            found = [wasserstein_distance(values, self.values[quantity]) for values in drawn]
            self._chance[quantity, count] = float(np.mean(found))
        return self._chance[quantity, count]


def compare(place: Place, real: Predictions, synthetic: Synthetic) -> list[Row]:
    """Return a row for each quantity of real predictions."""
    rows = []
    for name, values in quantities(real).items():
        low, high = np.quantile(synthetic.values[name], _INSIDE)
        fifth, median, last = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
        rows.append(
            Row(
                place,
                name,
                fifth,
                median,
                last,
                float(wasserstein_distance(values, synthetic.values[name])),
                synthetic.by_chance(name, len(values)),
                float(np.mean((values >= low) & (values <= high))),
                {
                    component: float(wasserstein_distance(values, found[name]))
                    for component, found in synthetic.components.items()
                },
            )
        )
    return rows


def summarise(place: Place, real: Predictions, synthetic: Synthetic, *, seed: int) -> Summary:
    """Return what is said of real predictions as a whole; trains two classifiers, in about a second."""
    own = quantities(real)
    low, high = synthetic.ends
    count, classes = len(real.labels), synthetic.num_classes
    matched = fit.fit(fit.shares(own["logit_p_t"]), synthetic.mixture, classes, count, seed=seed)
    seen = features(real)
    drawn = draw(
        jax.random.fold_in(jax.random.key(seed), place.epoch),
        fit.with_weights(synthetic.mixture, matched.weights),
        classes,
        count,
    )
    return Summary(
        place,
        count,
        float(np.mean(own["margin"] > 0.0)),
        float(np.mean(own["log_p_t"] < low)),
        float(np.mean(own["log_p_t"] > high)),
        classifier_test(seen, features(synthetic.whole), seed=seed),
        matched,
        classifier_test(seen, features(drawn), seed=seed),
    )


def tables(rows: Sequence[Row], summaries: Sequence[Summary]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return rows and summaries as plain data, a mapping a line, with the same keys in all lines of a table."""
    components = [name for name in COMPONENTS if any(name in row.components for row in rows)]
    weights = [name for name in COMPONENTS if any(name in each.matched.weights for each in summaries)]
    first = [
        {
            **row.place._asdict(),
            **{key: value for key, value in row._asdict().items() if key not in ("place", "components")},
            **{f"distance_{name}": row.components.get(name, math.nan) for name in components},
        }
        for row in rows
    ]
    second = []
    for each in summaries:
        line: dict[str, Any] = {**each.place._asdict(), "examples": each.examples, "accuracy": each.accuracy}
        line |= {"below": each.below, "above": each.above}
        for name, found in (("told_apart", each.told_apart), ("told_from_matched", each.told_from_matched)):
            line |= {f"{name}_{key}": value for key, value in found._asdict().items()}
        line |= {f"weight_{name}": each.matched.weights.get(name, 0.0) for name in weights}
        second.append({**line, "left": each.matched.left, "left_by_chance": each.matched.by_chance})
    return first, second
