"""Several labels at once: every class is a two-class problem of its own."""

import os
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edl_jax.loss.adapters.nll import resolve
from edl_jax.loss.checks import check_class_weights, is_known
from edl_jax.loss.contract import Loss
from edl_jax.loss.targets import wide_dtype


class MultilabelLoss(Protocol):
    """A loss of several labels, one value for each example and class: see `multilabel`."""

    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        where: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
    ) -> jax.Array:
        """Return values `[..., C]`."""


def multilabel(name_or_loss: str | os.PathLike[str] | Loss, **hyper_parameters: Any) -> MultilabelLoss:
    """Return a loss for examples that have any number of the classes at once.

        f = multilabel("edl")
        values = f(logits, labels)  # [..., C]

    Class c of an example is a problem of two classes, absent and present, with the logits 0 and `logits[..., c]`. Its
    value is that of the loss there, so that `cross_entropy` becomes the sigmoid cross-entropy of
    `optax.sigmoid_binary_cross_entropy`. Any loss of the library fits; a learned one has its scale for two classes.

    Args:
      name_or_loss: a name or path that `get` takes, or a loss.
      **hyper_parameters: of a loss given by its name, as in `get`.

    Returns:
      A function of

      * `logits`: `[..., C]` floating point,
      * `labels`: `[..., C]`, 0 or 1 (integers or bool) or the probability that the class is present,
      * `where`: bool, `[..., C]` for the labels that count, such as those that are known, or `[...]` for the examples
        that do; the others give 0, without gradient, whatever their label,
      * `class_weights`: `[C]`, at least 0, factors of the values of each class,

      to values `[..., C]`, not reduced, in the dtype of `logits`. It raises TypeError where logits are not floating
      point, and ValueError where shapes do not fit or, outside a trace, a label is not between 0 and 1 or a weight
      negative.

    Raises:
      UserError: as `get`.
      ValueError: when called: a loss that was learned for another number of classes than two.
    """
    loss = resolve(name_or_loss, **hyper_parameters)

    def values(
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        where: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
    ) -> jax.Array:
        """Return values `[..., C]`: see `multilabel`."""
        counts = _counts(where, np.shape(logits))
        _check_labels(logits, labels, counts)
        z, y = jnp.asarray(logits), jnp.asarray(labels)
        if not jnp.issubdtype(z.dtype, jnp.floating):
            raise TypeError(f"logits have dtype {z.dtype}, expected a floating-point dtype")
        if counts is not None:
            y = jnp.where(counts, y, jnp.zeros((), y.dtype))
        two_labels = y.astype(jnp.int32)
        if jnp.issubdtype(y.dtype, jnp.floating):
            y = y.astype(wide_dtype(y.dtype))
            two_labels = jnp.stack([1.0 - y, y], axis=-1)
        out = loss(jnp.stack([jnp.zeros_like(z), z], axis=-1), two_labels, where=counts)
        if class_weights is None:
            return out
        check_class_weights(class_weights, z.shape[-1])
        of_class = jnp.asarray(class_weights, out.dtype)
        return out * of_class.reshape((1,) * (z.ndim - 1) + (-1,))

    return values


def _counts(where: ArrayLike | None, shape: tuple[int, ...]) -> Any:
    """Return bool of `shape`: the labels that count, or None for all. A mask of NumPy stays one.

    Raises:
      ValueError: the mask does not fit.
    """
    if where is None:
        return None
    mask: Any = where if isinstance(where, jax.Array) else np.asarray(where)
    mask = mask.astype(bool)
    if mask.shape == shape[:-1]:
        mask = mask[..., None]
    if mask.ndim != len(shape) or any(size not in (1, n) for size, n in zip(mask.shape, shape, strict=True)):
        raise ValueError(
            f"where has shape {mask.shape}, expected {shape} (labels) or {shape[:-1]} (examples) for these logits"
        )
    return jnp.broadcast_to(mask, shape) if isinstance(mask, jax.Array) else np.broadcast_to(mask, shape)


def _check_labels(logits: ArrayLike, labels: ArrayLike, counts: Any) -> None:
    """Raise ValueError unless labels have the shape of the logits and, where known, lie between 0 and 1."""
    shape = np.shape(logits)
    if not shape or np.shape(labels) != shape:
        raise ValueError(
            f"labels have shape {np.shape(labels)}, expected {shape}, the shape of the logits: whether each class is "
            "present (jax.nn.one_hot makes such labels of classes)"
        )
    if not is_known(labels) or not (counts is None or is_known(counts)):
        return
    known = np.asarray(labels)
    wrong = ~((known >= 0) & (known <= 1)) & (True if counts is None else np.asarray(counts))
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"the label at {index} is {known[index]}, expected 0, 1 or a probability: correct it, or leave it out "
            "with where="
        )
