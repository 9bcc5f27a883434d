"""Gradients of every registered loss: right, finite, alive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from loss_cases import integers, normal

from edl_jax import loss

# Losses that grow without bound as p_t -> 0: a confidently wrong example must keep its gradient.
BOUNDED = {"brier"}


def total(case, labels, **kwargs):
    return lambda z: jnp.sum(case.plain(z, labels, **kwargs).astype(jnp.float32))


def gradient_of(case, logits, labels, **kwargs):
    """Return the gradient of the summed loss."""
    return jax.jit(jax.grad(total(case, labels, **kwargs)))(logits)


def gapped(gap, dtype=jnp.float32):
    """Return logits `[2, 4]` in which the true class, 0, trails and leads by `gap`."""
    return jnp.array([[0.0, gap, 0.25 * gap, -1.0], [gap, 0.0, -gap, 1.0]], dtype)


def test_gradients_to_second_order(case, batch):
    """Reverse mode against finite differences, in float64; forward mode is compared with reverse mode below."""
    with jax.enable_x64(True):
        logits = jnp.asarray(np.asarray(batch[0][:3], np.float64) / 2.0)
        labels = jnp.asarray(np.asarray(batch[1][:3]))
        check_grads(lambda z: case.function(z, labels), (logits,), order=2, modes=["rev"], atol=1e-5, rtol=1e-5)


def test_forward_mode_is_reverse_mode(case, batch):
    logits, labels = batch
    tangents = normal(5, logits.shape)
    values, slopes = jax.jit(lambda z, v: jax.jvp(lambda x: case.plain(x, labels), (z,), (v,)))(logits, tangents)
    gradient = gradient_of(case, logits, labels)
    np.testing.assert_allclose(slopes, jnp.sum(gradient * tangents, axis=-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values, case.function(logits, labels), rtol=1e-5, atol=1e-6)


def test_gradient_of_soft_labels_is_that_of_integers(case, batch):
    logits, labels = batch
    hard, soft = gradient_of(case, logits, labels), gradient_of(case, logits, jax.nn.one_hot(labels, 5))
    np.testing.assert_allclose(hard, soft, rtol=1e-5, atol=1e-5)


def test_masked_classes_have_no_gradient(case, batch):
    logits, labels = batch
    present = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"
    labels_of_fewer = np.array([np.sum(kept[:y]) for kept, y in zip(present, np.asarray(labels), strict=True)])
    deleted = gradient_of(case, logits[present].reshape(6, 3), labels_of_fewer)
    for gradient in (
        gradient_of(case, logits, labels, where=present),
        gradient_of(case, jnp.where(present, logits, -jnp.inf), labels),
    ):
        assert jnp.all(gradient[~present] == 0.0)
        np.testing.assert_allclose(gradient[present].reshape(6, 3), deleted, rtol=1e-4, atol=1e-5)


def test_masked_examples_have_no_gradient(case, batch):
    logits, labels = batch
    where = jnp.array([True, False, True, True, False, False])
    logits = jnp.where(where[:, None], logits, jnp.nan)
    gradient = gradient_of(case, logits, jnp.where(where, labels, -1), where=where)
    assert jnp.all(gradient[~where] == 0.0)
    assert jnp.all(jnp.isfinite(gradient))
    assert jnp.all(jnp.any(gradient[where] != 0.0, axis=-1))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_wide_gaps_are_finite_and_alive(case, dtype):
    labels = jnp.zeros(2, jnp.int32)
    value_and_grad = jax.jit(jax.value_and_grad(total(case, labels)))
    reference = jax.jit(jax.grad(lambda z: jnp.sum(loss.cross_entropy(z, labels).astype(jnp.float32))))
    for gap in (20.0, 50.0, 1e3, 1e4):
        logits = gapped(gap, dtype)
        value, gradient = value_and_grad(logits)
        assert gradient.dtype == dtype
        assert jnp.isfinite(value)
        assert jnp.all(jnp.isfinite(gradient))
        if case.name not in BOUNDED:
            wrong, wrong_ce = (jnp.linalg.norm(g[0].astype(jnp.float32)) for g in (gradient, reference(logits)))
            assert wrong / wrong_ce > 0.05, gap
            assert gradient[0, 0] < 0.0 < gradient[0, 1]  # descent repairs the example


def test_tail_of_a_learned_loss_is_cross_entropy_times_its_slope(case):
    if case.artifact is None:
        pytest.skip("not learned")
    c = case.artifact.calibration
    scale = np.exp(np.interp(np.log(4), np.log(c.num_classes), np.log(c.scale)))
    labels = jnp.zeros(2, jnp.int32)
    for gap in (50.0, 1e4):
        logits = gapped(gap)
        gradient, reference = (
            jax.jit(jax.grad(lambda z, f=f: f(z, labels)[0]))(logits)[0] for f in (case.plain, loss.cross_entropy)
        )
        np.testing.assert_allclose(gradient, -c.tail_slope * scale * reference, rtol=1e-4, atol=1e-6)


def test_a_gradient_sums_to_zero_over_classes(case):
    """Every loss here sees softmax(logits) alone, so a common offset changes nothing."""
    logits, labels = normal(0, (6, 5), 2.0), integers(0, 6, 5)
    gradient = gradient_of(case, logits, labels)
    np.testing.assert_allclose(jnp.sum(gradient, axis=-1), jnp.zeros(6), atol=1e-5)
    np.testing.assert_allclose(case.function(logits + 7.0, labels), case.function(logits, labels), atol=2e-5)
