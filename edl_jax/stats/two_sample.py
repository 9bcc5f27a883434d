"""Whether two samples have one law: a classifier two-sample test (Lopez-Paz and Oquab 2017, 1610.06545)."""

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from edl_jax.core.errors import require

_HIDDEN = 32  # units of the classifier
_DECAY = 10.0  # its L2 penalty
_STEPS = 100  # of L-BFGS
_FEWEST = 20


class TwoSample(NamedTuple):
    """What a classifier finds that is to tell two samples apart.

    Attributes:
      accuracy: on examples that were held out of its training, half of them of each sample; 0.5 is chance.
      low: lower end of the accuracy's 95 % interval (Wilson).
      high: upper end.
      p_value: probability of that accuracy or a higher one where both samples have one law.
      examples: number of examples held out.
    """

    accuracy: float
    low: float
    high: float
    p_value: float
    examples: int


def classifier_test(a: np.ndarray, b: np.ndarray, *, seed: int = 0) -> TwoSample:
    """Train a small network to tell two samples apart on half of them, and test it on the other half.

    Of the larger sample a part is left out, so that guessing gives an accuracy of 0.5.

    Args:
      a: `[N, F]` features of one sample, finite.
      b: `[M, F]` features of the other.
      seed: of the halves and of the network's first weights.

    Raises:
      UserError: fewer than 20 examples in a sample, or samples of different features.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    require(a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1], f"samples are {a.shape} and {b.shape}, expected [N, F]")
    count = min(len(a), len(b))
    require(count >= _FEWEST, f"a sample has {count} examples, expected at least {_FEWEST}")
    rng = np.random.default_rng(seed)
    half = count // 2
    chosen = [sample[rng.permutation(len(sample))[: 2 * half]] for sample in (a, b)]
    train, test = (np.concatenate([sample[part] for sample in chosen]) for part in (slice(half), slice(half, None)))
    labels = np.repeat([0, 1], half)
    correct = int(np.sum(_classifier(train, labels, seed).predict(test) == labels))
    found = stats.binomtest(correct, 2 * half, 0.5, alternative="greater")
    bounds = stats.binomtest(correct, 2 * half).proportion_ci(0.95, method="wilson")
    return TwoSample(correct / (2 * half), float(bounds.low), float(bounds.high), float(found.pvalue), 2 * half)


def _classifier(features: np.ndarray, labels: np.ndarray, seed: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    network = MLPClassifier((_HIDDEN,), activation="tanh", solver="lbfgs", alpha=_DECAY, max_iter=_STEPS)
    network.set_params(random_state=seed)
    # On products as small as these, threads wait for each other: many times slower than one.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it need not be the best classifier
        return make_pipeline(StandardScaler(), network).fit(features, labels)
