"""A loss of the zoo with its hyper-parameters."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import UserError, closest
from edl_jax.loss.contract import Loss
from edl_jax.loss.zoo.catalogue import ZOO

_CONTRACT = ("axis", "where", "class_weights")


def hyper_parameters_of(name: str) -> dict[str, Any]:
    """Return the hyper-parameters of a loss of the zoo, name -> default."""
    signature = inspect.signature(ZOO[name].function).parameters.values()
    return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY and p.name not in _CONTRACT}


def num_classes_of(name: str, hyper_parameters: Mapping[str, Any]) -> int | None:
    """Return the only number of classes that a loss of the zoo is for, with these hyper-parameters; None for any."""
    counts = hyper_parameters.get("class_counts")
    if counts is not None:
        return max(np.size(counts), 1)
    return ZOO[name].num_classes


def bound(name: str, **hyper_parameters: Any) -> Loss:
    """Return the loss of a name of the zoo with hyper-parameters.

    Raises:
      UserError: an unknown hyper-parameter (closest listed), or a value that it cannot take.
    """
    function, known = ZOO[name].function, list(hyper_parameters_of(name))
    for parameter in hyper_parameters:
        if parameter not in known:
            hint = closest(parameter, known) if known else "it has none"
            raise UserError(f"unknown hyper-parameter {parameter!r} of loss {name}: {hint}")
    if not hyper_parameters:
        return cast(Loss, function)
    chosen = functools.partial(function, **hyper_parameters)
    # A loss checks its hyper-parameters when it is traced: trace it here, where the bad value is.
    logits = jax.ShapeDtypeStruct((num_classes_of(name, hyper_parameters) or 2,), jnp.float32)
    jax.eval_shape(chosen, logits, jax.ShapeDtypeStruct((), jnp.int32))
    return cast(Loss, chosen)
