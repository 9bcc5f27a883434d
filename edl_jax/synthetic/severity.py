"""Severity: how wrong a prediction is. Higher is worse.

Each takes arrays of JAX or of NumPy and returns one of the same kind: one of NumPy needs no compilation.
"""

from collections.abc import Callable
from typing import Any

from edl_jax.core.errors import choose

Severity = Callable[[Any, Any], Any]


def true_class(x: Any, labels: Any) -> Any:
    """Return the entry `[...]` of `x` `[..., C]` at integer labels `[...]`."""
    return x.__array_namespace__().take_along_axis(x, labels[..., None], axis=-1).squeeze(-1)


def error(log_p: Any, labels: Any) -> Any:
    """Return 1 - p_t, precise near p_t = 1."""
    return -log_p.__array_namespace__().expm1(true_class(log_p, labels))


def nll(log_p: Any, labels: Any) -> Any:
    """Return -ln p_t."""
    return -true_class(log_p, labels)


def brier(log_p: Any, labels: Any) -> Any:
    """Return ||p - y||^2."""
    xp = log_p.__array_namespace__()
    return xp.sum(xp.square(xp.exp(log_p) - _is_true(log_p, labels).astype(log_p.dtype)), axis=-1)


def margin(log_p: Any, labels: Any) -> Any:
    """Return max_{j != t} p_j - p_t: negative when the prediction is right."""
    xp = log_p.__array_namespace__()
    p = xp.exp(log_p)
    return xp.max(xp.where(_is_true(log_p, labels), -xp.inf, p), axis=-1) - true_class(p, labels)


def _is_true(log_p: Any, labels: Any) -> Any:
    classes = log_p.__array_namespace__().arange(log_p.shape[-1])
    return labels[..., None] == classes.reshape((1,) * labels.ndim + (-1,))


SEVERITIES: dict[str, Severity] = {"brier": brier, "error": error, "margin": margin, "nll": nll}


def get(name: str) -> Severity:
    """Return the severity of a name: a function (log_p `[..., C]`, labels `[...]`) -> `[...]`.

    Raises:
      UserError: unknown name.
    """
    return SEVERITIES[choose("severity", name, SEVERITIES)]
