"""A loss of the zoo with its hyper-parameters, as a value."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import UserError, closest
from edl_jax.loss.contract import Targets
from edl_jax.loss.function import LossFunction
from edl_jax.loss.zoo.catalogue import ZOO


@dataclasses.dataclass(frozen=True, eq=False)
class Bound:
    """A name of the zoo with all its hyper-parameters: the rule of a `LossFunction`.

    Attributes:
      name: the name.
      items: (name, value) of every hyper-parameter, in the order of the signature. Scalars are Python numbers and
        larger arrays NumPy's, compared by their bytes; a traced value is compared by identity and has no hash.
    """

    name: str
    items: tuple[tuple[str, Any], ...]

    is_one_program = False

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Return the hyper-parameters, name -> value."""
        return dict(self.items)

    @property
    def of_p_t(self) -> bool:
        """Return whether the value for an integer label is a function of p_t alone."""
        return ZOO[self.name].of_p_t

    def values(self, t: Targets) -> jax.Array:
        """Return the values `[...]` before weights and masks."""
        return ZOO[self.name].function.of_targets(t, **dict(self.items))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bound):
            return NotImplemented
        return self.name == other.name and self._content() == other._content()

    def __hash__(self) -> int:
        for parameter, value in self.items:
            if isinstance(value, jax.core.Tracer):
                raise TypeError(
                    f"loss {self.name} has a traced {parameter} and no hash: make the loss inside the traced function, "
                    f"or pass {parameter} as a number"
                )
        return hash((self.name, self._content()))

    def _content(self) -> tuple[Any, ...]:
        """Return the hyper-parameters as something that `==` and `hash` understand."""
        return tuple(_comparable(value) for _, value in self.items)


def hyper_parameters_of(name: str) -> dict[str, Any]:
    """Return the hyper-parameters of a loss of the zoo, name -> default."""
    return dict(ZOO[name].function.hyper_parameters)


def num_classes_of(name: str, hyper_parameters: Mapping[str, Any]) -> int | None:
    """Return the only number of classes that a loss of the zoo is for, with these hyper-parameters; None for any."""
    counts = hyper_parameters.get("class_counts")
    if counts is not None:
        return max(np.size(counts), 2)  # what is no vector of two or more is refused by the loss, with any number
    return ZOO[name].num_classes


def bound(name: str, **hyper_parameters: Any) -> LossFunction:
    """Return the loss of a name of the zoo with hyper-parameters.

    Raises:
      UserError: an unknown hyper-parameter (closest listed), or a value that it cannot take.
    """
    defaults = hyper_parameters_of(name)
    for parameter in hyper_parameters:
        if parameter not in defaults:
            hint = closest(parameter, list(defaults)) if defaults else "it has none"
            raise UserError(f"unknown hyper-parameter {parameter!r} of loss {name}: {hint}")
    chosen = defaults | {parameter: _frozen(value) for parameter, value in hyper_parameters.items()}
    loss = LossFunction(Bound(name, tuple(chosen.items())), name, ZOO[name].formula, ZOO[name].source)
    if hyper_parameters:
        # A loss checks its hyper-parameters when it is traced: trace it here, where the bad value is.
        logits = jax.ShapeDtypeStruct((num_classes_of(name, hyper_parameters) or 2,), jnp.float32)
        jax.eval_shape(loss, logits, jax.ShapeDtypeStruct((), jnp.int32))
    return loss


def _frozen(value: Any) -> Any:
    """Return a hyper-parameter without lists, arrays of JAX, or arrays that can be written to."""
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, jax.core.Tracer) or not isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return value
    array = np.array(value)
    array.setflags(write=False)
    return array if array.ndim else array.item()


def _comparable(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, tuple):
        return tuple(_comparable(item) for item in value)
    return _Identity(value) if isinstance(value, jax.core.Tracer) else value


class _Identity:
    """A traced value, whose own `==` would be traced too."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)
