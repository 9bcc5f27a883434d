"""Losses jitted as a whole: called outside jit they are one program, not a hundred; inside, they are inlined."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from edl_jax.loss.checks import check_values
from edl_jax.loss.contract import Loss, Targets, targets


def jitted(values: Callable[[Targets], jax.Array], name: str) -> Loss:
    """Return the loss whose values `[...]` before weights and masks are those of `values`.

    Args:
      values: from the arguments of the loss in one layout.
      name: of the function that is returned.
    """

    @functools.partial(jax.jit, static_argnames="axis")
    def program(
        logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None, class_weights: ArrayLike | None, axis: int
    ) -> jax.Array:
        t = targets(logits, labels, axis, where, class_weights)
        return t.finish(values(t))

    def loss(
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        axis: int = -1,
        where: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
    ) -> jax.Array:
        """Loss of an artifact or expression. See `Loss` for arguments, shapes, dtypes and errors."""
        check_values(logits, labels, axis, where, class_weights)
        # A list would be a tree of scalars to jit.
        where = None if where is None else jnp.asarray(where)
        class_weights = None if class_weights is None else jnp.asarray(class_weights)
        return program(jnp.asarray(logits), jnp.asarray(labels), where, class_weights, axis)

    loss.__name__ = loss.__qualname__ = name
    return loss
