"""What every loss does first: axes, masks, labels and log-probabilities brought into one layout."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.loss.checks import check_class_weights, check_ignore_label, check_labels, check_smoothing

AxisName = str | tuple[str, ...]


class Targets(NamedTuple):
    """Inputs in one layout. In a class-parallel program arrays with a class dimension are one shard of C.

    Attributes:
      logits: `[..., C]` logits, float32 or wider; `-inf` where `where` says so, 0 in examples that do not count.
      log_p: `[..., C]` log-probabilities, float32 or wider; exactly `-inf` where a class is absent.
      log_p_t: `[...]` log-probability of the true class of integer labels, or None: `log_p` there, read without it;
        0 where the label is no class that exists.
      present: `[..., C]` bool, the classes that exist.
      y: `[..., C]` label probabilities, or None when labels are integers and not smoothed.
      classes: `[...]` int32 classes, counted from the shard's first, or None when `y` is given.
      known: `[...]` bool, whether an integer label is a class that exists, or None when labels are probabilities.
      counts: `[...]` bool, the examples that count.
      weights: `[...]` how often each example counts, or None when once.
      dtype: dtype of the result.
      axis_name: the mesh axis over which classes are sharded, or None.
    """

    logits: jax.Array
    log_p: jax.Array
    log_p_t: jax.Array | None
    present: jax.Array
    y: jax.Array | None
    classes: jax.Array | None
    known: jax.Array | None
    counts: jax.Array
    weights: jax.Array | None
    dtype: jnp.dtype
    axis_name: AxisName | None = None

    @property
    def one_hot(self) -> jax.Array:
        """Return the label probabilities `[..., C]` whichever form the labels have."""
        return self.y if self.y is not None else self.is_true.astype(self.log_p.dtype)

    @property
    def is_true(self) -> jax.Array:
        """Return `[..., C]` bool, the true class of integer labels, if it exists."""
        assert self.classes is not None
        return _is_class(self.classes, self.present)

    def sum(self, x: jax.Array, where: jax.Array | None = None) -> jax.Array:
        """Return the sum `[...]` over all classes of `x` `[..., C]`."""
        return _all_shards(jnp.sum(x, axis=-1, where=where), self.axis_name)

    def max(self, x: jax.Array) -> jax.Array:
        """Return the maximum `[...]` over all classes of `x` `[..., C]`, as a constant: it has no gradient."""
        return _maximum(x, self.axis_name)

    def with_log_p(self, log_p: jax.Array) -> "Targets":
        """Return the targets with other log-probabilities `[..., C]`."""
        return self._replace(log_p=log_p, log_p_t=None)

    def finish(self, values: jax.Array) -> jax.Array:
        """Return `values` `[...]` weighted, with the examples that do not count as 0, in the result's dtype."""
        if self.weights is not None:
            values = self.weights * values
        if self.known is not None:  # no class: say so, as neither a clipped nor a wrapped index would
            values = jnp.where(self.known, values, jnp.nan)
        return jnp.where(self.counts, values, 0.0).astype(self.dtype)


def wide_dtype(*dtypes: jax.typing.DTypeLike) -> jnp.dtype:
    """Return the dtype in which a loss of arrays of floating-point `dtypes` computes, float32 or wider."""
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, dtypes, jnp.dtype(jnp.float32))


def targets(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
    class_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    smoothing: ArrayLike = 0.0,
    axis_name: AxisName | None = None,
) -> Targets:
    """Bring the arguments of a loss into one layout: class dimension last, absent classes at `-inf`.

    Raises:
      TypeError, ValueError: as `Loss` says.
    """
    ignore_label = check_ignore_label(ignore_label)
    check_smoothing(smoothing)
    if axis_name is None:
        check_labels(logits, labels, axis, where, ignore_label)
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits have dtype {logits.dtype}, expected a floating-point dtype")
    dtype = logits.dtype
    logits = jnp.moveaxis(logits, axis, -1).astype(wide_dtype(dtype))
    batch, local = logits.shape[:-1], logits.shape[-1]
    if local * (1 if axis_name is None else jax.lax.axis_size(axis_name)) < 2:
        raise ValueError(
            f"logits have {local} class(es) along axis {axis}, expected at least 2: give a binary problem with one "
            "logit z the logits (0, z)"
        )
    soft = _is_soft(logits, labels, axis)
    labels = jnp.moveaxis(labels, axis, -1) if soft else labels
    y = labels.astype(logits.dtype) if soft else None
    classes = None if soft else labels.astype(jnp.int32)
    present, counts = _masks(logits, where, axis, axis_name)
    if ignore_label is not None:
        if classes is None:
            raise ValueError(
                f"ignore_label is {ignore_label}, expected None beside label probabilities: leave examples out with "
                "where="
            )
        counts = counts & (classes != ignore_label)
    if where is not None or ignore_label is not None:
        # An example without classes would make log_softmax return NaN: give it harmless logits.
        logits = jnp.where(present & counts[..., None], logits, jnp.where(counts[..., None], -jnp.inf, 0.0))
    # log_softmax in its parts: a loss of p_t alone then never computes the other classes.
    top = _maximum(logits, axis_name)
    shifted = logits - top[..., None]
    log_total = jnp.log(_all_shards(jnp.sum(jnp.exp(shifted), axis=-1), axis_name))
    log_p_t = known = None
    if classes is not None:
        if axis_name is not None:
            classes = classes - local * jax.lax.axis_index(axis_name)
        log_p_t, known = _true_logit(logits, classes, present, axis_name)
        log_p_t = jnp.where(known, log_p_t - top - log_total, 0.0)
    if isinstance(smoothing, jax.Array) or smoothing != 0.0:
        true = y if classes is None else _is_class(classes, present).astype(logits.dtype)
        assert true is not None
        share = jnp.asarray(smoothing, logits.dtype)
        size = _all_shards(jnp.sum(present, axis=-1, dtype=jnp.int32), axis_name).astype(logits.dtype)
        # A comparison with iota and a product: XLA fuses it into the sums that use it.
        y = (1.0 - share) * true + jnp.where(present, share / jnp.maximum(size, 1.0)[..., None], 0.0)
        classes = log_p_t = None
    weights = None
    if class_weights is not None:
        check_class_weights(class_weights, local)
        of_class = jnp.asarray(class_weights, logits.dtype).reshape((1,) * len(batch) + (-1,))
        if classes is not None:
            weights = _all_shards(jnp.sum(jnp.where(_is_class(classes, present), of_class, 0.0), axis=-1), axis_name)
        else:
            assert y is not None
            y = y * of_class
            weights = _all_shards(jnp.sum(y, axis=-1), axis_name)
            y = y / jnp.where(weights > 0.0, weights, 1.0)[..., None]
    return Targets(
        logits=logits,
        log_p=shifted - log_total[..., None],
        log_p_t=log_p_t,
        present=present,
        y=y,
        classes=classes,
        known=known,
        counts=counts,
        weights=weights,
        dtype=dtype,
        axis_name=axis_name,
    )


def _is_soft(logits: jax.Array, labels: jax.Array, axis: int) -> bool:
    """Return whether labels are probabilities, for logits with the class dimension last.

    Raises:
      ValueError: their shape fits neither form, or their dtype not the other one.
    """
    batch = logits.shape[:-1]
    soft = labels.ndim == logits.ndim
    shape = jnp.moveaxis(labels, axis, -1).shape if soft else labels.shape
    if shape != (logits.shape if soft else batch):
        raise ValueError(
            f"labels have shape {shape}, expected {batch} (classes) or {logits.shape} "
            "(probabilities) for these logits (class dimension last)"
        )
    if not soft and not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels without a class dimension have dtype {labels.dtype}, expected integers")
    return soft


def _masks(
    logits: jax.Array, where: ArrayLike | None, axis: int, axis_name: AxisName | None
) -> tuple[jax.Array, jax.Array]:
    """Return (present `[..., C]`, counts `[...]`) from `-inf` logits and `where`."""
    batch = logits.shape[:-1]
    present = logits != -jnp.inf  # not `>`: a NaN must stay visible
    counts = jnp.ones(batch, bool)
    if where is None:
        return present, counts
    where = jnp.asarray(where, bool)
    if where.shape == batch:
        return present, where
    if where.ndim == logits.ndim:
        where = jnp.moveaxis(where, axis, -1)
    if where.ndim != logits.ndim or any(size not in (1, n) for size, n in zip(where.shape, logits.shape, strict=True)):
        raise ValueError(
            f"where has shape {where.shape}, expected {logits.shape} (classes) or {batch} (examples) "
            "for these logits (class dimension last)"
        )
    where = jnp.broadcast_to(where, logits.shape)
    return present & where, _any_shard(jnp.any(where, axis=-1), axis_name)


def _true_logit(
    logits: jax.Array, classes: jax.Array, present: jax.Array, axis_name: AxisName | None
) -> tuple[jax.Array, jax.Array]:
    """Return (logit of the true class `[...]`, whether it is a class that exists `[...]`)."""
    if axis_name is not None:
        is_true = _is_class(classes, present)
        logit = _all_shards(jnp.sum(jnp.where(is_true, logits, 0.0), axis=-1), axis_name)
        return logit, _any_shard(jnp.any(is_true, axis=-1), axis_name)
    logit = jnp.take_along_axis(logits, classes[..., None], axis=-1).squeeze(-1)
    return logit, (classes >= 0) & (classes < logits.shape[-1]) & (logit != -jnp.inf)


def _is_class(classes: jax.Array, present: jax.Array) -> jax.Array:
    """Return `[..., C]` bool: the classes `[...]`, if they exist."""
    return (classes[..., None] == jax.lax.broadcasted_iota(jnp.int32, present.shape, present.ndim - 1)) & present


def _maximum(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
    top = jax.lax.stop_gradient(jnp.max(x, axis=-1))
    return top if axis_name is None else jax.lax.pmax(top, axis_name)


def _all_shards(x: jax.Array, axis_name: AxisName | None) -> Any:
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def _any_shard(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
    return x if axis_name is None else jax.lax.psum(x.astype(jnp.int32), axis_name) > 0
