"""Drop-in calibration: scale, shift and tail that put a loss network in cross-entropy's place."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax import loss
from edl_jax.loss.artifacts.learned import raw_loss
from edl_jax.loss.contract import targets
from edl_jax.loss.networks.kinds import NetworkConfig, hard_label_loss, is_function_of_p_t, is_separable
from edl_jax.synthetic.curves import Curves, curves
from edl_jax.synthetic.gradients import loss_gradients
from edl_jax.synthetic.mixture import MixtureConfig, draw_predictions

NUM_CLASSES = (2, 10, 100, 1000)
_OF_P_T_CLASSES = 10
# Numbers (N C) per measurement, and predictions at the least.
_VALUES = 1 << 18
_LEAST = 4096


def calibrate(
    key: jax.Array, network: NetworkConfig, params: Any, mixture: MixtureConfig, num_classes: int | None = None
) -> loss.Calibration:
    """Return the calibration of a network over a mixture.

    For each C of `NUM_CLASSES` (or the one that the network is made for): scale makes the mean norm of
    d loss / d logits equal cross-entropy's, shift makes the smallest loss 0. A function of p_t is measured at
    C = 10 alone, so that it is the same function whatever C is. The tail starts at the mixture's
    smallest ln p_t (`log_p_min`) with the network's slope there, the other classes equal.

    Args:
      key: PRNG key; use one that training has not seen.
      network: architecture.
      params: parameters.
      mixture: mixture that the network was trained on.
      num_classes: the only C that the network can be used for, or None for any.
    """
    if is_separable(network):
        shape = curves(network, params, mixture.log_p_min)
        slope = shape.tail_slope
    else:
        shape, slope = None, float(_slope(network, params, jnp.float32(mixture.log_p_min), num_classes or 10))
    scales, shifts = [], []
    sizes = _sizes(network, num_classes)
    for sample in draw_samples(key, network, mixture, num_classes):
        ratio, smallest = _measure(*sample, network, params, mixture.log_p_min, slope, shape)
        scales.append(1.0 / ratio if ratio > 0.0 else 1.0)
        shifts.append(-smallest * scales[-1])
    return loss.Calibration(
        num_classes=tuple(float(c) for c in sizes),
        scale=tuple(scales),
        shift=tuple(shifts),
        tail_log_p=mixture.log_p_min,
        tail_slope=slope,
    )


def gradient_norm_ratio(key: jax.Array, artifact: loss.Artifact, mixture: MixtureConfig, num_classes: int) -> float:
    """Return the mean norm of d loss / d logits over the mixture, divided by cross-entropy's."""
    c, network, params = artifact.calibration, artifact.network, artifact.params
    shape = curves(network, params, c.tail_log_p, c.tail_slope) if is_separable(network) else None
    sample = calibration_sample(key, mixture, num_classes)
    ratio, _ = _measure(*sample, network, params, c.tail_log_p, c.tail_slope, shape)
    return ratio * float(c.at(np.float32(num_classes))[0])


def draw_samples(
    key: jax.Array, network: NetworkConfig, mixture: MixtureConfig, num_classes: int | None = None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the `calibration_sample` of each C that `calibrate` measures with the same arguments.

    They are kept for a while, so that a thread can draw them ahead.
    """
    return [calibration_sample(jax.random.fold_in(key, c), mixture, c) for c in _sizes(network, num_classes)]


def _sizes(network: NetworkConfig, num_classes: int | None) -> tuple[int, ...]:
    if num_classes is not None:
        return (num_classes,)
    return (_OF_P_T_CLASSES,) if is_function_of_p_t(network) else NUM_CLASSES


def calibration_sample(key: jax.Array, mixture: MixtureConfig, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (labels `[N]`, log_p `[N, C]`) as many as calibration measures on; they are not to be written to."""
    return _sample(
        tuple(np.asarray(jax.random.key_data(key)).ravel().tolist()),
        str(jax.random.key_impl(key)),
        mixture,
        num_classes,
    )


# The evolved loss and the optimum are measured on the same predictions.
@functools.lru_cache(maxsize=6)
def _sample(
    words: tuple[int, ...], impl: str, mixture: MixtureConfig, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    key = jax.random.wrap_key_data(jnp.asarray(words, jnp.uint32), impl=impl)
    labels, log_p = draw_predictions(key, mixture, num_classes, max(_VALUES // num_classes, _LEAST))
    for array in (labels, log_p):
        array.setflags(write=False)
    return labels, log_p


def _measure(
    labels: np.ndarray,
    log_p: np.ndarray,
    network: NetworkConfig,
    params: Any,
    tail_log_p: float,
    tail_slope: float,
    shape: Curves | None,
) -> tuple[float, float]:
    """Return (gradient norm ratio to cross-entropy, smallest loss) over predictions, before scale and shift."""
    if shape is None:
        tail = jnp.float32(tail_log_p), jnp.float32(tail_slope)
        ratio, smallest = _measure_network(network, params, *tail, labels, log_p)
        return float(ratio), float(smallest)
    predictions = np.asarray(log_p, np.float64)
    error = np.exp(predictions)
    error[np.arange(len(labels)), labels] -= 1.0
    norms = np.linalg.norm(shape.gradients(predictions, labels), axis=1)
    ratio = np.mean(norms) / np.mean(np.linalg.norm(error, axis=1))
    return float(ratio), float(np.min(shape.losses(predictions, labels)))


# Parameters are arguments, so that the losses of one architecture share these programs.
@functools.partial(jax.jit, static_argnums=(0, 3))
def _slope(network: NetworkConfig, params: Any, log_p: jax.Array, num_classes: int) -> jax.Array:
    """Return d loss / d ln p_t at ln p_t = log_p, the other classes equal."""

    def along(log_p_t: jax.Array) -> jax.Array:
        rest = jnp.log(-jnp.expm1(log_p)) - jnp.log(num_classes - 1.0)
        row = jnp.full((num_classes,), rest).at[0].set(log_p_t)
        return hard_label_loss(network, params, row, jnp.zeros((), jnp.int32))

    return jax.grad(along)(log_p)


@functools.partial(jax.jit, static_argnums=0)
def _measure_network(
    network: NetworkConfig,
    params: Any,
    tail_log_p: jax.Array,
    tail_slope: jax.Array,
    labels: jax.Array,
    log_p: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """`_measure` for a network that is no function of one variable per class."""

    def raw(z: jax.Array) -> jax.Array:
        return raw_loss(network, params, targets(z, labels, -1, None), tail_log_p, tail_slope)

    norms = loss_gradients(raw, log_p, labels).norm
    reference = loss_gradients(lambda z: loss.cross_entropy(z, labels), log_p, labels).norm
    return jnp.mean(norms) / jnp.mean(reference), jnp.min(raw(log_p))
