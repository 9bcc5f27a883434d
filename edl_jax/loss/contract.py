"""The loss contract: what every loss takes and returns, and the decorator that makes a loss of its mathematics."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
from jax.typing import ArrayLike

from edl_jax.loss.targets import AxisName, Targets, targets

__all__ = ["AxisName", "FromTargets", "Loss", "Targets", "evaluate", "from_targets", "targets"]


class Loss(Protocol):
    """A loss over logits, one value per example, never reduced.

    Args:
      logits: float `[..., C]` (class dimension at `axis`), of 16 or 32 bits, or of 64 where `jax_enable_x64` is on;
        at least two classes.
      labels: integer classes `[...]`, or probabilities `[..., C]` laid out as `logits`.
      axis: the class dimension.
      where: boolean mask. Shaped as `logits` it says which classes exist (a logit of `-inf` says the same);
        shaped as `logits` without `axis` it says which examples count (the others give 0).
      class_weights: `[C]`, at least 0: how often an example of each class counts. Its value is multiplied by the
        weight of its class. Label probabilities y count as `w y`, that is, as the labels `w y / sum(w y)`, `sum(w y)`
        times: for a loss that is affine in y, the weighted sum of the values of the classes (as in PyTorch's
        `cross_entropy`, before any division by the sum of the weights).
      ignore_label: the integer label, such as -1, 255 or -100, of examples that do not count: value 0, no gradient.
      smoothing: s in `[0, 1)`: the labels become `(1 - s) y + s / C`, C the number of classes that exist, before class
        weights. Integer labels become probabilities by it, and probabilities are mixed in the same way. Unlike
        `label_smoothing`, it is the label that changes, whatever the loss makes of it.
      axis_name: in `jax.shard_map`, the mesh axis over which the classes are sharded: `logits`, and whatever else has
        a class dimension, are this device's shard, and integer labels count all classes. Only for losses for which
        `is_function_of_p_t` holds; values are the same on every device of the axis.

    Returns:
      Values `[...]` in the dtype of `logits`; computed in at least float32. NaN where a logit is NaN. NaN, without
      gradient, where an integer label is no class that exists: not one of `0 ... C - 1`, or masked.

    Raises:
      TypeError: logits are not floating point, or `ignore_label` is no integer.
      ValueError: there are fewer than two classes; labels, `where` or `class_weights` do not fit the shape of the
        logits; `ignore_label` beside label probabilities; `axis_name` and a loss that sees more than p_t. Outside
        `jax.jit` and other traces, where values are known, also: an integer label is no class or one that `where`
        masks, label probabilities do not sum to 1, a weight is negative, smoothing lies outside `[0, 1)`.
    """

    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: int = -1,
        where: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_label: int | None = None,
        smoothing: ArrayLike = 0.0,
        axis_name: AxisName | None = None,
    ) -> jax.Array:
        """Return the values: see the class."""


class FromTargets(Protocol):
    """A loss that `from_targets` made; its hyper-parameters are keywords beside those of `Loss`.

    Attributes:
      of_p_t: whether the value for an integer label is a function of p_t alone.
      of_targets: the mathematics, `[...]` values from `Targets` and hyper-parameters.
      hyper_parameters: name -> default.
    """

    __name__: str
    of_p_t: bool
    of_targets: Callable[..., jax.Array]
    hyper_parameters: dict[str, Any]

    def __call__(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: int = -1,
        where: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_label: int | None = None,
        smoothing: ArrayLike = 0.0,
        axis_name: AxisName | None = None,
        **hyper_parameters: Any,
    ) -> jax.Array:
        """Return the values: see `Loss`."""


def from_targets(*, of_p_t: bool) -> Callable[[Callable[..., jax.Array]], FromTargets]:
    """Return the decorator that makes a loss of its mathematics.

        @from_targets(of_p_t=True)
        def focal(t: Targets, *, gamma: float = 2.0) -> jax.Array: ...

        focal(logits, labels, gamma=1.0, where=mask)

    The function gets the arguments of `Loss` in one layout and returns values `[...]` before weights and masks; it
    becomes a loss whose signature, docstring and annotations have the arguments of `Loss` beside its own.

    Args:
      of_p_t: whether the value for an integer label is a function of p_t alone, whatever the other classes share and
        however many there are. Such a loss works on class-parallel logits.
    """

    def decorate(of_targets: Callable[..., jax.Array]) -> FromTargets:
        name = of_targets.__name__

        @functools.wraps(of_targets)
        def loss(
            logits: ArrayLike,
            labels: ArrayLike,
            *,
            axis: int = -1,
            where: ArrayLike | None = None,
            class_weights: ArrayLike | None = None,
            ignore_label: int | None = None,
            smoothing: ArrayLike = 0.0,
            axis_name: AxisName | None = None,
            **hyper_parameters: Any,
        ) -> jax.Array:
            values = functools.partial(of_targets, **hyper_parameters)
            masks = (where, class_weights, ignore_label, smoothing)
            return evaluate(values, name, of_p_t, logits, labels, axis, *masks, axis_name)

        own = list(inspect.signature(of_targets).parameters.values())[1:]
        common = list(inspect.signature(Loss.__call__).parameters.values())[1:]
        described = cast(Any, loss)
        described.__signature__ = inspect.Signature([*common[:2], *own, *common[2:]], return_annotation=jax.Array)
        described.__annotations__ = {p.name: p.annotation for p in (*common[:2], *own, *common[2:])} | {
            "return": jax.Array
        }
        described.__doc__ = _documented(inspect.getdoc(of_targets) or "")
        described.of_p_t = of_p_t
        described.of_targets = of_targets
        described.hyper_parameters = {p.name: p.default for p in own}
        return cast(FromTargets, loss)

    return decorate


def evaluate(
    values: Callable[[Targets], jax.Array],
    name: str,
    of_p_t: bool,
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
    class_weights: ArrayLike | None = None,
    ignore_label: int | None = None,
    smoothing: ArrayLike = 0.0,
    axis_name: AxisName | None = None,
) -> jax.Array:
    """Return the values of the loss `name` whose values before weights and masks are those of `values`.

    Raises:
      TypeError, ValueError: as `Loss` says.
    """
    check_class_parallel(name, of_p_t, axis_name)
    t = targets(logits, labels, axis, where, class_weights, ignore_label, smoothing, axis_name)
    return t.finish(values(t))


def check_class_parallel(name: str, of_p_t: bool, axis_name: AxisName | None) -> None:
    """Raise ValueError when the classes of a loss that sees more than p_t are sharded."""
    if axis_name is not None and not of_p_t:
        raise ValueError(
            f"axis_name is {axis_name!r}, expected None: {name} sees more than p_t, so that its classes cannot be "
            "sharded; gather the logits first"
        )


_SECTION = re.compile(r"^(Args|Raises|Returns|References):$", re.MULTILINE)


def _documented(doc: str) -> str:
    """Return a docstring that says, before its sections, where the arguments of every loss are described."""
    section = _SECTION.search(doc)
    place = section.start() if section else len(doc)
    parts = (doc[:place].rstrip(), "See `Loss` for the other arguments, shapes, dtypes and errors.", doc[place:])
    return "\n\n".join(part for part in parts if part)
