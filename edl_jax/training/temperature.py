"""Temperature scaling: Guo et al. 2017 (1706.04599), section 4.2."""

import math

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from edl_jax.core.errors import UserError, require

SMALLEST, LARGEST = 1e-2, 1e2


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature T at which the negative log-likelihood of softmax(logits / T) is smallest.

    Above 1 the network was too sure, below 1 not sure enough. To be fitted on examples that neither the network was
    trained on nor the result is reported on. The NLL is convex in 1 / T, so that its one minimum is found in float64 by
    Brent's bounded method on log T.

    Args:
      logits: [N, C] floating point, finite, C at least 2.
      labels: [N] integers in [0, C).

    Raises:
      UserError: another shape, a value that is not finite, a label out of range, or no minimum between 0.01 and 100:
        every example classified right, logits that carry nothing about the labels, logits that are equal in each row.
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    require(
        logits.ndim == 2 and logits.shape[1] >= 2 and labels.shape == logits.shape[:1],
        f"logits have shape {logits.shape} and labels {labels.shape}, expected [N, C] and [N] with at least 2 classes",
    )
    require(len(labels) > 0, "there are no examples to fit a temperature to: give a validation split")
    require(bool(np.isfinite(logits).all()), "logits are not all finite, expected numbers: the training has diverged")
    low, high = labels.min(), labels.max()
    require(
        bool(np.issubdtype(labels.dtype, np.integer) and low >= 0 and high < logits.shape[1]),
        f"labels range from {low} to {high}, expected integers from 0 to {logits.shape[1] - 1}",
    )
    # Relative to the label's own logit: nll = logsumexp(relative / T).
    relative = logits - np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)
    require(bool(np.any(relative)), "logits are equal in each row, expected differences: a temperature changes nothing")

    def nll(log_t: float) -> float:
        return float(logsumexp(relative * math.exp(-log_t), axis=1).mean())

    bounds = (math.log(SMALLEST), math.log(LARGEST))
    found = float(minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-7}).x)
    if found - bounds[0] < 1e-3:
        raise UserError(
            f"the temperature falls below {SMALLEST:g}: every example is classified right or the logits are far too "
            "small; give more validation examples"
        )
    if bounds[1] - found < 1e-3:
        raise UserError(
            f"the temperature rises above {LARGEST:g}: the logits say nothing about the labels or are far too large; "
            "train further, or check that the labels belong to these images"
        )
    return math.exp(found)
