"""Empirical tangent kernels: how an SGD step on a training batch moves the outputs on a validation batch.

A step theta' = theta - lr J_t^T g, g the loss's gradient in the logits of the training batch, moves the validation
logits by -lr K g up to second order, with K = J_v J_t^T; in regression predictions are what logits are here, and C is
1. All candidates of a search see the same sequence of (weights, training batch, validation batch), so that K serves
them all, and all generations.

Nothing is differentiated example by example. C passes backward give the signals d of every layer; a dense layer adds
(a_v . a_t + 1) (d_v . d_t) to K, a product of two small Gram matrices; a convolution's Jacobian is explicit, as it has
few columns.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.search.students.base import Inputs, Params, Student
from edl_jax.search.students.layers import Affine


class Linearisation(NamedTuple):
    """A student at some weights, linearised: what one local-search step needs to know of it.

    Attributes:
      kernel: `[B_v C, B_t C]` float32, K; rows and columns by example, then class.
      train_logits: `[B_t, C]`.
      train_labels: `[B_t]` int32, or float32 targets.
      logits: `[B_v, C]` of the validation batch, at weights that have decayed by one step.
      labels: `[B_v]` int32, or float32 targets.
    """

    kernel: jax.Array
    train_logits: jax.Array
    train_labels: jax.Array
    logits: jax.Array
    labels: jax.Array


def require_form(student: Student) -> None:
    """Raise `UserError` for a student without a tangent kernel in closed form."""
    require(
        student.tangent_kernel,
        f"{student.name} has no linearised form (batch normalisation joins the examples of a batch): "
        "choose --local-search exact, or matrix_free, which is linearised and costs half as much",
    )


@functools.partial(jax.jit, static_argnums=0)
def linearise(
    student: Student,
    params: Params,
    train: tuple[jax.Array, jax.Array],
    validation: tuple[jax.Array, jax.Array],
    decay: float = 0.0,
) -> Linearisation:
    """Return the linearisation of a student at some weights.

    Args:
      student: with a tangent kernel.
      params: its weights.
      train: elements of its embedded training set `[B_t, ...]`, and their labels `[B_t]`.
      validation: as many, or not, of the validation set.
      decay: share of the weights that weight decay takes in the step: lr times weight decay.

    Raises:
      UserError: the student has none.
    """
    require_form(student)
    sides = [student.prepare(inputs, None) for inputs, _ in (validation, train)]
    (_, signals_v, seen_v), (train_logits, signals_t, seen_t) = (_layers(student, params, side) for side in sides)
    decayed = jax.tree.map(lambda x: x * (1.0 - decay), params)
    kernel = jnp.zeros((), jnp.float32)
    for name in signals_v:
        kernel += _layer_kernel(params[name], (seen_v[name], signals_v[name]), (seen_t[name], signals_t[name]))
    return Linearisation(kernel, train_logits, train[1], student.logits(decayed, {}, sides[0]), validation[1])


Seen = dict[str, jax.Array]


def _layers(student: Student, params: Params, inputs: Inputs) -> tuple[jax.Array, Seen, Seen]:
    """Return logits `[B, C]`, and of each affine layer the signals `[C, ...]` at its output and its input."""
    seen: Seen = {}

    def shape_of(name: str, layer: Affine, x: jax.Array, y: jax.Array) -> jax.Array:
        seen[name] = y
        return y

    jax.eval_shape(lambda: student.apply(params, {}, inputs, True, shape_of)[0])
    zeros = {name: jnp.zeros(y.shape, y.dtype) for name, y in seen.items()}

    def forward(added: Seen) -> tuple[jax.Array, Seen]:
        found: Seen = {}

        def tap(name: str, layer: Affine, x: jax.Array, y: jax.Array) -> jax.Array:
            found[name] = x
            return y + added[name]

        return student.apply(params, {}, inputs, True, tap)[0], found

    logits, pull, found = jax.vjp(forward, zeros, has_aux=True)
    classes = logits.shape[1]
    # A pass for each class serves all examples: no layer joins two. One after another, passes stay in the cache.
    cotangents = jnp.broadcast_to(jnp.eye(classes)[:, None], (classes, *logits.shape))
    return logits, jax.lax.map(pull, cotangents)[0], found


def _layer_kernel(layer: Affine, validation: tuple[jax.Array, ...], train: tuple[jax.Array, ...]) -> jax.Array:
    """Return the part of K `[B_v C, B_t C]` of one layer, from (input, signals) of both batches."""
    if layer.kernel.ndim == 4:
        v, t = (_conv_jacobian(layer, *side) for side in (validation, train))
        return v @ t.T
    (x_v, d_v), (x_t, d_t) = validation, train
    inputs = x_v.T @ x_t + 1.0
    classes = d_v.shape[0]
    rows_v, rows_t = (d.transpose(2, 0, 1).reshape(-1, d.shape[1]) for d in (d_v, d_t))
    signals = (rows_v @ rows_t.T).reshape(inputs.shape[0], classes, inputs.shape[1], classes)
    return (inputs[:, None, :, None] * signals).reshape(rows_v.shape[0], rows_t.shape[0])


def _conv_jacobian(layer: Affine, found: jax.Array, signals: jax.Array) -> jax.Array:
    """Return the Jacobian `[B C, outputs * (inputs + 1)]` of a convolution whose input is `layers.windows`.

    Args:
      layer: kernel `[size, size, I, outputs]`.
      found: `[(size + 1)^2 I, H', W', B]`.
      signals: `[C, 4, outputs, H' W' B]`.
    """
    size, _, channels, outputs = layer.kernel.shape
    classes, count = signals.shape[0], found.shape[-1]
    # Of the rows of the windows (block row, block column, row, column, channel), those that a pixel's kernel meets.
    steps = np.arange(size)
    places = []
    for q, w in np.ndindex(2, 2):
        row, column = (q + steps)[:, None], (w + steps)[None]
        place = (((row // 2) * ((size + 1) // 2) + column // 2) * 2 + row % 2) * 2 + column % 2
        places.append((place[..., None] * channels + np.arange(channels)).ravel())
    rows = jnp.asarray(np.stack(places))  # [4, size * size * I]
    x = found.reshape(found.shape[0], -1, count).transpose(2, 0, 1)[:, rows]  # [B, 4, inputs, pixels]
    x = x.transpose(0, 1, 3, 2).reshape(count, -1, rows.shape[1])
    x = jnp.pad(x, ((0, 0), (0, 0), (0, 1)), constant_values=1.0)  # the bias
    d = signals.reshape(classes, 4, outputs, -1, count).transpose(4, 0, 2, 1, 3)
    d = d.reshape(count, classes * outputs, -1)
    return (d @ x).reshape(count * classes, outputs * x.shape[2])
