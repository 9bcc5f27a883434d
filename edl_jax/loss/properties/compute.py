"""Properties of a loss, computed from the loss itself in float64: where it is least, how it grows, what it is good for.

Numerical statements over a grid: a property that is reported absent was refuted by an example; one that is reported
present held at every point tried.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.contract import Loss
from edl_jax.loss.properties import risk
from edl_jax.loss.zoo.classic import cross_entropy

GAPS = (20.0, 50.0, 1e4)
"""Gaps between logits at which gradients are compared with cross-entropy's."""

_LINE_CLASSES = 10
# Logit of the true class along the line on which the others are equal.
_LINE = np.linspace(-50.0, 50.0, 40001)
_FLAT = 1e-13  # of the range near the middle of the line: values closer than that are equal


@dataclasses.dataclass(frozen=True)
class Properties:
    """What a loss does.

    Attributes:
      minimum: the p_t, lowest and highest, between which the loss is least, with the wrong classes equal and C = 10.
      monotone: along that line the loss nowhere rises with p_t.
      bounded: it stays finite as p_t -> 0.
      gradient_wrong: norm of the gradient over cross-entropy's, at each of `GAPS` with the true class last (p_t -> 0).
      gradient_right: the same at gaps 10 and 20 with the true class first (p_t -> 1).
      symmetric: the values of the C labels of a prediction sum to a constant (Ghosh et al., 2017), so that uniform
        label noise moves no minimum.
      calibrated: for each number of classes, whether the least risk of a prediction with a wrong class on top lies
        above the least risk of all (classification calibration: Bartlett et al., 2006; Tewari and Bartlett, 2007).
      proper: the risk is least where softmax(logits) is the label distribution (Gneiting and Raftery, 2007).
    """

    minimum: tuple[float, float]
    monotone: bool
    bounded: bool
    gradient_wrong: tuple[float, ...]
    gradient_right: tuple[float, ...]
    symmetric: bool
    calibrated: dict[int, bool]
    proper: bool


def properties(loss: Loss, num_classes: Sequence[int] = (2, 3, 10)) -> Properties:
    """Compute the properties of `loss`.

    Args:
      loss: any function that keeps the contract of `Loss`.
      num_classes: numbers of classes for symmetry, calibration and properness. The line and the gradients use 10
        and 4, or the only number given.

    Raises:
      ValueError: the loss takes no logits of these sizes.
    """
    with jax.enable_x64(True):
        sizes = tuple(num_classes)
        only = sizes[0] if len(sizes) == 1 else None
        minimum, monotone = _line(loss, only or _LINE_CLASSES)
        risks = {size: risk.least_risks(loss, size) for size in sizes}
        return Properties(
            minimum=minimum,
            monotone=monotone,
            bounded=_is_bounded(loss, only or _LINE_CLASSES),
            gradient_wrong=_gradient_ratios(loss, GAPS, only or 4, wrong=True),
            gradient_right=_gradient_ratios(loss, (10.0, 20.0), only or 4, wrong=False),
            symmetric=all(_is_symmetric(loss, size) for size in sizes),
            calibrated={size: found.is_calibrated for size, found in risks.items()},
            proper=all(found.is_proper for found in risks.values()),
        )


def margin_profile(loss: Loss, margins: np.ndarray, num_classes: int = _LINE_CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Return (values, gradient norms) with the true class's logit at `margins` `[M]` and all others at 0, float64."""
    with jax.enable_x64(True):
        logits = np.zeros((len(margins), num_classes))
        logits[:, 0] = margins
        labels = np.zeros(len(margins), np.int32)
        values, gradient = jax.jit(_values_and_gradients(loss))(logits, labels)
    return np.asarray(values), np.linalg.norm(gradient, axis=-1)


def _line(loss: Loss, num_classes: int) -> tuple[tuple[float, float], bool]:
    values, _ = margin_profile(loss, _LINE, num_classes)
    p = 1.0 / (1.0 + (num_classes - 1) * np.exp(-_LINE))
    # An unbounded loss would make everything near its minimum look flat.
    near = values[np.abs(_LINE) <= 5.0]
    flat = _FLAT * (near.max() - near.min())
    least = p[values <= values.min() + flat]
    # Far out a large value is rounded more coarsely.
    rise = np.diff(values) - 1e-12 * np.abs(values[1:])
    return (float(least[0]), float(least[-1])), bool(np.all(rise <= flat))


def _is_bounded(loss: Loss, num_classes: int) -> bool:
    values, _ = margin_profile(loss, -np.array([1e3, 1e4, 1e5]), num_classes)
    first, second = np.abs(np.diff(values))
    # The logarithm of the gap grows by equal steps, a bounded loss by ever smaller ones.
    return bool(second <= max(0.5 * first, 1e-9 * abs(values[-1])))


def _gradient_ratios(loss: Loss, gaps: Sequence[float], num_classes: int, wrong: bool) -> tuple[float, ...]:
    """Return norms of the gradient over cross-entropy's, one true class a gap ahead of or behind the leader."""
    others = np.array([1.0, 0.25, *([-0.1] * (num_classes - 3))])[: num_classes - 1]
    leader = np.array([0.0, *others]) if wrong else np.array([1.0, *(others - 1.0)])
    logits, labels = np.outer(gaps, leader), np.zeros(len(gaps), np.int32)
    norms = [
        np.linalg.norm(jax.jit(_values_and_gradients(function))(logits, labels)[1], axis=-1)
        for function in (loss, cross_entropy)
    ]
    return tuple(float(ratio) for ratio in norms[0] / norms[1])


def _is_symmetric(loss: Loss, num_classes: int) -> bool:
    logits = 3.0 * np.random.default_rng(0).standard_normal((64, num_classes))
    total = np.asarray(jax.jit(risk.of_every_label(loss))(logits)).sum(axis=-1)
    return bool(np.ptp(total) <= 1e-6 * np.abs(total).max())


def _values_and_gradients(loss: Loss) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    def total(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = loss(logits, labels)
        return jnp.sum(values), values

    def both(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient, values = jax.grad(total, has_aux=True)(logits, labels)
        return values, gradient

    return both
