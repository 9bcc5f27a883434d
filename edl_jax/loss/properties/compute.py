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
from edl_jax.loss.quick import quick_options
from edl_jax.loss.threads import Threads

GAPS = (20.0, 50.0, 1e4)
"""Gaps between logits at which gradients are compared with cross-entropy's."""

_LINE_CLASSES = 10
# Logit of the true class along the line on which the others are equal.
_LINE = np.linspace(-50.0, 50.0, 40001)
# Far below it, to see whether the loss is bounded.
_FAR = -np.array([1e3, 1e4, 1e5])
_GAPS_RIGHT = (10.0, 20.0)
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
    sizes = tuple(num_classes)
    only = sizes[0] if len(sizes) == 1 else None

    def risks_of(size: int) -> tuple[risk.Risks, bool]:
        with jax.enable_x64(True):  # of this thread
            return risk.least_risks(loss, size, interchangeable=only is None)

    with Threads() as threads:  # each compiles a program
        risks = dict(zip(sizes, threads.map(risks_of, sizes), strict=True))
        minimum, monotone, bounded = _line(loss, only or _LINE_CLASSES)
        wrong, right = _gradient_ratios(loss, only or 4)
    return Properties(
        minimum=minimum,
        monotone=monotone,
        bounded=bounded,
        gradient_wrong=wrong,
        gradient_right=right,
        symmetric=all(is_symmetric for _, is_symmetric in risks.values()),
        calibrated={size: found.is_calibrated for size, (found, _) in risks.items()},
        proper=all(found.is_proper for found, _ in risks.values()),
    )


def margin_profile(loss: Loss, margins: np.ndarray, num_classes: int = _LINE_CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Return (values, gradient norms) with the true class's logit at `margins` `[M]` and all others at 0, float64."""
    with jax.enable_x64(True):
        logits = np.zeros((len(margins), num_classes))
        logits[:, 0] = margins
        labels = np.zeros(len(margins), np.int32)
        values, gradient = jax.jit(_values_and_gradients(loss))(logits, labels)
    return np.asarray(values), np.linalg.norm(gradient, axis=-1)


def _line(loss: Loss, num_classes: int) -> tuple[tuple[float, float], bool, bool]:
    """Return (p_t lowest and highest of the minimum, monotone, bounded) along the line of equal wrong classes."""
    values, _ = margin_profile(loss, np.append(_LINE, _FAR), num_classes)
    values, far = values[: len(_LINE)], values[len(_LINE) :]
    p = 1.0 / (1.0 + (num_classes - 1) * np.exp(-_LINE))
    # An unbounded loss would make everything near its minimum look flat.
    near = values[np.abs(_LINE) <= 5.0]
    flat = _FLAT * (near.max() - near.min())
    least = p[values <= values.min() + flat]
    # Far out a large value is rounded more coarsely.
    rise = np.diff(values) - 1e-12 * np.abs(values[1:])
    # The logarithm of the gap grows by equal steps, a bounded loss by ever smaller ones.
    first, second = np.abs(np.diff(far))
    bounded = bool(second <= max(0.5 * first, 1e-9 * abs(far[-1])))
    return (float(least[0]), float(least[-1])), bool(np.all(rise <= flat)), bounded


def _gradient_ratios(loss: Loss, num_classes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return norms of the gradient over cross-entropy's, the true class behind the leader and ahead of the others."""
    others = np.array([1.0, 0.25, *([-0.1] * (num_classes - 3))])[: num_classes - 1]
    behind, ahead = np.array([0.0, *others]), np.array([1.0, *(others - 1.0)])
    logits = np.concatenate([np.outer(GAPS, behind), np.outer(_GAPS_RIGHT, ahead)])
    labels = np.zeros(len(logits), np.int32)
    with jax.enable_x64(True):
        program = jax.jit(_values_and_gradients(loss), compiler_options=quick_options())
        _, gradient = program(logits, labels)
    error = np.exp(logits - logits.max(axis=-1, keepdims=True))
    error /= error.sum(axis=-1, keepdims=True)
    # 1 - p_t without cancellation: it is what the wrong classes have.
    error[:, 0] = -error[:, 1:].sum(axis=-1)
    ratios = [float(x) for x in np.linalg.norm(gradient, axis=-1) / np.linalg.norm(error, axis=-1)]
    return tuple(ratios[: len(GAPS)]), tuple(ratios[len(GAPS) :])


def _values_and_gradients(loss: Loss) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    def total(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = loss(logits, labels)
        return jnp.sum(values), values

    def both(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
        gradient, values = jax.grad(total, has_aux=True)(logits, labels)
        return values, gradient

    return both
