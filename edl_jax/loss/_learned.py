"""A learned loss: network, parameters and the calibration that makes it a drop-in for cross-entropy.

Ranking fixes the order of losses, not their size. Calibration adds, for each of a few numbers of classes C
and interpolated in ln C, a scale (the mean gradient norm over the training mixture equals cross-entropy's),
a shift (the minimum over the mixture is 0), and a tail: below the smallest ln p_t of training, the value of
the true class continues as a straight line in ln p_t, as cross-entropy does, so that a confidently wrong
example keeps its gradient at any gap between logits.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edl_jax.loss._base import Loss, Targets, targets
from edl_jax.loss._network import LOG_P_FLOOR, NetworkConfig, g0, h


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Numbers that make a loss network a drop-in loss.

    Attributes:
      num_classes: the K numbers of classes at which scale and shift were measured, ascending.
      scale: K positive factors.
      shift: K offsets, added after the scale.
      tail_log_p: the ln p_t below which the true class's value is a line.
      tail_slope: slope of that line, per unit of ln p_t, before the scale; negative in a usable loss.
    """

    num_classes: tuple[float, ...] = (2.0,)
    scale: tuple[float, ...] = (1.0,)
    shift: tuple[float, ...] = (0.0,)
    tail_log_p: float = LOG_P_FLOOR
    tail_slope: float = 0.0

    def at(self, num_classes: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return (scale, shift), each `[...]`, for numbers of classes `[...]`: linear in ln C, flat outside."""
        x = jnp.log(num_classes)
        knots = jnp.log(jnp.asarray(self.num_classes, x.dtype))
        log_scale = jnp.interp(x, knots, jnp.log(jnp.asarray(self.scale, x.dtype)))
        return jnp.exp(log_scale), jnp.interp(x, knots, jnp.asarray(self.shift, x.dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A stored loss.

    Attributes:
      network: architecture.
      params: parameters of the network, float32 arrays.
      calibration: what makes it a drop-in loss.
      num_classes: the only C it is valid for, or None for any C.
      metadata: JSON-serialisable facts: config, metrics, versions, command.
    """

    network: NetworkConfig
    params: Any
    calibration: Calibration
    num_classes: int | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def learned_loss(artifact: Artifact) -> Loss:
    """Return the loss function of an artifact."""
    # NumPy leaves become constants of whatever program calls the loss, on whatever device.
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), artifact.params)

    # Jitted as a whole: called outside jit it is one program, not a hundred; inside, it is inlined.
    @functools.partial(jax.jit, static_argnames="axis")
    def learned(logits: ArrayLike, labels: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None) -> jax.Array:
        """Learned loss. See `Loss` for arguments, shapes, dtypes and errors."""
        t = targets(logits, labels, axis, where)
        check_num_classes(artifact, t.log_p.shape[-1])
        raw = _soft(artifact, params, t) if t.y is not None else _hard(artifact, params, t)
        present = jnp.maximum(jnp.sum(t.present, axis=-1), 1).astype(raw.dtype)
        scale, shift = artifact.calibration.at(present)
        return t.finish(scale * raw + shift)

    return learned


def check_num_classes(artifact: Artifact, num_classes: int) -> None:
    """Raise ValueError when the artifact is made for another number of classes."""
    if artifact.num_classes not in (None, num_classes):
        raise ValueError(
            f"this loss was learned for {artifact.num_classes} classes, got logits with {num_classes}: "
            "pretrain one for this number, or use a per_class network"
        )


def _hard(artifact: Artifact, params: Any, t: Targets) -> jax.Array:
    """Integer labels: one MLP evaluation per class, true and wrong classes in the same call."""
    c = artifact.calibration
    floor = jnp.where(t.is_true, c.tail_log_p, LOG_P_FLOOR)
    log_p = jnp.maximum(t.log_p, floor)
    values = h(artifact.network, params, log_p, t.is_true.astype(log_p.dtype))
    tail = c.tail_slope * jnp.minimum(jnp.where(t.is_true, t.log_p, 0.0) - c.tail_log_p, 0.0)
    return jnp.sum(jnp.where(t.is_true, values + tail, jnp.exp(t.log_p) * values), axis=-1)


def _soft(artifact: Artifact, params: Any, t: Targets) -> jax.Array:
    """Probabilities as labels: the true-class and wrong-class values, weighted by y and 1 - y."""
    assert t.y is not None
    c = artifact.calibration
    log_p = jnp.where(t.present, t.log_p, 0.0)
    inside = jnp.maximum(log_p, c.tail_log_p)
    true_value = h(artifact.network, params, inside, jnp.ones_like(inside))
    true_value += c.tail_slope * jnp.minimum(log_p - c.tail_log_p, 0.0)
    wrong_value = g0(artifact.network, params, log_p)
    return jnp.sum(t.y * true_value + (1.0 - t.y) * wrong_value, axis=-1, where=t.present)
