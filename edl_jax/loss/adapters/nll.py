"""Losses of the true class's probability alone, as functions of the negative log-likelihood.

    l(z, t) = T(nll),     nll = -ln p_t

Whoever has the cross-entropy of each example, however it was computed, has such a loss for one scalar function more.
"""

import functools
import operator
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from edl_jax.core.errors import UserError, require
from edl_jax.loss.artifacts.learned import Artifact
from edl_jax.loss.checks import is_known
from edl_jax.loss.contract import Loss
from edl_jax.loss.function import LossFunction, is_function_of_p_t
from edl_jax.loss.registry import get, names
from edl_jax.loss.targets import wide_dtype

Transform = Callable[[jax.Array, float | None], jax.Array]
# Where ln(1 - p_t) would be -inf: what is below counts as this, which no value shows.
_LEAST = 1e-12
# A logarithm of a sum less a logit of size 1e4 is as wrong as this in float32.
_ROUNDING = 1e-3


def of_nll(
    name_or_loss: str | os.PathLike[str] | Loss, *, num_classes: int | None = None, **hyper_parameters: Any
) -> Callable[[ArrayLike], jax.Array]:
    """Return a loss as a function of the cross-entropy of each example.

        edl = of_nll("edl")
        values = edl(nll)  # nll[i] = -ln p of the true class of example i

    The values are those of the loss on the logits that `nll` came from, and so are the gradients, whatever computed
    `nll`: a fused kernel, a sharded softmax, another framework's loss. It has to return a value for each example and
    to accept a cotangent for each. Only losses of the true class's probability alone are such functions. There are no
    soft labels here: `nll` belongs to one true class, and the cross-entropy of a soft label is no `nll`.

    Args:
      name_or_loss: a name or path that `get` takes, or a loss.
      num_classes: C, at least 2. A loss whose scale depends on C needs it; others ignore it.
      **hyper_parameters: of a loss given by its name, as in `get`.

    Returns:
      A function of `nll` `[...]`, floating point, to values `[...]` in its dtype, computed in at least float32. It
      raises TypeError for another dtype and, where values are known (outside a trace), ValueError for an `nll` below
      -0.001; in a trace that gives NaN. What is just below 0 is the rounding of 0, and counts as 0.

    Raises:
      UserError: the loss is not known to be a function of p_t alone (the message lists those that are), or needs
        `num_classes`; a name or hyper-parameter that `get` does not take.
    """
    loss, transform = transform_of(name_or_loss, "the logits", **hyper_parameters)
    if num_classes is None:
        artifact = _artifact_of(loss)
        require(
            artifact is None or len(artifact.calibration.num_classes) < 2,
            f"the scale of loss {_name(name_or_loss)} depends on the number of classes: pass num_classes=",
        )
    else:
        require(
            isinstance(num_classes, (int, np.integer)) and num_classes >= 2,
            f"num_classes is {num_classes!r}, expected an integer of at least 2",
        )

    def values(nll: ArrayLike) -> jax.Array:
        """Return the values `[...]` for cross-entropies `[...]`: see `of_nll`."""
        _check_nll(nll)
        nll = jnp.asarray(nll)
        if not jnp.issubdtype(nll.dtype, jnp.floating):
            raise TypeError(f"nll has dtype {nll.dtype}, expected a floating-point dtype")
        wide = nll.astype(wide_dtype(nll.dtype))
        return jnp.where(wide < -_ROUNDING, jnp.nan, transform(wide, num_classes)).astype(nll.dtype)

    return values


def nll_function(loss: Loss) -> Transform | None:
    """Return T(nll `[...]`, C) -> values `[...]`, or None for a loss that is not known to be a function of p_t alone.

    `nll` is float32 or wider; C matters to learned losses alone.
    """
    if not is_function_of_p_t(loss):
        return None
    artifact = _artifact_of(loss)
    return functools.partial(_on_two_classes, loss) if artifact is None else functools.partial(_learned, artifact)


def transform_of(
    name_or_loss: str | os.PathLike[str] | Loss, instead: str, **hyper_parameters: Any
) -> tuple[Loss, Transform]:
    """Return a loss, as `resolve`, and its T, as `nll_function`.

    Raises:
      UserError: there is no T; the message says to call it on `instead`.
    """
    loss = resolve(name_or_loss, **hyper_parameters)
    transform = nll_function(loss)
    if transform is None:
        known = [name for name in names() if nll_function(get(name)) is not None]
        raise UserError(
            f"loss {_name(name_or_loss)} is not known to be a function of the true class's probability alone: "
            f"call it on {instead}, or choose from {', '.join(known)}"
        )
    return loss, transform


def resolve(name_or_loss: str | os.PathLike[str] | Loss, **hyper_parameters: Any) -> Loss:
    """Return the loss of a name or path, as `get`, or the loss itself.

    Raises:
      TypeError: neither.
      UserError: as `get`, or hyper-parameters beside a loss that has its own.
    """
    if isinstance(name_or_loss, (str, os.PathLike)):
        return get(os.fspath(name_or_loss), **hyper_parameters)
    if not callable(name_or_loss):
        raise TypeError(f"the loss is {name_or_loss!r}, expected a name, a path or a loss of loss.get")
    require(
        not hyper_parameters,
        f"hyper-parameters {', '.join(hyper_parameters)} go with the name of a loss: give them to loss.get",
    )
    return name_or_loss


def _name(name_or_loss: str | os.PathLike[str] | Loss) -> str:
    """Return what to call a loss in a message."""
    if isinstance(name_or_loss, (str, os.PathLike)):
        return os.fspath(name_or_loss)
    return getattr(name_or_loss, "__name__", repr(name_or_loss))


def _artifact_of(loss: Loss) -> Artifact | None:
    rule = loss.rule if isinstance(loss, LossFunction) else None
    return rule if isinstance(rule, Artifact) else None


def _learned(artifact: Artifact, nll: jax.Array, num_classes: float | None) -> jax.Array:
    # Below 0, which is rounding, the slope is that at 0.
    return artifact.values_at(-jnp.where(nll > 0.0, nll, nll - jax.lax.stop_gradient(nll)), num_classes)


def _on_two_classes(loss: Loss, nll: jax.Array, num_classes: float | None) -> jax.Array:
    """Return the values of the true class and one other, which has the rest of the probability."""
    # Below the least the slope is that at the least, not that of a constant.
    nll = jnp.where(nll > _LEAST, nll, nll - jax.lax.stop_gradient(nll) + _LEAST)
    logits = jnp.stack([-nll, _log_one_minus_exp(nll)], axis=-1)
    return loss(logits, np.zeros(nll.shape, np.int32))


@jax.custom_jvp
def _log_one_minus_exp(x: jax.Array) -> jax.Array:
    """Return ln(1 - e^-x) for x > 0."""
    return jnp.where(x < 0.7, jnp.log(-jnp.expm1(-x)), jnp.log1p(-jnp.exp(-x)))


@_log_one_minus_exp.defjvp
def _log_one_minus_exp_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Differentiate in terms of the value as rounded, so that the softmax of the two logits cancels it exactly."""
    value = _log_one_minus_exp(*primals)
    return value, jnp.exp(-primals[0] - value) * tangents[0]


def _check_nll(nll: ArrayLike) -> None:
    """Raise ValueError for a known `nll` below 0 by more than rounding."""
    if not is_known(nll):
        return
    known = np.asarray(nll)
    if not jnp.issubdtype(known.dtype, jnp.floating):
        return
    wrong = known < -_ROUNDING
    if np.any(wrong):
        index = tuple(map(operator.index, np.argwhere(wrong)[0]))
        raise ValueError(
            f"the nll at {index} is {float(known[index]):.6g}, expected at least 0: it is -ln p of the true class, "
            "a cross-entropy"
        )
