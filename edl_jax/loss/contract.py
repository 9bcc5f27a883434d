"""The loss contract, and what every loss does first: axes, masks, labels, log-probabilities."""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.loss.checks import check_class_weights, check_labels


class Loss(Protocol):
    """A loss over logits, one value per example, never reduced.

    Args:
      logits: float `[..., C]` (class dimension at `axis`), float32, bfloat16 or float16.
      labels: integer classes `[...]`, or probabilities `[..., C]` laid out as `logits`.
      axis: the class dimension.
      where: boolean mask. Shaped as `logits` it says which classes exist (a logit of `-inf` says the same);
        shaped as `logits` without `axis` it says which examples count (the others give 0).
      class_weights: `[C]`, at least 0: how often an example of each class counts. Its value is multiplied by the
        weight of its class. Label probabilities y count as `w y`, that is, as the labels `w y / sum(w y)`, `sum(w y)`
        times: for a loss that is affine in y, the weighted sum of the values of the classes (as in PyTorch's
        `cross_entropy`, before any division by the sum of the weights).

    Returns:
      Values `[...]` in the dtype of `logits`; computed in at least float32. NaN where a logit is NaN or an
      integer label is not one of `0 ... C - 1`, unless `where` leaves that class or example out.

    Raises:
      TypeError: logits are not floating point.
      ValueError: labels, `where` or `class_weights` do not fit the shape of the logits. Outside `jax.jit` and other
        traces, where values are known, also: an integer label is no class, label probabilities do not sum to 1, a
        weight is negative.
    """

    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: int = -1,
        where: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
    ) -> jax.Array:
        """Return the values: see the class."""


class Targets(NamedTuple):
    """Inputs in one layout.

    Attributes:
      log_p: `[..., C]` log-probabilities, float32 or wider; exactly `-inf` where a class is absent.
      log_p_t: `[...]` log-probability of the true class of integer labels, or None: `log_p` there, read without it.
      present: `[..., C]` bool, the classes that exist.
      y: `[..., C]` label probabilities, or None when labels are integers.
      classes: `[...]` int32 classes, or None when labels are probabilities.
      counts: `[...]` bool, the examples that count.
      weights: `[...]` how often each example counts, or None when once.
      dtype: dtype of the result.
    """

    log_p: jax.Array
    log_p_t: jax.Array | None
    present: jax.Array
    y: jax.Array | None
    classes: jax.Array | None
    counts: jax.Array
    weights: jax.Array | None
    dtype: jnp.dtype

    @property
    def one_hot(self) -> jax.Array:
        """Return the label probabilities `[..., C]` whichever form the labels have."""
        if self.y is not None:
            return self.y
        assert self.classes is not None
        return jax.nn.one_hot(self.classes, self.log_p.shape[-1], dtype=self.log_p.dtype)

    @property
    def is_true(self) -> jax.Array:
        """Return `[..., C]` bool, the true class of integer labels."""
        assert self.classes is not None
        return self.classes[..., None] == _class_index(self.log_p)

    def with_log_p(self, log_p: jax.Array) -> "Targets":
        """Return the targets with other log-probabilities `[..., C]`."""
        return self._replace(log_p=log_p, log_p_t=None)

    def finish(self, values: jax.Array) -> jax.Array:
        """Return `values` `[...]` weighted, with the examples that do not count as 0, in the result's dtype."""
        if self.weights is not None:
            values = self.weights * values
        if self.classes is not None:  # no class: say so, as neither a clipped nor a wrapped index would
            known = (self.classes >= 0) & (self.classes < self.log_p.shape[-1])
            values = jnp.where(known, values, jnp.nan)
        return jnp.where(self.counts, values, 0.0).astype(self.dtype)


def targets(
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
    class_weights: ArrayLike | None = None,
) -> Targets:
    """Bring the arguments of a loss into one layout: class dimension last, absent classes at `-inf`.

    Raises:
      TypeError, ValueError: as `Loss` says.
    """
    check_labels(logits, labels, axis, where)
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits have dtype {logits.dtype}, expected a floating-point dtype")
    dtype = logits.dtype
    logits = jnp.moveaxis(logits, axis, -1).astype(jnp.promote_types(dtype, jnp.float32))
    batch = logits.shape[:-1]
    soft = labels.ndim == logits.ndim
    if soft:
        labels = jnp.moveaxis(labels, axis, -1)
    if labels.shape != (logits.shape if soft else batch):
        raise ValueError(
            f"labels have shape {labels.shape}, expected {batch} (classes) or {logits.shape} "
            "(probabilities) for these logits (class dimension last)"
        )
    if not soft and not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels without a class dimension have dtype {labels.dtype}, expected integers")
    present, counts = _masks(logits, where, axis)
    if where is not None:
        # An example without classes would make log_softmax return NaN: give it harmless logits.
        logits = jnp.where(present & counts[..., None], logits, jnp.where(counts[..., None], -jnp.inf, 0.0))
    # log_softmax in its parts: a loss of p_t alone then never computes the other classes.
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    shifted = logits - top
    log_total = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))
    y = labels.astype(logits.dtype) if soft else None
    classes = None if soft else labels.astype(jnp.int32)
    weights = None
    if class_weights is not None:
        check_class_weights(class_weights, logits.shape[-1])
        of_class = jnp.asarray(class_weights, logits.dtype)
        if classes is not None:
            weights = jnp.take(of_class, classes, mode="clip")
        else:
            assert y is not None
            y = y * of_class.reshape((1,) * len(batch) + (-1,))
            weights = jnp.sum(y, axis=-1)
            y = y / jnp.where(weights > 0.0, weights, 1.0)[..., None]
    log_p_t = None
    if classes is not None:
        of_true = jnp.take_along_axis(logits, classes[..., None], axis=-1) - top
        log_p_t = of_true.squeeze(-1) - log_total
    return Targets(
        log_p=shifted - log_total[..., None],
        log_p_t=log_p_t,
        present=present,
        y=y,
        classes=classes,
        counts=counts,
        weights=weights,
        dtype=dtype,
    )


def _masks(logits: jax.Array, where: ArrayLike | None, axis: int) -> tuple[jax.Array, jax.Array]:
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
    return present & where, jnp.any(where, axis=-1)


def _class_index(x: jax.Array) -> jax.Array:
    """Return `[..., C]` int32: the index of each class."""
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)
