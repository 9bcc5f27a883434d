"""The loss of a linear classifier whose logits are never stored: what a large vocabulary needs.

The cross-entropy of each example is computed for a chunk of examples at a time, and its gradient from the chunk's
logits computed again:

    d nll / d logits = p - onehot,     d loss / d nll = T'(nll)

T, the loss as a function of the cross-entropy, is differentiated by JAX. Example i of a batch belongs to step i mod
(number of chunks), so that a batch that is sharded stays where it is, and each device takes its part of every chunk.
"""

import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from edl_jax.core.errors import require
from edl_jax.loss.adapters.nll import transform_of
from edl_jax.loss.checks import check_labels
from edl_jax.loss.contract import Loss
from edl_jax.loss.targets import wide_dtype

# Of a chunk of logits when `chunk` is not given.
_BYTES = 64 * 2**20


def linear(
    hidden: ArrayLike,
    weights: ArrayLike,
    labels: ArrayLike,
    *,
    loss: str | os.PathLike[str] | Loss = "edl",
    bias: ArrayLike | None = None,
    chunk: int | None = None,
    where: ArrayLike | None = None,
    ignore_label: int | None = None,
) -> jax.Array:
    """Return the loss of the logits `hidden @ weights + bias` without storing them.

        values = linear(hidden, model.head.kernel, labels, loss="edl")

    Value and gradient are those of the loss on the logits. Beside its arguments, result and gradients it holds one
    chunk of logits at a time, in both directions, for one matrix product more than training without chunks does.

    Reverse mode, jit, vmap, sharded batches and shard_map work. Forward mode raises TypeError. Second derivatives, by
    either mode on top of reverse mode, are right, but store the logits of all examples.

    Args:
      hidden: `[..., D]` floating point; 16-bit floats are multiplied as they are and summed in float32.
      weights: `[D, C]`, as the kernel of Flax's layers; the transpose of an embedding table.
      labels: `[...]` integer classes. There are no soft labels here: they need all the logits.
      loss: a name or path that `get` takes, or a loss: one of the true class's probability alone.
      bias: `[C]`, or None.
      chunk: at most how many examples have their logits at a time; None for about 64 MiB of logits.
      where: `[...]` bool, which examples count; the others give 0, without gradient.
      ignore_label: a label whose examples do not count, such as -100 or that of padding.

    Returns:
      Values `[...]`, float32 or wider. NaN where a label of an example that counts is no class.

    Raises:
      UserError: the loss is not known to be a function of p_t alone (the message lists those that are), or `chunk`
        is not positive.
      TypeError: `hidden`, `weights` or `bias` are not floating point, or labels not integers.
      ValueError: shapes do not fit; outside a trace also: a label is no class.

    References:
      Wijmans et al., Cut Your Losses in Large-Vocabulary Language Models, 2024, arXiv 2411.09009 (chunks of classes).
    """
    _, transform = transform_of(loss, "hidden @ weights")
    valid = chunk is None or (isinstance(chunk, (int, np.integer)) and not isinstance(chunk, bool) and chunk > 0)
    require(valid, f"chunk is {chunk!r}, expected a positive integer, or None for 64 MiB of logits")
    hidden, weights, bias = jnp.asarray(hidden), jnp.asarray(weights), None if bias is None else jnp.asarray(bias)
    _check_arrays(hidden, weights, bias, labels)
    batch, num_classes = hidden.shape[:-1], weights.shape[-1]
    counts = _counts(labels, where, ignore_label, batch)
    check_labels(jax.ShapeDtypeStruct((*batch, num_classes), hidden.dtype), labels, -1, counts)
    labels = jnp.asarray(labels).astype(jnp.int32)
    if counts is not None:
        counts = jnp.asarray(counts, bool)
        labels = jnp.where(counts, labels, 0)
        hidden = jnp.where(counts[..., None], hidden, 0.0)  # a NaN would reach the gradient of the weights
    known = (labels >= 0) & (labels < num_classes)
    flat = hidden.reshape(-1, hidden.shape[-1])
    steps = _steps(flat.shape[0], chunk or max(1, _BYTES // (4 * num_classes)))
    nll = _in_chunks(steps, flat, weights, bias, labels.reshape(-1)).reshape(batch)
    values = jnp.where(known, transform(nll, num_classes), jnp.nan)
    return values if counts is None else jnp.where(counts, values, 0.0)


@functools.partial(jax.jit, static_argnums=0)
def _in_chunks(steps: int, hidden: jax.Array, weights: jax.Array, bias: jax.Array | None, labels: jax.Array) -> Any:
    """Return the cross-entropy `[N]` of `hidden` `[N, D]`, computed in a number of steps."""
    total, width = hidden.shape
    rows = -(-total // steps)
    hidden = jnp.pad(hidden, ((0, rows * steps - total), (0, 0))).reshape(rows, steps, width)
    labels = jnp.pad(labels, (0, rows * steps - total)).reshape(rows, steps)
    weights = _placed_as(weights, hidden)
    bias = None if bias is None else _placed_as(bias, hidden)
    return _cross_entropy(hidden, weights, bias, labels).reshape(-1)[:total]


@jax.custom_vjp
def _cross_entropy(hidden: jax.Array, weights: jax.Array, bias: jax.Array | None, labels: jax.Array) -> jax.Array:
    """Return the cross-entropy `[R, S]` of `hidden` `[R, S, D]` for labels `[R, S]`, R at a time."""
    return _forward(hidden, weights, bias, labels)[0]


def _forward(hidden: jax.Array, weights: jax.Array, bias: jax.Array | None, labels: jax.Array) -> tuple[Any, Any]:
    def step(i: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = _logits(_column(hidden, i), weights, bias)
        top = lax.stop_gradient(jnp.max(logits, axis=-1))
        log_total = jnp.log(jnp.sum(jnp.exp(logits - top[:, None]), axis=-1))
        of_true = jnp.take_along_axis(logits, _column(labels, i)[:, None], axis=-1, mode="clip").squeeze(-1)
        # From the top, so that the cross-entropy of a confident example is not a difference of large numbers.
        return log_total - (of_true - top), top + log_total

    nll, log_sum = lax.map(step, jnp.arange(hidden.shape[1]))
    return nll.T, (hidden, weights, bias, labels, log_sum)


def _backward(residuals: Any, cotangent: jax.Array) -> tuple[Any, ...]:
    hidden, weights, bias, labels, log_sum = residuals
    dtype = _common_dtype(hidden, weights)

    def step(sums: Any, i: jax.Array) -> tuple[Any, None]:
        d_hidden, d_weights, d_bias = sums
        rows, true = _column(hidden, i), _column(labels, i)[:, None]
        logits = _logits(rows, weights, bias)
        is_true = (lax.broadcasted_iota(jnp.int32, logits.shape, 1) == true).astype(logits.dtype)
        d_logits = _column(cotangent, i)[:, None] * (jnp.exp(logits - log_sum[i][:, None]) - is_true)
        d_bias = None if d_bias is None else d_bias + jnp.sum(d_logits, axis=0)
        d_logits = d_logits.astype(dtype)
        d_rows = _product(d_logits, weights, (1, 1)).astype(hidden.dtype)
        d_hidden = lax.dynamic_update_index_in_dim(d_hidden, d_rows, i, 1)
        return (d_hidden, d_weights + _product(rows, d_logits, (0, 0)), d_bias), None

    wide = log_sum.dtype
    start = (
        jnp.zeros_like(hidden),
        _placed_as(jnp.zeros(weights.shape, wide), hidden),
        None if bias is None else _placed_as(jnp.zeros(bias.shape, wide), hidden),
    )
    (d_hidden, d_weights, d_bias), _ = lax.scan(step, start, jnp.arange(hidden.shape[1]))
    d_bias = None if d_bias is None else d_bias.astype(bias.dtype)
    return d_hidden, d_weights.astype(weights.dtype), d_bias, None


_cross_entropy.defvjp(_forward, _backward)


def _logits(hidden: jax.Array, weights: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Return the logits `[R, C]` of a chunk, float32 or wider."""
    logits = _product(hidden, weights, (1, 0))
    return logits if bias is None else logits + bias.astype(logits.dtype)[None]


def _product(x: jax.Array, y: jax.Array, axes: tuple[int, int]) -> jax.Array:
    """Return the product of two matrices, summed over one axis of each in at least float32."""
    dtype = _common_dtype(x, y)
    return lax.dot_general(
        x.astype(dtype),
        y.astype(dtype),
        (((axes[0],), (axes[1],)), ((), ())),
        preferred_element_type=wide_dtype(dtype),
    )


def _common_dtype(x: jax.Array, y: jax.Array) -> jnp.dtype:
    return x.dtype if x.dtype == y.dtype else wide_dtype(x.dtype, y.dtype)


def _column(x: jax.Array, i: jax.Array) -> jax.Array:
    return lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False)


def _placed_as(x: jax.Array, hidden: jax.Array) -> jax.Array:
    """Return `x` as one that differs between the devices of a shard_map if `hidden` does: its gradient is summed."""
    # The branch that is never taken costs nothing once compiled.
    return jnp.where(jnp.zeros(x.shape, bool), jnp.sum(lax.stop_gradient(hidden)).astype(x.dtype), x)


def _steps(total: int, chunk: int) -> int:
    """Return the number of steps of at most `chunk` examples: one that needs no padding, if it is not twice as many."""
    least = max(1, -(-total // chunk))
    return next((steps for steps in range(least, 2 * least) if total % steps == 0), least)


def _counts(labels: ArrayLike, where: ArrayLike | None, ignore_label: int | None, batch: tuple[int, ...]) -> Any:
    """Return `batch` bool: the examples that count, or None for all; of NumPy where labels and mask are not JAX's."""
    if where is not None and np.shape(where) != batch:
        raise ValueError(f"where has shape {np.shape(where)}, expected {batch}: one for each example")
    if ignore_label is None:
        return where
    kept = labels != ignore_label if isinstance(labels, jax.Array) else np.asarray(labels) != ignore_label
    return kept if where is None else kept & jnp.asarray(where, bool)


def _check_arrays(hidden: jax.Array, weights: jax.Array, bias: jax.Array | None, labels: ArrayLike) -> None:
    """Raise TypeError or ValueError, as `linear` says, for dtypes and shapes."""
    for name, x in (("hidden", hidden), ("weights", weights), ("bias", bias)):
        if x is not None and not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{name} has dtype {x.dtype}, expected a floating-point dtype")
    if hidden.ndim < 1 or weights.ndim != 2 or weights.shape[0] != hidden.shape[-1]:
        raise ValueError(
            f"weights have shape {weights.shape}, expected [D, C] for hidden [..., D] of shape {hidden.shape}: "
            "give the transpose of an embedding table"
        )
    if bias is not None and bias.shape != weights.shape[1:]:
        raise ValueError(f"bias has shape {bias.shape}, expected {weights.shape[1:]}: one for each class")
    if np.shape(labels) != hidden.shape[:-1]:
        raise ValueError(
            f"labels have shape {np.shape(labels)}, expected {hidden.shape[:-1]}: integer classes; "
            "probabilities need the loss on hidden @ weights"
        )
    dtype = jnp.asarray(labels).dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"labels have dtype {dtype}, expected integers")
