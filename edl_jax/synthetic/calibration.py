"""Drop-in calibration: scale, shift and tail that put a loss network in cross-entropy's place."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import loss
from edl_jax.loss._network import NetworkConfig, g1
from edl_jax.synthetic.gradients import loss_gradients
from edl_jax.synthetic.mixture import MixtureConfig, draw_predictions
from edl_jax.synthetic.severity import SEVERITIES, Severity

NUM_CLASSES = (2, 10, 100, 1000)
# Numbers (N C) per measurement, and predictions at the least.
_VALUES = 1 << 18
_LEAST = 2048


def calibrate(key: jax.Array, network: NetworkConfig, params: Any, mixture: MixtureConfig) -> loss.Calibration:
    """Return the calibration of a network over a mixture.

    For each C of `NUM_CLASSES`: scale makes the mean norm of d loss / d logits equal cross-entropy's, shift
    makes the smallest loss 0. The tail starts at the mixture's smallest ln p_t (`log_p_min`) with the
    network's slope there.

    Args:
      key: PRNG key; use one that training has not seen.
      network: architecture.
      params: parameters.
      mixture: mixture that the network was trained on.
    """
    slope = float(jax.jit(jax.grad(lambda x: g1(network, params, x)))(jnp.float32(mixture.log_p_min)))
    raw = loss.Calibration(tail_log_p=mixture.log_p_min, tail_slope=slope)
    scales, shifts = [], []
    for num_classes in NUM_CLASSES:
        artifact = loss.Artifact(network, params, raw)
        ratio, smallest = (
            float(x) for x in _measure(jax.random.fold_in(key, num_classes), artifact, mixture, num_classes)
        )
        scales.append(1.0 / ratio if ratio > 0.0 else 1.0)
        shifts.append(-smallest * scales[-1])
    return dataclasses.replace(
        raw, num_classes=tuple(float(c) for c in NUM_CLASSES), scale=tuple(scales), shift=tuple(shifts)
    )


def gradient_norm_ratio(key: jax.Array, artifact: loss.Artifact, mixture: MixtureConfig, num_classes: int) -> float:
    """Return the mean norm of d loss / d logits over the mixture, divided by cross-entropy's."""
    return float(_measure(key, artifact, mixture, num_classes)[0])


def _measure(
    key: jax.Array, artifact: loss.Artifact, mixture: MixtureConfig, num_classes: int
) -> tuple[jax.Array, jax.Array]:
    """Return (gradient norm ratio to cross-entropy, smallest loss) over the mixture."""
    labels, log_p = draw_predictions(key, mixture, num_classes, max(_VALUES // num_classes, _LEAST))
    function = loss.learned_loss(artifact)

    @jax.jit
    def measure(labels: jax.Array, log_p: jax.Array) -> tuple[jax.Array, jax.Array]:
        norms = loss_gradients(lambda z: function(z, labels), log_p, labels).norm
        reference = loss_gradients(lambda z: loss.cross_entropy(z, labels), log_p, labels).norm
        return jnp.mean(norms) / jnp.mean(reference), jnp.min(function(log_p, labels))

    return measure(labels, log_p)


def shape_report(
    key: jax.Array, artifact: loss.Artifact, mixture: MixtureConfig, severity: Severity, num_classes: int
) -> dict[str, float]:
    """Say what the learned loss looks like: R^2 of a straight-line fit to known losses over the mixture.

    Args:
      key: PRNG key.
      artifact: the loss.
      mixture: mixture to compare on.
      severity: severity function that it was trained with.
      num_classes: C.

    Returns:
      R^2 against `cross_entropy`, `brier`, `error` (1 - p_t), `severity`, and `severity_cdf`, the distribution
      function of the severity under the mixture (the optimum of the objective at m = 0).
    """
    function = loss.learned_loss(artifact)

    @jax.jit
    def columns(labels: jax.Array, log_p: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        e = severity(log_p, labels)
        return function(log_p, labels), {
            "cross_entropy": SEVERITIES["nll"](log_p, labels),
            "brier": SEVERITIES["brier"](log_p, labels),
            "error": SEVERITIES["error"](log_p, labels),
            "severity": e,
            "severity_cdf": jnp.argsort(jnp.argsort(e)),
        }

    values, references = columns(*draw_predictions(key, mixture, num_classes, _VALUES // 10))
    return {name: _r_squared(np.asarray(values), np.asarray(x)) for name, x in references.items()}


def _r_squared(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    if np.std(x) == 0.0 or np.std(y) == 0.0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1] ** 2)
