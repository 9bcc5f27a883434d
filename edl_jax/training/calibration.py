"""Confidence against accuracy, in NumPy float64, from the predictions of every example."""

import numpy as np
from scipy.special import log_softmax

from edl_jax.core.errors import require
from edl_jax.training.metrics import NUM_BINS


def confidences(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest probability [N] float64 and whether its class is the label [N] bool.

    Args:
      logits: [N, C] floating point.
      labels: [N] integers.
    """
    logits = np.asarray(logits)
    confidence = np.exp(log_softmax(logits.astype(np.float64), axis=-1).max(axis=-1))
    return confidence, logits.argmax(axis=-1) == np.asarray(labels)


def ece_equal_mass(confidence: np.ndarray, correct: np.ndarray, num_bins: int = NUM_BINS) -> float:
    """Return the expected calibration error with bins of equal size (adaptive: Nguyen and O'Connor 2015, 1508.05154).

    Examples are sorted by confidence and cut into `num_bins` bins whose sizes differ by one at most. Examples of equal
    confidence that fall on both sides of a cut count in each bin with their common accuracy, so that the order in which
    they come does not matter. With fewer examples than bins every example is its own bin.

    Args:
      confidence: [N] in [0, 1].
      correct: [N] booleans.
      num_bins: at least 1.

    Raises:
      UserError: other shapes, no example, or no bin.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    require(
        confidence.ndim == 1 and confidence.shape == correct.shape and confidence.size > 0,
        f"confidence has shape {confidence.shape} and correct {correct.shape}, expected [N] and [N] with N at least 1",
    )
    require(num_bins >= 1, f"num_bins is {num_bins}, expected at least 1")
    values, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    accuracy = (np.bincount(group, correct, minlength=len(values)) / sizes)[group]
    order = np.argsort(confidence, kind="stable")
    gaps = (accuracy - confidence)[order]
    total = sum(abs(part.sum()) for part in np.array_split(gaps, min(num_bins, len(gaps))))
    return float(total / len(gaps))
