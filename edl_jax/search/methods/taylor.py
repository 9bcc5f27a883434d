"""TaylorGLO: CMA-ES on the coefficients of a polynomial."""

from edl_jax.search import taylorglo
from edl_jax.search.config import SearchConfig
from edl_jax.search.methods.base import Method, Row, Winner, mapping_of, row_of
from edl_jax.search.trials import Report, Trials


class TaylorGLO(Method):
    """CMA-ES on the coefficients of a polynomial."""

    def __init__(self, config: SearchConfig, trials: Trials) -> None:
        self._config, self._taylor, self._trials = config, config.taylor, trials

    def init(self) -> taylorglo.TaylorState:
        """Return CMA-ES about 0."""
        return taylorglo.init(self._taylor, self._config.seed)

    def advance(self, state: taylorglo.TaylorState, report: Report) -> tuple[taylorglo.TaylorState, Row]:
        """Try a generation, and tell CMA-ES."""
        trees = [taylorglo.expression(theta, self._taylor.variant) for theta in taylorglo.ask(self._taylor, state)]
        outcome = self._trials.try_trees(trees, report, filtered=False)
        fitness = [evaluation.fitness for evaluation in outcome.evaluations]
        new = taylorglo.tell(self._taylor, state, fitness)
        return new, row_of(fitness, None if new.best is None else new.best_fitness, outcome.counts)

    def dump(self, state: taylorglo.TaylorState) -> str:
        """Return the state as text."""
        return state.to_json()

    def load(self, text: str) -> taylorglo.TaylorState:
        """Return the state that `dump` gave."""
        return taylorglo.TaylorState.from_dict(self._taylor, mapping_of(text))

    def winners(self, state: taylorglo.TaylorState, count: int) -> list[Winner]:
        """Return the best polynomial: the others are not kept."""
        if state.best is None:
            return []
        tree = taylorglo.expression(state.best, self._taylor.variant)
        return [Winner(state.best_fitness, state.best_generation + 1, tree)]
