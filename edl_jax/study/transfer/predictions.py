"""Predictions with their labels, real or synthetic, and what is compared of them."""

import math
from typing import NamedTuple

import jax
import numpy as np
from scipy.special import entr, log_softmax, logsumexp

from edl_jax.synthetic.mixture import MixtureConfig, draw_predictions

QUANTITIES = {
    "log_p_t": "ln p_t",
    "logit_p_t": "logit p_t",
    "entropy": "entropy / ln C",
    "margin": "margin",
    "gap": "top-two gap",
}
"""What is compared of predictions -> what it is called."""
_LARGEST = 50.0  # of ln p and logit p, where float64 has no more to say
_RANKS = 10  # largest probabilities that the classifier of the two-sample test sees
_LEAST = math.log(1e-9)  # of a probability that it sees
# Predictions drawn, probabilities drawn for them at the most, and predictions at the least.
_DRAWN, _PROBABILITIES, _FEWEST = 1 << 14, 1 << 22, 1 << 11


class Predictions(NamedTuple):
    """Predictions of N examples.

    Attributes:
      log_p: `[N, C]` float64 log-probabilities.
      labels: `[N]` int32.
    """

    log_p: np.ndarray
    labels: np.ndarray

    @classmethod
    def of_logits(cls, logits: np.ndarray, labels: np.ndarray) -> "Predictions":
        """Return the predictions of logits `[N, C]`, precise where p is close to 0 or 1."""
        return cls(log_softmax(np.asarray(logits, np.float64), axis=1), np.asarray(labels, np.int32))

    def take(self, rows: np.ndarray | slice) -> "Predictions":
        """Return some of the predictions."""
        return Predictions(self.log_p[rows], self.labels[rows])


def quantities(given: Predictions) -> dict[str, np.ndarray]:
    """Return the numbers of `QUANTITIES`, `[N]` float64 each.

    `log_p_t` and `logit_p_t`, ln(p_t / (1 - p_t)), lie in [-50, 50]; `entropy` is over that of equal probabilities, so
    that it lies in [0, 1] whatever C is; `margin` is p_t less the largest other probability, positive where the
    prediction is right; `gap` is the largest probability less the second.
    """
    log_p, labels = given
    rows = np.arange(len(labels))
    own = log_p[rows, labels]
    others = log_p.copy()
    others[rows, labels] = -np.inf
    p = np.exp(log_p)
    second, first = np.sort(p, axis=1)[:, -2:].T
    return {
        "log_p_t": np.maximum(own, -_LARGEST),
        "logit_p_t": np.clip(own - logsumexp(others, axis=1), -_LARGEST, _LARGEST),
        "entropy": np.sum(entr(p), axis=1) / math.log(log_p.shape[1]),
        "margin": np.exp(own) - np.exp(np.max(others, axis=1)),
        "gap": first - second,
    }


def features(given: Predictions) -> np.ndarray:
    """Return what a classifier sees of predictions, `[N, F]` float64, whatever the order of the classes.

    The logarithms of the ten largest probabilities in their order, that of p_t, and which of the ten the label is.
    """
    log_p, labels = given
    count = min(_RANKS, log_p.shape[1])
    own = log_p[np.arange(len(labels)), labels]
    largest = -np.sort(-log_p, axis=1)[:, :count]
    rank = np.minimum(np.sum(log_p > own[:, None], axis=1), count)  # beyond the ten: no column
    return np.concatenate(
        [np.maximum(largest, _LEAST), np.maximum(own, _LEAST)[:, None], rank[:, None] == np.arange(count)], axis=1
    )


def draw(key: jax.Array, mixture: MixtureConfig, num_classes: int, count: int | None = None) -> Predictions:
    """Return predictions drawn from a mixture: `count`, or as many as laws are compared by."""
    if count is None:
        count = min(_DRAWN, max(_PROBABILITIES // num_classes, _FEWEST))
    labels, log_p = draw_predictions(key, mixture, num_classes, count)
    return Predictions(np.asarray(log_p, np.float64), labels)
