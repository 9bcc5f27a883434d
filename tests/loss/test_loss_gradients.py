"""Gradients of every registered loss: right, finite, alive. All losses are one program for each kind of argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import all_close, integers, normal, one_hot, padded, total

# The others grow without bound as p_t -> 0: a confidently wrong example must keep its gradient.
BOUNDED = {
    "amse",
    "anl_ce",
    "anl_fl",
    "barron",
    "bi_tempered",
    "brier",
    "gce",
    "jal_ce",
    "jal_fl",
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
PRESENT = np.array([list(row) for row in ("11010", "01011", "10101", "11100", "11001", "00111")]) == "1"
GAPS = np.repeat([20.0, 50.0, 1e3, 1e4], 2)


def gapped():
    """Return float32 logits `[8, 5]` in which the true class, 0, trails and leads by each of `GAPS`, and labels."""
    trails, leads = np.array([0.0, 1.0, 0.25, 0.0, 0.0]), np.array([1.0, 0.0, -1.0, 0.0, 0.0])
    logits = GAPS[:, None] * np.tile([trails, leads], (4, 1)) + np.tile([[0, 0, 0, -1, -2], [0, 0, 0, 1, 2]], (4, 1))
    return logits.astype(np.float32), np.zeros(8, np.int32)


def test_gradients_to_second_order(every, batch):
    """Reverse mode of both orders against central differences of the order below, in float64.

    `jax.test_util.check_grads` does the same, compiling anew for every loss. No point of the batch is near a kink.
    """

    def orders(z, y, v):
        """Return the second derivative along `v`, the gradient of the gradient's component along it, and that."""

        def along(z, f):
            gradient = jax.grad(total)(z, f, y)
            return jnp.sum(gradient * v), gradient

        return {name: jax.grad(along, has_aux=True)(z, f) for name, f in every.losses.items()}

    logits, labels = np.asarray(batch[0], np.float64) / 2.0, np.asarray(batch[1])
    v = np.random.default_rng(4).standard_normal(logits.shape)
    # The three places in one batch: the losses of its rows do not depend on each other.
    places = np.concatenate([logits, logits + 1e-5 * v, logits - 1e-5 * v])
    with jax.enable_x64(True):
        values = every.values(places, np.tile(labels, 3))
        found = padded(jax.jit(orders), places, np.tile(labels, 3), np.tile(v, (3, 1)))
    for name, (second, gradient) in found.items():
        _, ahead, behind = np.split(values[name], 3)
        slopes = (ahead - behind) / 2e-5
        np.testing.assert_allclose(np.sum(gradient[:6] * v, axis=-1), slopes, rtol=1e-6, atol=1e-8, err_msg=name)
        _, ahead, behind = np.split(gradient, 3)
        np.testing.assert_allclose(second[:6], (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8, err_msg=name)


def test_every_loss_has_a_forward_mode(every, batch):
    logits, labels = batch
    jax.eval_shape(lambda z: jax.jvp(lambda x: every.plain(x, labels), (z,), (z,)), logits)


@pytest.mark.parametrize("which", ["ways", pytest.param("every", marks=pytest.mark.slow)])
def test_forward_mode_is_reverse_mode(which, request, batch):
    """By a loss of each way: both modes come from the same rules, and reverse mode is tried with every loss."""
    every = request.getfixturevalue(which)
    logits, labels = (np.asarray(x) for x in batch)
    tangents = np.asarray(normal(5, logits.shape))
    forward = jax.jit(lambda z, y, v: jax.jvp(lambda x: every.plain(x, y), (z,), (v,)))
    values, slopes = padded(forward, logits, labels, tangents)
    expected, gradients = every.values(logits, labels), every.gradients(logits, labels)
    for name, gradient in gradients.items():
        reverse = np.sum(gradient * tangents, axis=-1)
        np.testing.assert_allclose(slopes[name], reverse, rtol=1e-4, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(values[name], expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("which", ["ways", pytest.param("every", marks=pytest.mark.slow)])
def test_gradient_of_soft_labels_is_that_of_integers(which, request, batch):
    """By a loss of each way: the values for probabilities are tried with every loss in test_contract.py."""
    every = request.getfixturevalue(which)
    logits, labels = batch
    all_close(every.gradients(logits, labels), every.gradients(logits, one_hot(labels).astype(np.float32)), 1e-5)


def test_masked_classes_have_no_gradient(every, ways, batch):
    """The rows of fewer classes stand in the batch of five, their classes first: the others are the mask's again."""
    logits, labels = (np.asarray(x) for x in batch)
    order = np.argsort(~PRESENT, axis=1, kind="stable")
    fewer = np.where(np.arange(5) < 3, np.take_along_axis(logits, order, axis=1), np.float32(-np.inf))
    labels_of_fewer = np.array([np.sum(kept[:y]) for kept, y in zip(PRESENT, labels, strict=True)])
    deleted = every.gradients(fewer, labels_of_fewer)
    by_mask = ways.gradients(logits, labels, where=PRESENT)  # which makes a logit of -inf of it, for any loss
    by_logit = every.gradients(np.where(PRESENT, logits, np.float32(-np.inf)), labels)
    for name, expected in deleted.items():
        for gradient in (by_logit[name], *([by_mask[name]] if name in by_mask else [])):
            assert np.all(gradient[~PRESENT] == 0.0), name
            np.testing.assert_allclose(
                gradient[PRESENT].reshape(6, 3), expected[:, :3], rtol=1e-4, atol=1e-5, err_msg=name
            )


def test_masked_examples_have_no_gradient(ways, batch):
    logits, labels = (np.asarray(x) for x in batch)
    where = np.array([True, False, True, True, False, False])
    # Inside every margin, so that no example is at rest.
    logits = np.where(where[:, None], np.float32(0.05) * logits, np.float32(np.nan))
    for mask in (np.broadcast_to(where[:, None], (6, 5)), where):
        for name, gradient in ways.gradients(logits, np.where(where, labels, -1), where=mask).items():
            assert np.all(gradient[~where] == 0.0), name
            assert np.all(np.isfinite(gradient)), name
            assert np.all(np.any(gradient[where] != 0.0, axis=-1)), name


def test_a_single_class_is_finite(every, batch):
    logits, labels = batch
    alone = one_hot(labels) == 1.0
    only = np.where(alone, np.asarray(logits), np.float32(-np.inf))
    for program in (every.values, every.gradients):
        for name, x in program(only, labels).items():
            assert np.all(np.isfinite(x)), name


def test_wide_gaps_are_finite_and_alive(every, ways):
    """In half precision by a loss of each way: the gradient is the one of single precision, rounded."""
    logits, labels = gapped()
    for family, dtype in ((every, jnp.float32), (ways, jnp.bfloat16)):
        values, gradients = (f(logits.astype(dtype), labels) for f in (family.values, family.gradients))
        size = np.linalg.norm(gradients["cross_entropy"].astype(np.float32)[::2], axis=1)
        for name, gradient in gradients.items():
            assert gradient.dtype == dtype, name
            assert np.all(np.isfinite(values[name])), name
            assert np.all(np.isfinite(gradient)), name
            if name not in BOUNDED:
                wrong = gradient[::2].astype(np.float32)
                assert np.all(np.linalg.norm(wrong, axis=1) / size > 0.05), name
                assert np.all((wrong[:, 0] < 0.0) & (wrong[:, 1] > 0.0)), name  # descent repairs the example


def test_tail_of_a_learned_loss_is_cross_entropy_times_its_slope(every, artifacts):
    gradients = every.gradients(*gapped())
    wrong = np.flatnonzero((GAPS >= 50.0) & (np.arange(8) % 2 == 0))
    for name, artifact in artifacts.items():
        c = artifact.calibration
        slope = -c.tail_slope * np.exp(np.interp(np.log(5), np.log(c.num_classes), np.log(c.scale)))
        expected = slope * gradients["cross_entropy"][wrong]
        np.testing.assert_allclose(gradients[name][wrong], expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_gradient_sums_to_zero_over_classes(every):
    """A loss of softmax(logits) alone does not change with a common offset."""
    logits, labels = np.asarray(normal(0, (6, 5), 2.0)), integers(0, 6, 5)
    gradients, values, moved = every.gradients(logits, labels), every.values(logits, labels), logits + np.float32(7.0)
    moved = every.values(moved, labels)
    for name in gradients.keys() - SEES_THE_OFFSET:
        size = np.maximum(np.sum(np.abs(gradients[name]), axis=-1), 1.0)
        np.testing.assert_allclose(np.sum(gradients[name], axis=-1) / size, np.zeros(6), atol=1e-5, err_msg=name)
        np.testing.assert_allclose(moved[name], values[name], 2e-5, 2e-5, err_msg=name)
