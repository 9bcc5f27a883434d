"""How long a search will take, before it begins: from a step of each of its parts, compiled and timed."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.expression import P, Y, apply
from edl_jax.search import families, kernel_store, ml3, racing
from edl_jax.search.students.train import LARGEST_BUCKET
from edl_jax.search.trials import Report, Trials

_CANDIDATES, _STEPS = 4, 5
# Of proposed candidates, the share that was trained in searches by genetic programming: fewest and most.
_TRAINED = (0.2, 0.7)
# Steps of training that a step of the local search costs.
_EXACT, _MATRIX_FREE = 4.0, 2.0


def estimate(trials: Trials, generations: int, report: Report) -> str:
    """Return a line that says how long so many generations will take.

    Args:
      trials: of the search; its programs are compiled on the way.
      generations: that are left.
      report: called with what is being done.
    """
    config = trials.config
    report("compiling")
    step, evaluation = _training(trials)
    race = config.rungs
    steps, evaluations = _means(race, config.population_size, trials.training.evaluator.size)
    candidate = steps * step + evaluations * evaluation
    once = 0.0
    if config.local_search in ("linearised", "guarded"):
        once = config.local_steps * _kernel(trials)
    elif config.local_search in ("exact", "matrix_free"):
        factor = _EXACT if config.local_search == "exact" else _MATRIX_FREE
        candidate += config.local_steps * config.inner_steps * factor * step
    low, high = _TRAINED if config.method in ("evomal", "gp_lfl") else (1.0, 1.0)
    count = generations * config.population_size
    least, most = (once + share * count * candidate for share in (low, high))
    candidates = f"{count} candidates" if count > 1 else "one candidate"
    parts = f"{1e3 * step:.3g} ms a candidate's step" + (f", tangent kernels {_shown(once)}" if once else "")
    span = _shown(most) if _shown(least) == _shown(most) else f"{_shown(least)} to {_shown(most)}"
    return f"estimate: {candidates} in {span} ({parts})"


def _means(race: racing.RacingConfig, count: int, size: int) -> tuple[float, float]:
    """Return the steps of a candidate in a race, and its evaluations on all of `size` examples, in the mean."""
    running, start, steps, evaluations = count, 0, 0.0, 0.0
    for i, rung in enumerate(race.rungs):
        steps += running * (rung - start)
        last = i == len(race.rungs) - 1
        evaluations += running * (1.0 if last else min(1.0, race.examples / size))
        start, running = rung, running if last else race.going_on(i, count)
    return steps / count, evaluations / count


def _training(trials: Trials) -> tuple[float, float]:
    """Return seconds of a candidate's training step, and of its evaluation on all validation examples.

    The programs are those of the search, and are compiled here.
    """
    # As many as a program has places for: candidates of a step share what is prepared of its batch.
    count = min(max(_CANDIDATES, trials.places), LARGEST_BUCKET)
    running, steps = np.arange(count), min(_STEPS, len(trials.training.rows))
    candidates = _candidates(trials, count)
    parts = trials.training.parts(candidates, at_least=trials.places)
    step = _timed(lambda: parts.advance(running, 0, steps)) / (count * steps)
    return step, _timed(lambda: parts.score(running, trials.training.evaluator.size)) / count


def _candidates(trials: Trials, size: int) -> Any:
    """Return so many candidates of squared error, or networks."""
    if trials.config.method == "ml3":
        params = jax.tree.map(lambda x: np.stack([x] * size), ml3.init(trials.training.key))
        return jax.tree.map(jnp.asarray, families.encode_networks(trials.task, params))
    tree = apply("square", apply("sub", Y, P))
    return jax.tree.map(jnp.asarray, families.encode_trees(trials.task, [tree] * size))


def _kernel(trials: Trials) -> float:
    """Return seconds of a tangent kernel."""
    one = trials.sequence(1)
    return _timed(lambda: list(kernel_store.compute(trials.student, one, decay=trials.descent.decay)))


def _timed(call: Callable[[], Any]) -> float:
    """Return the seconds of a call after the one that compiles."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def _shown(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
