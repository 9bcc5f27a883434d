"""A learned loss: network, parameters and the calibration that makes it a drop-in for cross-entropy.

Ranking fixes the order of losses, not their size. Calibration adds, for each of a few numbers of classes C
and interpolated in ln C, a scale (the mean gradient norm over the training mixture equals cross-entropy's),
a shift (the minimum over the mixture is 0), and a tail: below the smallest ln p_t of training, the value of
the true class continues as a straight line in ln p_t, as cross-entropy does, so that a confidently wrong
example keeps its gradient at any gap between logits.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.artifacts.facts import network_formula, origin
from edl_jax.loss.artifacts.spline import Splines, splines
from edl_jax.loss.contract import Targets
from edl_jax.loss.function import LossFunction
from edl_jax.loss.networks import kinds
from edl_jax.loss.networks.base import LOG_P_FLOOR, NetworkConfig
from edl_jax.loss.terms import label_mean, log_p_of_labels, num_classes


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

    def at(self, num_classes: Any) -> tuple[Any, Any]:
        """Return (scale, shift), each `[...]`, for numbers of classes `[...]`: linear in ln C, flat outside.

        Arrays of NumPy give arrays of NumPy, those of JAX give those of JAX.
        """
        xp = num_classes.__array_namespace__()
        knots = [math.log(c) for c in self.num_classes]
        x = xp.log(num_classes)
        # Clipped lines, summed: unlike a search for the knots they gather nothing, which sharded arrays could not.
        steps = [xp.clip((x - low) / (high - low), 0.0, 1.0) for low, high in itertools.pairwise(knots)]

        def line(values: Sequence[float]) -> Any:
            rises = [b - a for a, b in itertools.pairwise(values)]
            return sum((rise * step for rise, step in zip(rises, steps, strict=True)), xp.full_like(x, values[0]))

        return xp.exp(line([math.log(scale) for scale in self.scale])), line(self.shift)


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A stored loss, equal to another one with the same content, whatever the metadata.

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

    is_one_program = True
    parameters = MappingProxyType[str, Any]({})

    @property
    def of_p_t(self) -> bool:
        """Return whether the value for an integer label is a function of p_t and of C, through the calibration."""
        return kinds.is_function_of_p_t(self.network)

    def values(self, t: Targets) -> jax.Array:
        """Return the values `[...]` before weights and masks.

        Raises:
          ValueError: the artifact is made for another number of classes.
        """
        check_num_classes(self, t.log_p.shape[-1])
        c = self.calibration
        if self._splines is None:
            raw = raw_loss(self.network, self._params_as(t.log_p), t, c.tail_log_p, c.tail_slope)
        else:
            raw = _from_splines(self._splines, t)
        return self._calibrated(raw, lambda: num_classes(t))

    def values_at(self, log_p_t: jax.Array, num_classes: float | None = None) -> jax.Array:
        """Return the values `[...]` at ln p_t `[...]` of a loss that is a function of p_t.

        Args:
          log_p_t: ln of the true class's probability.
          num_classes: C; may be None where the calibration is the same for any.
        """
        c = self.calibration
        if self._splines is None:
            params = self._params_as(log_p_t)
            raw = kinds.g1(self.network, params, jnp.where(log_p_t < c.tail_log_p, c.tail_log_p, log_p_t))
            raw += jnp.where(log_p_t < c.tail_log_p, c.tail_slope * (log_p_t - c.tail_log_p), 0.0)
        else:
            raw = self._splines.true_value(log_p_t)
        return self._calibrated(raw, lambda: jnp.asarray(num_classes, log_p_t.dtype))

    def _params_as(self, log_p: jax.Array) -> Any:
        """Return the parameters in the dtype of ln p, to which strict promotion would not bring them."""
        return jax.tree.map(lambda x: x.astype(log_p.dtype), self.params)

    def _calibrated(self, raw: jax.Array, num_classes: Callable[[], jax.Array]) -> jax.Array:
        c = self.calibration
        if len(c.scale) == 1:
            return c.scale[0] * raw + c.shift[0]
        scale, shift = c.at(num_classes())
        return scale * raw + shift

    def __eq__(self, other: object) -> bool:
        return self._content == other._content if isinstance(other, Artifact) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._content)

    @functools.cached_property
    def _splines(self) -> Splines | None:
        """What is evaluated in place of the network, made when it is first needed."""
        c = self.calibration
        return splines(self.network, self.params, c.tail_log_p, c.tail_slope)

    @functools.cached_property
    def _content(self) -> tuple[Any, ...]:
        digest = hashlib.sha256()
        for path, leaf in jax.tree.leaves_with_path(self.params):
            array = np.asarray(leaf, np.float32)
            digest.update(f"{jax.tree_util.keystr(path)}{array.shape}".encode())
            digest.update(array.tobytes())
        return self.network, digest.hexdigest(), self.calibration, self.num_classes


def learned_loss(artifact: Artifact) -> LossFunction:
    """Return the loss function of an artifact."""
    # NumPy leaves become constants of whatever program calls the loss, on whatever device.
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), artifact.params)
    network, source = artifact.network, origin(artifact.network, artifact.metadata)
    rule = dataclasses.replace(artifact, params=params)
    return LossFunction(rule, "learned", network_formula(network), source)


def check_num_classes(artifact: Artifact, num_classes: int) -> None:
    """Raise ValueError when the artifact is made for another number of classes."""
    if artifact.num_classes not in (None, num_classes):
        raise ValueError(
            f"this loss was learned for {artifact.num_classes} classes, got logits with {num_classes}: "
            "pretrain one for this number, or use a per_class network"
        )


def _from_splines(curves: Splines, t: Targets) -> jax.Array:
    """Return the loss `[...]` of a separable network before scale and shift."""
    true = label_mean(t, curves.true_value(log_p_of_labels(t)))
    if curves.wrong is None:
        return true
    if t.y is None:
        return true + t.sum(jnp.where(t.is_true, 0.0, curves.wrong_value(t.log_p)))
    wrong = curves.wrong_value(jnp.where(t.present, t.log_p, -jnp.inf))
    return true + t.sum((1.0 - t.y) * wrong, where=t.present)


def raw_loss(
    network: NetworkConfig, params: Any, t: Targets, tail_log_p: float | jax.Array, tail_slope: float | jax.Array
) -> jax.Array:
    """Return the loss `[...]` before scale and shift; parameters and tail may be traced."""
    if t.y is None and kinds.is_function_of_p_t(network):
        log_p_t = log_p_of_labels(t)
        inside = kinds.g1(network, params, jnp.maximum(log_p_t, tail_log_p))
        return inside + tail_slope * jnp.minimum(log_p_t - tail_log_p, 0.0)
    if t.y is None:
        return _one_class(network, params, t.log_p, t.is_true, tail_log_p, tail_slope)
    if network.kind == "joint":
        return _joint_soft(network, params, t, t.y, tail_log_p, tail_slope)
    if not kinds.is_separable(network):
        # An absent class has no label mass; as the true class it must still be finite.
        present_log_p = jnp.where(t.present, t.log_p, LOG_P_FLOOR)

        def as_true(is_true: jax.Array) -> jax.Array:
            is_true = jnp.broadcast_to(is_true, t.log_p.shape) & jnp.full_like(t.present, True)  # sharded as these
            return _one_class(
                network, params, jnp.where(is_true, present_log_p, t.log_p), is_true, tail_log_p, tail_slope
            )

        values = jax.vmap(as_true, out_axes=-1)(jnp.eye(t.log_p.shape[-1], dtype=bool))
        return jnp.sum(t.y * values, axis=-1, where=t.present)
    log_p = jnp.where(t.present, t.log_p, 0.0)
    true_value = kinds.g1(network, params, jnp.maximum(log_p, tail_log_p))
    true_value += tail_slope * jnp.minimum(log_p - tail_log_p, 0.0)
    wrong_value = kinds.g0(network, params, log_p)
    return t.sum(t.y * true_value + (1.0 - t.y) * wrong_value, where=t.present)


def _joint_soft(
    network: NetworkConfig,
    params: Any,
    t: Targets,
    y: jax.Array,
    tail_log_p: float | jax.Array,
    tail_slope: float | jax.Array,
) -> jax.Array:
    """Return the loss `[...]` of a joint network with its tail: that of `_one_class` where `y` is one class."""
    # A class's probability ends at y_c times the tail's start: at the start for the true class, at 0 for a wrong one.
    start = tail_log_p + jnp.log(jnp.where(y > 0.0, y, 1.0))
    inside = jnp.where(y > 0.0, jnp.maximum(t.log_p, start), t.log_p)
    tail = jnp.minimum(jnp.where(t.present, t.log_p, tail_log_p) - tail_log_p, 0.0)
    return kinds.soft(network, params, inside, y) + tail_slope * jnp.sum(y * tail, axis=-1)


def _one_class(
    network: NetworkConfig,
    params: Any,
    log_p: jax.Array,
    is_true: jax.Array,
    tail_log_p: float | jax.Array,
    tail_slope: float | jax.Array,
) -> jax.Array:
    """Return the loss `[...]` with its tail, for one true class per example."""
    inside = jnp.maximum(log_p, jnp.where(is_true, tail_log_p, -jnp.inf))
    true = jnp.sum(jnp.where(is_true, log_p, 0.0), axis=-1)
    return kinds.hard(network, params, inside, is_true) + tail_slope * jnp.minimum(true - tail_log_p, 0.0)
