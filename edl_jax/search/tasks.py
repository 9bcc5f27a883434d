"""What a search trains students for: to classify, or to predict a number.

A candidate is a function g of target and output. In classification the loss of an example is the sum of g(y_c, p_c)
over the classes, of one-hot labels and softmax probabilities; in regression it is g(y, f), of target and prediction as
they are, in standardised units.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

# (parameters, candidate, y [M], x [M]) -> slopes dg/dx [M], of one candidate: x is ln p, or the prediction.
Slopes = Callable[[Any, Any, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Task:
    """What a search trains students for.

    Attributes:
      name: classification or regression.
      metric: what the mean of `errors` is, the fitness: as a report names it.
      target_dtype: of targets: int32 or float32.
      loss: (outputs `[B, C]`, targets `[B]`) -> the task's loss of a batch, a scalar: cross-entropy, or mean squared
        error.
      losses: (outputs, targets) -> `[B]`, the task's loss of each example.
      errors: (outputs, targets) -> `[B]`, whether each example is classified wrongly, or its squared error.
      points: (outputs, targets) -> (y, x), `[B, C]` each: where slopes are asked for.
      gradient_at: (slopes, parameters, candidate, y, x) -> `[B, C]`, as `gradient`, at points.
    """

    name: str
    metric: str
    target_dtype: Any
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    losses: Callable[[jax.Array, jax.Array], jax.Array]
    errors: Callable[[jax.Array, jax.Array], jax.Array]
    points: Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
    gradient_at: Callable[[Slopes, Any, Any, jax.Array, jax.Array], jax.Array]

    def gradient(
        self, slopes: Slopes, params: Any, candidate: Any, outputs: jax.Array, targets: jax.Array
    ) -> jax.Array:
        """Return the gradient of a candidate's loss of each example in the outputs: not divided by their number.

        Args:
          slopes: of the candidate's family.
          params: its parameters.
          candidate: what else the slopes take.
          outputs: `[B, C]` float32; C is 1 in regression.
          targets: `[B]` int32 classes or float32 numbers.

        Returns:
          `[B, C]` float32.
        """
        return self.gradient_at(slopes, params, candidate, *self.points(outputs, targets))


def _cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _cross_entropies(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=-1)[:, 0]


def _wrong(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return jnp.argmax(logits, axis=-1) != labels


def _classes(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    u = jax.nn.log_softmax(logits)
    return jax.nn.one_hot(labels, u.shape[1]), u


def _logit_gradient(slopes: Slopes, params: Any, candidate: Any, y: jax.Array, u: jax.Array) -> jax.Array:
    d = slopes(params, candidate, y.ravel(), u.ravel()).reshape(u.shape)
    return d - jnp.exp(u) * jnp.sum(d, axis=-1, keepdims=True)


def _squared_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.mean(_squared_errors(outputs, targets))


def _squared_errors(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.square(outputs[:, 0] - targets)


def _numbers(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    return targets[:, None], outputs


def _output_gradient(slopes: Slopes, params: Any, candidate: Any, y: jax.Array, f: jax.Array) -> jax.Array:
    return slopes(params, candidate, y.ravel(), f.ravel()).reshape(f.shape)


CLASSIFICATION = Task(
    name="classification",
    metric="error rate",
    target_dtype=jnp.int32,
    loss=_cross_entropy,
    losses=_cross_entropies,
    errors=_wrong,
    points=_classes,
    gradient_at=_logit_gradient,
)
"""Integer classes `[B]` and logits `[B, C]`; cross-entropy, error rate."""

REGRESSION = Task(
    name="regression",
    metric="mean squared error",
    target_dtype=jnp.float32,
    loss=_squared_error,
    losses=_squared_errors,
    errors=_squared_errors,
    points=_numbers,
    gradient_at=_output_gradient,
)
"""Standardised targets `[B]` and predictions `[B, 1]`; mean squared error."""
