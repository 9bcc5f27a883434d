"""What a test that finds nothing does not say: that two groups are level, and how many runs a difference takes."""

import math

import numpy as np
from scipy import special, stats

from edl_jax.core.errors import require
from edl_jax.stats import intervals

# Beyond as many runs no one looks.
_MOST_RUNS = 1_000_000


def tost(differences: intervals.Values, margin: float) -> float | None:
    """Return the p-value of two one-sided t tests: a small one says that the mean lies within the margin.

    The hypothesis that is rejected is a mean difference of at least `margin`, either way (Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics 15, 1987). p is below 0.05 exactly where the 90 % interval lies within the
    margin.

    Args:
      differences: of the pairs, `[n]`.
      margin: largest difference that does not matter, in the same unit.

    Returns:
      p, or None with an infinite difference or fewer than 2. Differences without spread: 0 within the margin, else 1.

    Raises:
      UserError: no values, NaN, or a margin that is not positive.
    """
    d = intervals.checked(differences, 0.95)
    require(0.0 < margin < math.inf, f"margin is {margin}, expected a positive number")
    if len(d) < 2 or not np.all(np.isfinite(d)):
        return None
    if np.ptp(d) <= intervals.ROUNDING * np.max(np.abs(d)):
        return float(not -margin < float(np.median(d)) < margin)
    # Of the two tests that with the larger p: the nearer bound.
    t = (margin - abs(float(np.mean(d)))) / intervals.standard_error(d)
    return float(special.stdtr(len(d) - 1, -t))


def power(runs: int, difference: float, spread: float, level: float = 0.95) -> float:
    """Return the probability that a paired two-sided t test of `runs` pairs sees a mean difference.

    Args:
      runs: pairs, 2 or more.
      difference: true mean of the differences.
      spread: their standard deviation, positive.
      level: confidence level, 1 minus the size of the test.
    """
    df = runs - 1
    noncentrality = math.sqrt(runs) * abs(difference) / spread
    critical = float(special.stdtrit(df, 0.5 + level / 2.0))
    return float(stats.nct.sf(critical, df, noncentrality) + stats.nct.cdf(-critical, df, noncentrality))


def runs_needed(difference: float, spread: float, *, goal: float = 0.8, level: float = 0.95) -> int | None:
    """Return the least number of pairs with which a paired t test sees a mean difference with probability `goal`.

    Args:
      difference: mean difference that is to be seen.
      spread: standard deviation of the paired differences.
      goal: power.
      level: confidence level, 1 minus the size of the two-sided test.

    Returns:
      2 or more; None where a million do not suffice.

    Raises:
      UserError: a difference of 0, a negative spread, or a goal or level outside (0, 1).
    """
    require(0.0 < abs(difference) < math.inf, f"difference is {difference}, expected a number other than 0")
    require(0.0 <= spread < math.inf, f"spread is {spread}, expected 0 or a positive number")
    for name, value in (("goal", goal), ("level", level)):
        require(0.0 < value < 1.0, f"{name} is {value}, expected a number between 0 and 1")
    if spread == 0.0:
        return 2
    z = float(special.ndtri(0.5 + level / 2.0) + special.ndtri(goal))
    runs = max(2, math.ceil((z * spread / difference) ** 2))
    if runs > _MOST_RUNS:
        return None
    # The normal approximation is short by some 2 runs; power grows with the runs.
    while power(runs, difference, spread, level) < goal:
        runs += 1
    while runs > 2 and power(runs - 1, difference, spread, level) >= goal:
        runs -= 1
    return runs
