"""A loss as a value: equal where its content is equal, hashable, picklable, and able to say what it is."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.loss.checks import check_ignore_label, check_smoothing, check_values
from edl_jax.loss.contract import AxisName, Loss, Targets, check_class_parallel, evaluate, targets


class Rule(Protocol):
    """What a loss computes, as a value: compared and hashed by content, picklable, without arrays of JAX."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Return the hyper-parameters, name -> value."""

    @property
    def of_p_t(self) -> bool:
        """Return whether the value for an integer label is a function of p_t alone, the other classes aside."""

    @property
    def is_one_program(self) -> bool:
        """Return whether it is jitted as a whole where it is called outside jit."""

    def values(self, t: Targets) -> jax.Array:
        """Return the values `[...]` before weights and masks."""

    def __hash__(self) -> int:
        """Return the hash of the content."""


@dataclasses.dataclass(frozen=True, repr=False)
class LossFunction:
    """A loss as `get`, `load`, `expression_loss` and `learned_loss` give it: call it as `Loss` says.

    Two of them are equal where they compute the same from the same content: the name and hyper-parameters, the
    expression, or the network with its parameters and calibration; where it comes from does not count. So it can be a
    static argument of `jax.jit`, the key of a dictionary and a field of a config, and goes to other processes.

    Attributes:
      rule: what it computes.
      name: what `get` or `load` took, or the kind of loss.
      formula: value for integer labels; p = softmax(logits), t the true class, C the number of classes.
      source: where it comes from.
    """

    rule: Rule
    name: str = dataclasses.field(compare=False)
    formula: str = dataclasses.field(compare=False)
    source: str = dataclasses.field(compare=False)

    def __post_init__(self) -> None:
        parameters = ", ".join(f"{name} = {value}" for name, value in self.parameters.items()) or "none"
        doc = (
            f"Loss {self.name}.\n\nformula: {self.formula}\nparameters: {parameters}\nsource: {self.source}\n\n"
            "Call it with logits and labels: see `edl_jax.loss.Loss` for arguments, shapes, dtypes and errors."
        )
        # A path may have bytes that are no text, which the name of a program may not.
        object.__setattr__(self, "__name__", self.name.encode("utf-8", "backslashreplace").decode())
        object.__setattr__(self, "__doc__", doc)  # what help() shows of an instance

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Return the hyper-parameters, name -> value."""
        return self.rule.parameters

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
        """Return one value per example: see `Loss`."""
        function = _whole if self.rule.is_one_program else _plain
        masks = (where, class_weights, ignore_label, smoothing)
        return function(self.rule, self.name, logits, labels, axis, *masks, axis_name)

    def __repr__(self) -> str:
        """Return name, hyper-parameters, formula and source in one line."""
        parameters = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        name = f"{self.name}({parameters})" if parameters else self.name
        return f"<loss {name}: {self.formula}; {self.source}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how to make it again: its fields alone."""
        return type(self), (self.rule, self.name, self.formula, self.source)


def is_function_of_p_t(loss: Loss | Callable[..., jax.Array]) -> bool:
    """Say whether the value of a loss for an integer label is a function of p_t alone, however the rest is shared.

    True for such losses of the zoo (`focal`, not `brier`) and for learned ones whose network sees p_t alone, whose
    calibration also depends on C. False for any other function, as nobody can know.
    """
    rule = loss.rule if isinstance(loss, LossFunction) else loss
    return bool(getattr(rule, "of_p_t", False))


def _plain(rule: Rule, name: str, logits: ArrayLike, labels: ArrayLike, *arguments: Any) -> jax.Array:
    """Return the values of a rule for the arguments of `Loss` in their order."""
    return evaluate(rule.values, name, rule.of_p_t, logits, labels, *arguments)


def _whole(
    rule: Rule,
    name: str,
    logits: ArrayLike,
    labels: ArrayLike,
    axis: int,
    where: ArrayLike | None,
    class_weights: ArrayLike | None,
    ignore_label: int | None,
    smoothing: ArrayLike,
    axis_name: AxisName | None,
) -> jax.Array:
    """Return what `_plain` does, by one program and not by a hundred; inside a trace it is inlined."""
    check_class_parallel(name, rule.of_p_t, axis_name)
    ignore_label = check_ignore_label(ignore_label)
    check_smoothing(smoothing)
    if axis_name is None:
        check_values(logits, labels, axis, where, class_weights, ignore_label)
    mixed = isinstance(smoothing, jax.Array) or smoothing != 0.0
    # A list would be a tree of scalars to jit.
    optional = (None if x is None else jnp.asarray(x) for x in (where, class_weights, smoothing if mixed else None))
    return _program(rule)(jnp.asarray(logits), jnp.asarray(labels), *optional, axis, ignore_label, axis_name)


@functools.lru_cache(maxsize=256)
def _program(rule: Rule) -> Callable[..., jax.Array]:
    """Return the jitted program of a rule, the same for equal rules."""

    @functools.partial(jax.jit, static_argnames=("axis", "ignore_label", "axis_name"))
    def loss(
        logits: jax.Array,
        labels: jax.Array,
        where: jax.Array | None,
        class_weights: jax.Array | None,
        smoothing: jax.Array | None,
        axis: int,
        ignore_label: int | None,
        axis_name: AxisName | None,
    ) -> jax.Array:
        masks = (where, class_weights, ignore_label, 0.0 if smoothing is None else smoothing)
        t = targets(logits, labels, axis, *masks, axis_name)
        return t.finish(rule.values(t))

    return loss
