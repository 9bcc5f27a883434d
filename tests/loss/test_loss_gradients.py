"""Gradients of every registered loss: right, finite, alive."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import integers, normal

from edl_jax import loss

# The others grow without bound as p_t -> 0: a confidently wrong example must keep its gradient.
BOUNDED = {
    "barron",
    "bi_tempered",
    "brier",
    "gce",
    "logit_norm",
    "mae",
    "nce",
    "nce_rce",
    "reverse_cross_entropy",
    "taylor_cross_entropy",
    "taylor_glo",
    "zero_one",
}
# The others see softmax(logits) alone.
SEES_THE_OFFSET = {"logit_norm", "squentropy"}


def gapped(gap, dtype=jnp.float32):
    """Return logits `[2, 4]` in which the true class, 0, trails and leads by `gap`."""
    return jnp.array([[0.0, gap, 0.25 * gap, -1.0], [gap, 0.0, -gap, 1.0]], dtype)


@functools.cache
def cross_entropy_norm(gap, dtype):
    gradient = jax.grad(lambda z: jnp.sum(loss.cross_entropy(z, jnp.zeros(2, jnp.int32)).astype(jnp.float32)))
    return jnp.linalg.norm(gradient(gapped(gap, dtype))[0].astype(jnp.float32))


@functools.cache
def forward(family):
    """Return the program of values and directional derivatives."""
    return jax.jit(lambda z, y, v: jax.jvp(lambda x: family.plain(x, y), (z,), (v,)))


@functools.cache
def second_derivative(family):
    """Return the program of the second derivative along `v`: the gradient of the gradient's component along `v`."""

    def along(z, y, v, name):
        return jnp.sum(family.gradient(z, y)[name] * v)

    return jax.jit(lambda z, y, v: {name: jax.grad(along)(z, y, v, name) for name in family.losses})


def test_gradients_to_second_order(case, batch):
    """Reverse mode of both orders against central differences of the order below, in float64.

    `jax.test_util.check_grads` does the same, compiling anew for every loss. No point of the batch is near a kink.
    """
    with jax.enable_x64(True):
        logits = jnp.asarray(np.asarray(batch[0], np.float64) / 2.0)
        labels = jnp.asarray(np.asarray(batch[1]))
        v = jnp.asarray(np.random.default_rng(4).standard_normal(logits.shape))
        ahead, behind = (logits + sign * 1e-5 * v for sign in (1.0, -1.0))
        slopes = (case.function(ahead, labels) - case.function(behind, labels)) / 2e-5
        gradient = case.gradient(logits, labels)
        np.testing.assert_allclose(jnp.sum(gradient * v, axis=-1), slopes, rtol=1e-6, atol=1e-8)
        slopes = (case.gradient(ahead, labels) - case.gradient(behind, labels)) / 2e-5
        second = second_derivative(case.family)(logits, labels, v)[case.name]
        np.testing.assert_allclose(second, slopes, rtol=1e-6, atol=1e-8)


def test_forward_mode_is_reverse_mode(case, batch):
    logits, labels = batch
    tangents = normal(5, logits.shape)
    values, slopes = (x[case.name] for x in forward(case.family)(logits, labels, tangents))
    gradient = case.gradient(logits, labels)
    np.testing.assert_allclose(slopes, jnp.sum(gradient * tangents, axis=-1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values, case.function(logits, labels), rtol=1e-5, atol=1e-6)


def test_gradient_of_soft_labels_is_that_of_integers(case, batch):
    logits, labels = batch
    hard, soft = case.gradient(logits, labels), case.gradient(logits, jax.nn.one_hot(labels, 5))
    np.testing.assert_allclose(hard, soft, rtol=1e-5, atol=1e-5)


def test_masked_classes_have_no_gradient(case, batch):
    logits, labels = batch
    present = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"
    labels_of_fewer = np.array([np.sum(kept[:y]) for kept, y in zip(present, np.asarray(labels), strict=True)])
    deleted = case.gradient(logits[present].reshape(6, 3), labels_of_fewer)
    for gradient in (
        case.gradient(logits, labels, where=present),
        case.gradient(jnp.where(present, logits, -jnp.inf), labels),
    ):
        assert jnp.all(gradient[~present] == 0.0)
        np.testing.assert_allclose(gradient[present].reshape(6, 3), deleted, rtol=1e-4, atol=1e-5)


def test_masked_examples_have_no_gradient(case, batch):
    logits, labels = batch
    where = jnp.array([True, False, True, True, False, False])
    logits = jnp.where(where[:, None], 0.05 * logits, jnp.nan)  # inside every margin, so that no example is at rest
    gradient = case.gradient(logits, jnp.where(where, labels, -1), where=where)
    assert jnp.all(gradient[~where] == 0.0)
    assert jnp.all(jnp.isfinite(gradient))
    assert jnp.all(jnp.any(gradient[where] != 0.0, axis=-1))


def test_a_single_class_is_finite(case, batch):
    logits, labels = batch
    alone = jax.nn.one_hot(labels, 5, dtype=bool)
    assert jnp.all(jnp.isfinite(case.function(logits, labels, where=alone)))
    assert jnp.all(jnp.isfinite(case.gradient(logits, labels, where=alone)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_wide_gaps_are_finite_and_alive(case, dtype):
    labels = jnp.zeros(2, jnp.int32)
    for gap in (20.0, 50.0, 1e3, 1e4):
        logits = gapped(gap, dtype)
        gradient = case.gradient(logits, labels)
        assert gradient.dtype == dtype
        assert jnp.all(jnp.isfinite(case.function(logits, labels)))
        assert jnp.all(jnp.isfinite(gradient))
        if case.name not in BOUNDED:
            wrong = jnp.linalg.norm(gradient[0].astype(jnp.float32))
            assert wrong / cross_entropy_norm(gap, dtype) > 0.05, gap
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
    """A loss of softmax(logits) alone does not change with a common offset."""
    if case.name in SEES_THE_OFFSET:
        pytest.skip("a loss of the logits themselves")
    logits, labels = normal(0, (6, 5), 2.0), integers(0, 6, 5)
    gradient = case.gradient(logits, labels)
    size = jnp.maximum(jnp.sum(jnp.abs(gradient), axis=-1), 1.0)
    np.testing.assert_allclose(jnp.sum(gradient, axis=-1) / size, jnp.zeros(6), atol=1e-5)
    np.testing.assert_allclose(case.function(logits + 7.0, labels), case.function(logits, labels), 2e-5, 2e-5)
