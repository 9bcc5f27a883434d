"""The losses of residuals: Barron's general loss, TaylorGLO."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import normal, soft_labels

from edl_jax import loss
from edl_jax.core.errors import UserError

ORDER_3 = (0.1, 0.7, 1.0, -2.0, 3.0, -4.0, 5.0, -6.0)


def residuals(batch):
    """Return p - y of the batch in float64."""
    logits, labels = (np.asarray(x) for x in batch)
    p = np.exp(logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64), axis=-1, keepdims=True))
    return p, np.eye(5)[labels]


@pytest.mark.parametrize(
    ("alpha", "form"),
    [
        (2.0, lambda u: u / 2),  # L2
        (1.0, lambda u: np.sqrt(u + 1) - 1),  # Charbonnier
        (0.0, lambda u: np.log1p(u / 2)),  # Cauchy
        (-2.0, lambda u: 2 * u / (u + 4)),  # Geman-McClure
        (-np.inf, lambda u: 1 - np.exp(-u / 2)),  # Welsch
    ],
)
def test_barron_has_its_named_forms_and_comes_to_them_smoothly(batch, alpha, form):
    p, y = residuals(batch)
    expected = np.sum(form(((p - y) / 0.4) ** 2), axis=-1)
    close_by = [-1e6, -1e20] if alpha == -np.inf else [alpha - 1e-6, alpha + 1e-6]
    for a in (alpha, *close_by):
        values = loss.barron(*batch, alpha=a, scale=0.4)
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-7, err_msg=f"{a}")


def test_the_shape_of_barron_can_be_learned(batch):
    p, y = residuals(batch)
    square = jnp.asarray((p - y) ** 2, jnp.float32)

    def value(alpha, scale):
        return jnp.sum(loss.barron(*batch, alpha=alpha, scale=scale))

    slopes = jax.jit(jax.grad(value, argnums=(0, 1)))
    evaluate = jax.jit(value)
    with jax.enable_x64(True):
        logits, labels = np.asarray(batch[0], np.float64), np.asarray(batch[1])
        double = jax.jit(lambda alpha: jnp.sum(loss.barron(logits, labels, alpha=alpha, scale=0.7)))
    for alpha in (1.0, 0.5, 1e-6, 0.0, -1e-3, -2.0, -20.0):
        with jax.enable_x64(True):
            expected = (double(alpha + 1e-4) - double(alpha - 1e-4)) / 2e-4
        np.testing.assert_allclose(slopes(alpha, 0.7)[0], expected, rtol=1e-3, err_msg=f"alpha = {alpha}")
    for alpha in (2.0, 2.0 - 2e-7, 2.0 + 3e-7, -np.inf, -1e30, 1e-30, 100.0):
        assert np.all(np.isfinite(slopes(alpha, 0.7))), alpha
        assert np.isfinite(evaluate(alpha, 0.7))
    np.testing.assert_allclose(slopes(2.0, 0.7)[1], -jnp.sum(square) / 0.7**3, rtol=1e-4)


def test_taylor_glo_of_order_3_is_the_polynomial_of_its_docstring(batch):
    logits, _ = batch
    p, _ = residuals(batch)
    y = np.asarray(soft_labels(1, logits.shape), np.float64)
    s, d, theta = y - 0.1, p - 0.7, ORDER_3
    terms = theta[2] * d + theta[3] * d**2 / 2 + theta[4] * d**3 / 6
    terms += theta[5] * s * d + theta[6] * s * d**2 / 2 + theta[7] * s**2 * d / 2
    values = loss.taylor_glo(logits, jnp.asarray(y, jnp.float32), theta=ORDER_3)
    np.testing.assert_allclose(values, -terms.mean(axis=-1), rtol=1e-5)


def test_the_default_of_taylor_glo_is_taylor_cross_entropy_over_the_classes_that_exist(batch):
    logits, labels = batch
    present = np.arange(5) < np.array([[5], [5], [3], [3], [2], [4]])
    y = soft_labels(1, logits.shape) * present
    y = y / jnp.sum(y, axis=-1, keepdims=True)
    for target in (labels, y):
        expected = loss.taylor_cross_entropy(logits, target, where=present) / jnp.sum(present, axis=-1)
        np.testing.assert_allclose(loss.taylor_glo(logits, target, where=present), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [3, 5, 8, 12])
def test_theta_can_be_learned_and_evolved(batch, length):
    """The loss is linear in all coefficients but the centre: their derivatives add up to it."""
    theta = normal(length, (3, length))
    values, gradient = jax.jit(
        jax.vmap(jax.value_and_grad(lambda theta: jnp.sum(loss.taylor_glo(*batch, theta=theta))))
    )(theta)
    np.testing.assert_allclose(jnp.sum(theta[:, 2:] * gradient[:, 2:], axis=-1), values, rtol=1e-4, atol=1e-5)
    single = [jnp.sum(loss.taylor_glo(*batch, theta=row)) for row in theta]
    np.testing.assert_allclose(values, jnp.stack(single), rtol=1e-5, atol=1e-5)
    assert jnp.all(gradient[:, 0 if length > 3 else 1 :] != 0.0)  # order 1 has no label


def test_a_traced_theta_of_a_wrong_length_is_named(batch):
    with pytest.raises(UserError, match=r"taylor_glo: theta is .*\[4\].*, expected 3, 5, 8, 12, \.\.\. finite numbers"):
        jax.jit(lambda theta: loss.taylor_glo(*batch, theta=theta))(jnp.ones(4))
