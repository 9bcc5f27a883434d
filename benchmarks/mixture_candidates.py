"""The candidates of benchmarks/choose_mixture.py, and the losses that they would evolve."""

import dataclasses
import functools

import jax
import numpy as np
from synthetic_tasks import NUM_CLASSES, LossTable, table_of

from edl_jax.synthetic.mixture import MixtureConfig, draw_predictions
from edl_jax.synthetic.optimum import from_severities

# Predictions that stand for a mixture.
_DRAWS = 1 << 17


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What a pretraining run would be given."""

    mixture: MixtureConfig
    severity: str = "error"
    margin: float = 0.0
    beta: float = 1.0


def weights(
    uniform: float, right: float, wrong: float, boundary: float, near: float, log_uniform: float, **others: float
) -> MixtureConfig:
    """Return the mixture of these weights, in the order of the table."""
    return MixtureConfig(uniform, right, wrong, boundary, near, log_uniform, **others)  # type: ignore[arg-type]


FORMER = weights(0.05, 0.02, 0.1, 0.08, 0.05, 0.7)
_LOG_U = np.log(np.linspace(1e-6, 1.0, 1025))

# Weights: uniform, right, wrong, boundary, near uniform, log-uniform. The second half are neighbours of what was best
# among the first half on the selection's seeds.
CANDIDATES: dict[str, Candidate] = {
    "log-uniform": Candidate(weights(0, 0, 0, 0, 0, 1)),
    "log-uniform from -5": Candidate(weights(0, 0, 0, 0, 0, 1, log_p_min=-5.0)),
    "log-uniform from -12": Candidate(weights(0, 0, 0, 0, 0, 1, log_p_min=-12.0)),
    "uniform p_t": Candidate(MixtureConfig(0, 0, 0, 0, 0, 0, designed=1.0, designed_log_p=tuple(_LOG_U))),
    "steered mixture": Candidate(FORMER),
    "steered mixture from -5": Candidate(dataclasses.replace(FORMER, log_p_min=-5.0)),
    "steered mixture from -7": Candidate(dataclasses.replace(FORMER, log_p_min=-7.0)),
    "steered mixture from -12": Candidate(dataclasses.replace(FORMER, log_p_min=-12.0)),
    "first default": Candidate(weights(0.1, 0.03, 0.2, 0.1, 0.05, 0.52)),
    "paper-like": Candidate(weights(1, 1, 1, 1, 1, 0, confidence=10.0)),
    "equal six": Candidate(weights(1, 1, 1, 1, 1, 1, confidence=10.0)),
    "half paper-like": Candidate(weights(0.1, 0.1, 0.1, 0.1, 0.1, 0.5, confidence=10.0)),
    "uniform 0.3": Candidate(weights(0.3, 0, 0, 0, 0, 0.7)),
    "right 0.1": Candidate(weights(0, 0.1, 0, 0, 0, 0.9)),
    "wrong 0.3": Candidate(weights(0, 0, 0.3, 0, 0, 0.7)),
    "boundary 0.3": Candidate(weights(0, 0, 0, 0.3, 0, 0.7)),
    "boundary 0.5": Candidate(weights(0, 0, 0, 0.5, 0, 0.5)),
    "near uniform 0.3": Candidate(weights(0, 0, 0, 0, 0.3, 0.7)),
    "early-training": Candidate(weights(0.1, 0, 0, 0, 0.5, 0.4)),
    "boundary 0.15, near 0.15": Candidate(weights(0, 0, 0, 0.15, 0.15, 0.7)),
    "log-uniform, nll, m 1, beta 10": Candidate(weights(0, 0, 0, 0, 0, 1), "nll", 1.0, 10.0),
    "log-uniform, error, m 1, beta 10": Candidate(weights(0, 0, 0, 0, 0, 1), "error", 1.0, 10.0),
    "log-uniform, error, m 0.5, beta 2": Candidate(weights(0, 0, 0, 0, 0, 1), "error", 0.5, 2.0),
    "steered mixture, m 0, beta 10": Candidate(FORMER, beta=10.0),
    "steered mixture, nll, m 1, beta 10": Candidate(FORMER, "nll", 1.0, 10.0),
    "right 0.03": Candidate(weights(0, 0.03, 0, 0, 0, 0.97)),
    "right 0.06": Candidate(weights(0, 0.06, 0, 0, 0, 0.94)),
    "right 0.09": Candidate(weights(0, 0.09, 0, 0, 0, 0.91)),
    "right 0.04, confidence 10": Candidate(weights(0, 0.04, 0, 0, 0, 0.96, confidence=10.0)),
    "right 0.12, confidence 3": Candidate(weights(0, 0.12, 0, 0, 0, 0.88, confidence=3.0)),
    "right 0.2, confidence 2": Candidate(weights(0, 0.2, 0, 0, 0, 0.8, confidence=2.0)),
    "right 0.08, wrong 0.1": Candidate(weights(0, 0.08, 0.1, 0, 0, 0.82)),
    "right 0.08, boundary 0.05": Candidate(weights(0, 0.08, 0, 0.05, 0, 0.87)),
    "right 0.08, boundary 0.1": Candidate(weights(0, 0.08, 0, 0.1, 0, 0.82)),
    "right 0.08, boundary 0.1, wrong 0.05": Candidate(weights(0, 0.08, 0.05, 0.1, 0, 0.77)),
    "right 0.08, boundary 0.1, near 0.03": Candidate(weights(0, 0.08, 0, 0.1, 0.03, 0.79)),
    "right 0.1, boundary 0.1, from -6": Candidate(weights(0, 0.1, 0, 0.1, 0, 0.8, log_p_min=-6.0)),
    "right 0.08 in the steered mixture": Candidate(weights(0.05, 0.08, 0.1, 0.08, 0.05, 0.64)),
    "log-uniform, m 0, beta 3": Candidate(weights(0, 0, 0, 0, 0, 1), beta=3.0),
    "log-uniform, m 0, beta 10": Candidate(weights(0, 0, 0, 0, 0, 1), beta=10.0),
    "boundary 0.05, m 0, beta 5": Candidate(weights(0, 0, 0, 0.05, 0, 0.95), beta=5.0),
    "log-uniform, error, m 0.2, beta 2": Candidate(weights(0, 0, 0, 0, 0, 1), margin=0.2, beta=2.0),
}
# Known losses, as a check on the tasks; not to be chosen. Below ln p = -12 they continue as lines.
REFERENCES = {
    "focal, gamma 1": lambda log_p: np.expm1(log_p) * log_p,
    "gce, q 0.7": lambda log_p: -np.expm1(0.7 * log_p) / 0.7,
    "poly1, epsilon 1": lambda log_p: -log_p - np.expm1(log_p),
}


def optimal_table(candidate: Candidate) -> LossTable:
    """Return the optimal loss of a candidate, its mean gradient norm over the mixture that of cross-entropy."""
    log_p_t, norm = _predictions(candidate.mixture)
    severity = -np.expm1(log_p_t) if candidate.severity == "error" else -log_p_t
    optimum = from_severities(severity, candidate.severity, beta=candidate.beta, margin=candidate.margin)

    def values(log_p: np.ndarray) -> np.ndarray:
        return optimum.loss_of_severity(-np.expm1(log_p) if candidate.severity == "error" else -log_p)

    table = table_of(values, candidate.mixture.log_p_min)
    # d l / d z = dT/dln p_t (y - p): the pull times the gradient of cross-entropy.
    return table._replace(scale=float(np.mean(norm) / np.mean(norm * table.pull(log_p_t))))


@functools.cache
def _predictions(mixture: MixtureConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return ln p_t `[N]` and the norm of cross-entropy's gradient `[N]`, float64, of a mixture's predictions."""
    labels, drawn = draw_predictions(jax.random.key(0), mixture, NUM_CLASSES, _DRAWS)
    log_p, at = np.asarray(drawn, np.float64), (np.arange(_DRAWS), labels)
    error = np.exp(log_p)
    error[at] -= 1.0
    return log_p[at], np.linalg.norm(error, axis=1)
