"""Severity: how wrong a prediction is. Higher is worse."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from edl_jax.core.errors import unknown

Severity = Callable[[jax.Array, jax.Array], jax.Array]


def true_class(x: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the entry `[...]` of `x` `[..., C]` at integer labels `[...]`."""
    return jnp.take_along_axis(x, labels[..., None], axis=-1).squeeze(-1)


def error(log_p: jax.Array, labels: jax.Array) -> jax.Array:
    """Return 1 - p_t, precise near p_t = 1."""
    return -jnp.expm1(true_class(log_p, labels))


def nll(log_p: jax.Array, labels: jax.Array) -> jax.Array:
    """Return -ln p_t."""
    return -true_class(log_p, labels)


def brier(log_p: jax.Array, labels: jax.Array) -> jax.Array:
    """Return ||p - y||^2."""
    y = jax.nn.one_hot(labels, log_p.shape[-1], dtype=log_p.dtype)
    return jnp.sum(jnp.square(jnp.exp(log_p) - y), axis=-1)


def margin(log_p: jax.Array, labels: jax.Array) -> jax.Array:
    """Return max_{j != t} p_j - p_t: negative when the prediction is right."""
    y = jax.nn.one_hot(labels, log_p.shape[-1], dtype=bool)
    p = jnp.exp(log_p)
    return jnp.max(jnp.where(y, -jnp.inf, p), axis=-1) - true_class(p, labels)


SEVERITIES: dict[str, Severity] = {"brier": brier, "error": error, "margin": margin, "nll": nll}


def get(name: str) -> Severity:
    """Return the severity of a name: a function (log_p `[..., C]`, labels `[...]`) -> `[...]`.

    Raises:
      UserError: unknown name.
    """
    if name not in SEVERITIES:
        raise unknown("severity", name, SEVERITIES)
    return SEVERITIES[name]
