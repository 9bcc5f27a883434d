"""The learning rate of each loss, chosen on validation images with the same budget for all."""

import math
import statistics
from typing import Any, NamedTuple

from edl_jax.study.compare.cells import Setting, tuning_cells
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.ledger import Ledger


class Choice(NamedTuple):
    """What tuning says of a loss in a setting.

    Attributes:
      factor: of the rate that was chosen; None while cells of tuning are missing, and where no rate works.
      settled: whether all cells of tuning have ended.
      scores: factor -> mean validation accuracy after the last epoch; None where a seed failed or is missing.
    """

    factor: float | None
    settled: bool
    scores: dict[float, float | None]

    @property
    def is_edge(self) -> bool:
        """Whether a better rate may lie beyond those that were tried."""
        return self.factor is not None and self.factor in (min(self.scores), max(self.scores))


def choose_rate(config: CompareConfig, ledger: Ledger, setting: Setting, text: str) -> Choice:
    """Return the rate of a loss in a setting: the best mean over the seeds of tuning, after the last epoch.

    A rate with which a seed fails is out. Of equal ones, that nearest to the grid's is taken.
    """
    scores: dict[float, float | None] = {}
    settled = True
    for factor, cells in tuning_cells(config, setting, text).items():
        settled = settled and all(ledger.is_settled(cell) for cell in cells)
        scores[factor] = _score([ledger.result(cell) for cell in cells])
    eligible = {factor: score for factor, score in scores.items() if score is not None}
    if not settled or not eligible:
        return Choice(None, settled, scores)
    factor = max(eligible, key=lambda factor: (eligible[factor], -abs(math.log(factor))))
    return Choice(factor, True, scores)


def _score(results: list[dict[str, Any] | None]) -> float | None:
    values = [None if result is None else result.get("val_accuracy") for result in results]
    numbers = [value for value in values if value is not None]
    return statistics.fmean(numbers) if len(numbers) == len(values) else None
