"""Losses of the residual p_c - y_c, class by class: Barron's general loss and the polynomials of TaylorGLO.

Formulas with p = softmax(logits), y the label probabilities and C the number of classes that exist.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import require
from edl_jax.loss.contract import Targets, from_targets
from edl_jax.loss.terms import check, expm1_over, num_classes


@from_targets(of_p_t=False)
def barron(t: Targets, *, alpha: float = 1.0, scale: float = 1.0) -> jax.Array:
    """Barron's general robust loss of the residual, `sum_c rho(p_c - y_c)`.

    `rho(x) = b / alpha ((u / b + 1)^(alpha / 2) - 1)` with `b = |alpha - 2|` and `u = (x / scale)^2`, and its limits
    `u / 2` at alpha = 2 (half the Brier score), `ln(1 + u / 2)` at 0 and `1 - exp(-u / 2)` at -inf. The paper is on
    regression; the sum over p - y is one of the forms it can take here. Soft labels: the same distance, 0 at p = y
    and not affine in y. Bounded, as |p - y| is.

    Args:
      alpha: a finite number or -inf: 1 is Charbonnier, 0 Cauchy, -2 Geman-McClure, -inf Welsch. May be traced, as
        scale; at alpha = 2 the derivative in alpha, which is infinite, is taken as 0.
      scale: residual at which the quadratic bowl ends, greater than 0.

    References:
      Barron, A General and Adaptive Robust Loss Function, 2019, arXiv 1701.03077.
    """
    check("barron: alpha", alpha, "a finite number or -inf", lambda x: x < math.inf)
    check("barron: scale", scale, "a finite number greater than 0", lambda x: 0.0 < x < math.inf)
    square = jnp.square((jnp.exp(t.log_p) - t.one_hot) / scale)
    shape = jnp.asarray(alpha, t.log_p.dtype)
    quadratic, welsch = shape == 2.0, shape == -jnp.inf
    a = jnp.where(quadratic | welsch, 1.0, shape)
    width = jnp.abs(a - 2.0)
    rho = width * expm1_over(a, 0.5 * jnp.log1p(square / width))
    rho = jnp.where(quadratic, 0.5 * square, jnp.where(welsch, -jnp.expm1(-0.5 * square), rho))
    return jnp.sum(rho, axis=-1, where=t.present)


@from_targets(of_p_t=False)
def taylor_glo(
    t: Targets, *, theta: Sequence[float] | jax.Array = (0.0, 1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0)
) -> jax.Array:
    """TaylorGLO, `-(1 / C) sum_c sum_{i, j} theta_ij s_c^i d_c^j / (i! j!)`, s = y - theta_0 and d = p - theta_1.

    A Taylor polynomial of order k in label and prediction, `i >= 0`, `j >= 1`, `i + j <= k`: the terms in the label
    alone, which have no gradient, are left out. For k = 3 `theta_2 d + theta_3 d^2 / 2 + theta_4 d^3 / 6 +
    theta_5 s d + theta_6 s d^2 / 2 + theta_7 s^2 d / 2`. The factorials belong to the polynomial, not to theta, and
    the sum over classes is divided by C. These are the paper's roles; public re-implementations that swap label and
    prediction need other coefficients. No published vector could be verified, so none ships: the default is
    `taylor_cross_entropy` of order 2, divided by C.

    Soft labels: this polynomial of y; affine in y when the coefficients with i >= 2 are 0.

    Args:
      theta: `[2 + k (k + 1) / 2]` finite numbers, which may be traced: theta_0, theta_1, then theta_ij by i and within
        i by j. The length (3, 5, 8, 12, ...) gives the order k.

    Raises:
      UserError: theta has another length, or is not finite.

    References:
      Gonzalez and Miikkulainen, Optimizing Loss Functions Through Multivariate Taylor Polynomial Parameterization,
      2021, arXiv 2002.00059.
    """
    coefficients, order = _coefficients(theta)
    p, y = jnp.exp(t.log_p), t.one_hot
    of_label, of_prediction = y - coefficients[0], p - coefficients[1]
    remaining = iter(coefficients[2:])
    total, power = jnp.zeros_like(p), jnp.ones_like(p)
    for i in range(order):
        terms = [next(remaining) / math.factorial(j) for j in range(1, order - i + 1)]
        inner = jnp.zeros_like(p)
        for term in reversed(terms):  # Horner
            inner = of_prediction * (term + inner)
        total = total + power * inner
        power = power * of_label / (i + 1)
    return -jnp.sum(total, axis=-1, where=t.present) / num_classes(t)


def _coefficients(theta: Any) -> tuple[list[Any], int]:
    """Return the coefficients one by one, Python floats unless they are traced, and the order.

    Raises:
      UserError: as `taylor_glo`.
    """
    if isinstance(theta, jax.Array) and not isinstance(theta, jax.core.Tracer):
        theta = np.asarray(theta)
    try:
        values = [] if isinstance(theta, str) else [_number(x) for x in theta]
    except (TypeError, ValueError):
        values = []
    orders = [k for k in range(1, len(values)) if len(values) == 2 + k * (k + 1) // 2]
    require(
        bool(orders),
        f"taylor_glo: theta is {theta}, expected 3, 5, 8, 12, ... finite numbers: 2 + k (k + 1) / 2 for order k",
    )
    return values, orders[0]


def _number(x: Any) -> Any:
    """Return a finite Python float, or a traced scalar as it is.

    Raises:
      TypeError, ValueError: `x` is neither.
    """
    if isinstance(x, jax.core.Tracer) and x.ndim == 0:
        return x
    if not math.isfinite(x):
        raise ValueError(f"{x} is not finite")
    return float(x)
