"""Checks of the values of labels and weights. Only outside a trace: traced values are not known yet."""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_known(x: Any) -> bool:
    """Return whether the values of `x` can be read here: not traced, not on another host."""
    if isinstance(x, jax.core.Tracer):
        return False
    return not isinstance(x, jax.Array) or x.is_fully_addressable


def check_values(logits: Any, labels: Any, axis: int, where: Any, class_weights: Any, ignore_label: int | None) -> None:
    """Raise ValueError, as `Loss` says, for values that a program jitted as a whole could no longer see."""
    check_labels(logits, labels, axis, where, ignore_label)
    if class_weights is not None and _has_axis(logits, axis):
        check_class_weights(class_weights, np.shape(logits)[axis])


def check_ignore_label(ignore_label: Any) -> int | None:
    """Return the label as a Python integer, or None.

    Raises:
      TypeError: it is no integer.
    """
    if ignore_label is None:
        return None
    try:
        return operator.index(ignore_label)
    except TypeError as error:
        raise TypeError(f"ignore_label is {ignore_label!r}, expected None or a Python integer such as -1") from error


def check_smoothing(smoothing: Any) -> None:
    """Raise ValueError unless smoothing is a number in [0, 1), where it is known."""
    if is_known(smoothing) and not (np.shape(smoothing) == () and 0.0 <= np.asarray(smoothing, np.float64) < 1.0):
        raise ValueError(f"smoothing is {smoothing}, expected a number in [0, 1)")


def check_labels(logits: Any, labels: Any, axis: int, where: Any, ignore_label: int | None = None) -> None:
    """Raise ValueError when labels are no classes of `logits` that exist, or no probabilities.

    Labels of the wrong shape or dtype and an `axis` that is none pass: `targets` names those. So do the examples that
    `where` or `ignore_label` leaves out.
    """
    if not is_known(labels) or not (where is None or is_known(where)):
        return
    if not _has_axis(logits, axis):
        return
    shape = list(np.shape(logits))
    num_classes = shape.pop(axis)
    labels = np.asarray(labels)
    soft = labels.ndim == len(shape) + 1
    if soft:
        labels = np.moveaxis(labels, axis, -1)
    elif not jnp.issubdtype(labels.dtype, np.integer):
        return
    if labels.shape != (*shape, num_classes) if soft else labels.shape != tuple(shape):
        return
    counts = _counts(where, tuple(shape), axis)
    if soft:
        _check_probabilities(labels, counts)
    else:
        counts = counts if ignore_label is None else counts & (labels != ignore_label)
        _check_classes(labels, counts, num_classes)
        _check_present(labels, counts, where, axis)


def check_class_weights(weights: Any, num_classes: int) -> None:
    """Raise ValueError unless class weights have shape `[num_classes]` and, where known, are finite and >= 0."""
    if np.shape(weights) != (num_classes,):
        raise ValueError(f"class_weights have shape {np.shape(weights)}, expected ({num_classes},): one for each class")
    if not is_known(weights):
        return
    values = np.asarray(weights, np.float64)
    wrong = ~(np.isfinite(values) & (values >= 0.0))
    if wrong.any():
        index = _first(wrong)[0]
        raise ValueError(
            f"the class weight of class {index} is {values[index]}, expected a finite number of at least 0"
        )


def _check_classes(labels: np.ndarray, counts: np.ndarray, num_classes: int) -> None:
    wrong = counts & ((labels < 0) | (labels >= num_classes))
    if wrong.any():
        index = _first(wrong)
        raise ValueError(
            f"the label at {index} is {labels[index]}, expected 0 to {num_classes - 1} for logits with {num_classes} "
            "classes: correct it, or leave the example out with where= or ignore_label="
        )


def _check_present(labels: np.ndarray, counts: np.ndarray, where: Any, axis: int) -> None:
    """Raise ValueError when a class mask leaves out the class of an integer label that counts."""
    if where is None or np.ndim(where) != labels.ndim + 1:
        return
    mask = np.moveaxis(np.asarray(where, bool), axis, -1)
    if any(size not in (1, n) for size, n in zip(mask.shape[:-1], labels.shape, strict=True)):
        return
    mask = np.broadcast_to(mask, (*labels.shape, mask.shape[-1]))
    # A mask of one column is one of examples.
    column = np.clip(labels.astype(np.int64), 0, mask.shape[-1] - 1)
    wrong = counts & ~np.take_along_axis(mask, column[..., None], axis=-1)[..., 0]
    if wrong.any():
        index = _first(wrong)
        raise ValueError(
            f"the label at {index} is {labels[index]}, a class that where= masks there, expected one that exists: "
            "unmask the class, or leave the example out"
        )


def _check_probabilities(labels: np.ndarray, counts: np.ndarray) -> None:
    # Rounding of each entry, relative to it, adds up to half an epsilon of the sum; averages of rounded labels to more.
    tolerance = (
        max(1e-3, 4.0 * float(jnp.finfo(labels.dtype).eps)) if jnp.issubdtype(labels.dtype, np.floating) else 0.0
    )
    wide = labels.astype(np.float64)
    total = wide.sum(axis=-1)
    wrong = counts & ~(np.abs(total - 1.0) <= tolerance)
    if wrong.any():
        index = _first(wrong)
        raise ValueError(
            f"the label probabilities at {index} sum to {total[index]:.6g}, expected 1: normalise them, "
            "or leave the example out with where="
        )
    wrong = counts & (wide.min(axis=-1, initial=0.0) < -tolerance)
    if wrong.any():
        index = _first(wrong)
        raise ValueError(f"a label probability at {index} is {wide[index].min():.6g}, expected at least 0")


def _counts(where: Any, batch: tuple[int, ...], axis: int) -> np.ndarray:
    """Return `batch` bool: the examples that count. A mask that does not fit is named by `targets`."""
    if where is None:
        return np.ones(batch, bool)
    mask: Any = np.asarray(where, bool)
    if mask.shape != batch and mask.ndim == len(batch) + 1:
        mask = np.any(np.moveaxis(mask, axis, -1), axis=-1)
    try:
        return np.broadcast_to(mask, batch)
    except ValueError:
        return np.zeros(batch, bool)


def _has_axis(logits: Any, axis: int) -> bool:
    return -np.ndim(logits) <= axis < np.ndim(logits)


def _first(wrong: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(wrong)[0])
