"""What a learned loss looks like: how straight a line it makes with known losses over the mixture."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edl_jax import loss
from edl_jax.loss.artifacts.learned import raw_loss
from edl_jax.loss.contract import targets
from edl_jax.loss.networks.kinds import NetworkConfig, is_separable
from edl_jax.synthetic.curves import curves
from edl_jax.synthetic.drop_in import calibration_sample
from edl_jax.synthetic.mixture import MixtureConfig
from edl_jax.synthetic.optimum import Optimum
from edl_jax.synthetic.severity import SEVERITIES, Severity


def shape_report(
    key: jax.Array,
    artifact: loss.Artifact,
    mixture: MixtureConfig,
    severity: Severity,
    num_classes: int,
    optimum: Optimum | None = None,
) -> dict[str, float]:
    """Say what the learned loss looks like: R^2 of a straight-line fit to known losses over the mixture.

    Args:
      key: PRNG key.
      artifact: the loss.
      mixture: mixture to compare on.
      severity: severity function that it was trained with.
      num_classes: C.
      optimum: the optimum of its objective, if it is known.

    Returns:
      R^2 against `optimum` (if given), `cross_entropy`, `brier`, `error` (1 - p_t), `severity`, and `severity_cdf`,
      the distribution function of the severity under the mixture (the optimum at m = 0 and small beta).
    """
    labels, log_p = calibration_sample(key, mixture, num_classes)
    values = raw_losses(artifact, log_p, labels)
    e = np.asarray(severity(log_p, labels), np.float64)
    columns: dict[str, Any] = {} if optimum is None else {"optimum": optimum.loss_of_severity(e)}
    columns |= {
        "cross_entropy": SEVERITIES["nll"](log_p, labels),
        "brier": SEVERITIES["brier"](log_p, labels),
        "error": SEVERITIES["error"](log_p, labels),
        "severity": e,
        "severity_cdf": _ranks(e),
    }
    return {name: r_squared(values, x) for name, x in columns.items()}


def pull_report(artifact: loss.Artifact, optimum: Optimum) -> dict[str, float]:
    """Say how close the pull -dT/d ln p_t of a function of p_t is to the optimum's, both standardised by the mixture.

    Args:
      artifact: a loss that is a function of p_t.
      optimum: the optimum of its objective, its law known in closed form.

    Returns:
      `r_squared` of the pulls between the ends of the mixture, `largest_deviation` there relative to the optimum's
      pull, and `largest_deviation_outside`: from the tail down to ln p_t = -50, and at gaps between logits up to 50.
    """
    c, curve = artifact.calibration, optimum.curve
    assert curve is not None
    shape = curves(artifact.network, artifact.params, c.tail_log_p, c.tail_slope)
    low, high = max(curve.position.lowest, c.tail_log_p), curve.position.highest
    # Half of the points equally spaced in ln p_t, half in p_t.
    log_p = np.union1d(np.linspace(low, high, 1000), np.log(np.linspace(np.exp(low), np.exp(high), 1000)))[1:-1]
    edges = np.concatenate([[low], 0.5 * (log_p[1:] + log_p[:-1]), [0.0]])
    mass = -np.diff(curve.position.law.rank(edges))
    mass /= mass.sum()

    def standard(values: np.ndarray) -> float:
        return float(np.sqrt(mass @ np.square(values - mass @ values)))

    true = np.interp(log_p, shape.log_p, shape.true)
    scale, known = standard(true), standard(curve(log_p))

    def pulls(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ours = np.interp(np.clip(x, shape.log_p[0], 0.0), shape.log_p, shape.true_slope)
        return -ours / scale, -curve.slope(np.clip(x, low, high)) / known

    ours, best = pulls(log_p)
    outside = np.append(np.linspace(-50.0, c.tail_log_p, 50), -np.log1p(9.0 * np.exp(-np.linspace(10.0, 50.0, 41))))
    ours_outside, best_outside = pulls(outside)
    return {
        "r_squared": r_squared(ours, best),
        "largest_deviation": float(np.max(np.abs(ours / best - 1.0))),
        "largest_deviation_outside": float(np.max(np.abs(ours_outside / best_outside - 1.0))),
    }


def raw_losses(artifact: loss.Artifact, log_p: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Return the losses `[N]` of predictions `[N, C]` before scale and shift, for integer labels `[N]`."""
    c, network = artifact.calibration, artifact.network
    if is_separable(network):
        shape = curves(network, artifact.params, c.tail_log_p, c.tail_slope)
        return shape.losses(np.asarray(log_p, np.float64), np.asarray(labels))
    tail = jnp.float32(c.tail_log_p), jnp.float32(c.tail_slope)
    return np.asarray(_network_losses(network, artifact.params, *tail, log_p, labels))


def evaluate(artifact: loss.Artifact, log_p: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (losses `[N]`, d loss / d logits `[N, C]`) of predictions `[N, C]` for integer labels `[N]`.

    Losses of a separable network are interpolated between points of its curves, which compiles nothing for their shape.
    """
    c, network = artifact.calibration, artifact.network
    if not is_separable(network):
        values, gradients = _values_and_gradients(loss.learned_loss(artifact))(log_p, labels)
        return np.asarray(values), np.asarray(gradients)
    shape, predictions = curves(network, artifact.params, c.tail_log_p, c.tail_slope), np.asarray(log_p, np.float64)
    scale, shift = c.at(np.asarray(log_p.shape[1], np.float64))
    return scale * shape.losses(predictions, labels) + shift, scale * shape.gradients(predictions, labels)


def _values_and_gradients(function: loss.Loss) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def both(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        values, pullback = jax.vjp(lambda z: function(z, labels), logits)
        return values, pullback(jnp.ones_like(values))[0]

    return jax.jit(both)


def r_squared(x: Any, y: Any) -> float:
    """Return R^2 of the straight-line fit between two `[N]` vectors; 0 where one is constant."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if np.std(x) == 0.0 or np.std(y) == 0.0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def _ranks(x: np.ndarray) -> np.ndarray:
    """Return the mean ranks `[N]` of `[N]` numbers, as `scipy.stats.rankdata`, whose module takes 0.5 s to import."""
    _, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - 0.5 * (counts - 1))[index]


@functools.partial(jax.jit, static_argnums=0)
def _network_losses(
    network: NetworkConfig,
    params: Any,
    tail_log_p: jax.Array,
    tail_slope: jax.Array,
    log_p: ArrayLike,
    labels: ArrayLike,
) -> jax.Array:
    return raw_loss(network, params, targets(log_p, labels, -1, None), tail_log_p, tail_slope)
