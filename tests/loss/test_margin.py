"""The losses of margins: hinges, smoothed 0-1 loss, additive margin."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from loss_cases import normal, soft_labels

from edl_jax import loss

HINGES = {"crammer_singer": loss.crammer_singer, "weston_watkins": loss.weston_watkins}


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_crammer_singer_is_that_of_optax_where_optax_has_it(batch):
    logits, labels = batch
    pairs = [
        (loss.crammer_singer, optax.losses.multiclass_hinge_loss),
        (functools.partial(loss.crammer_singer, margin=0.0), optax.losses.multiclass_perceptron_loss),
    ]
    for ours, theirs in jax.jit(lambda z, y: [(f(z, y), g(z, y)) for f, g in pairs])(logits, labels):
        close(ours, theirs)


@pytest.mark.parametrize("name", HINGES)
def test_hinges_of_two_classes_are_the_hinge_loss(name):
    logits = normal(0, (8, 2), 2.0)
    labels = np.arange(8) % 2
    gaps = np.asarray(logits)[:, 1] - np.asarray(logits)[:, 0]
    close(jax.jit(HINGES[name])(logits, labels), np.maximum(1.0 - np.where(labels == 1, gaps, -gaps), 0.0))


@pytest.mark.parametrize("name", HINGES)
def test_soft_hinges_are_the_mean_over_the_labels_when_logits_are_equal(name):
    """Equal largest logits are each other's rivals."""
    logits = jnp.array([[2.0, 2.0, 0.5, 2.0], [0.0, 3.0, 3.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    y = soft_labels(0, logits.shape)
    program = jax.jit(HINGES[name])
    of_class = np.stack([program(logits, np.full(3, c)) for c in range(4)], axis=-1)
    close(program(logits, y), np.sum(np.asarray(y) * of_class, axis=-1))


def test_hinges_pull_on_the_rivals_within_the_margin_alone():
    """Rivals 0.5 and 3 ahead, 0.5 and 2 behind; beyond the margin nothing moves."""
    logits, labels = jnp.array([[0.0, 0.5, 3.0, -0.5, -2.0], [9.0, 0.5, 3.0, -0.5, -2.0]]), jnp.zeros(2, jnp.int32)
    totals = [lambda z, f=f: jnp.sum(f(z, labels)) for f in (loss.crammer_singer, loss.weston_watkins)]
    best, every = jax.jit(lambda z: [jax.grad(f)(z) for f in totals])(logits)
    close(best, [[-1.0, 0.0, 1.0, 0.0, 0.0], [0.0] * 5])
    close(every, [[-3.0, 1.0, 1.0, 1.0, 0.0], [0.0] * 5])


@pytest.mark.parametrize("soft", [False, True])
def test_a_single_class_has_no_rival(soft):
    logits, labels = normal(0, (3, 4), 5.0), jnp.arange(3)
    alone = jax.nn.one_hot(labels, 4, dtype=bool)
    target = alone.astype(jnp.float32) if soft else labels
    losses = [loss.crammer_singer, loss.weston_watkins, loss.additive_margin, loss.zero_one]
    totals = [lambda z, f=f: jnp.sum(f(z, target, where=alone)) for f in losses]
    for value, gradient in jax.jit(lambda z: [jax.value_and_grad(f)(z) for f in totals])(logits):
        assert value == 0.0
        assert jnp.all(gradient == 0.0)


def test_zero_one_counts_errors_as_it_steepens(batch):
    logits, labels = batch
    errors = (np.argmax(logits, axis=-1) != np.asarray(labels)).astype(np.float32)
    program = jax.jit(lambda steepness: loss.zero_one(logits, labels, steepness=steepness))
    close(program(1e4), errors)
    assert np.max(np.abs(program(0.1) - errors)) > 0.3


def test_zero_one_of_two_classes_is_a_sigmoid_of_the_margin():
    gaps = np.array([-3.0, -1.0, 0.0, 0.2, 2.0])
    logits = jnp.zeros((5, 2)).at[:, 0].set(gaps)
    close(jax.jit(loss.zero_one)(logits, np.zeros(5, np.int32)), 1 / (1 + np.exp(5.0 * gaps)))


@jax.jit
def values_and_gradient(cosines, target):
    """Return values `[N]` of the additive margin and their sum's gradient `[N, C]`."""
    values, pull = jax.vjp(lambda z: loss.additive_margin(z, target), cosines)
    return values, pull(jnp.ones_like(values))[0]


def test_additive_margin_asks_cosines_for_a_lead():
    """Cross-entropy of the scaled cosines once the true one is lowered, also where p_t rounds to 1."""
    cosines = np.array([[0.9, 0.2, -0.5], [0.2, 0.9, -0.5], [1.0, -1.0, -1.0], [-1.0, 1.0, 1.0]], np.float32)
    labels = np.zeros(4, np.int32)
    lowered = cosines.astype(np.float64) - 0.35 * np.eye(3)[labels]
    expected = np.log1p(np.sum(np.exp(30.0 * (lowered[:, 1:] - lowered[:, :1])), axis=-1))
    p = np.exp(30.0 * lowered - np.logaddexp.reduce(30.0 * lowered, axis=-1, keepdims=True))
    for target in (labels, jax.nn.one_hot(labels, 3)):
        values, gradient = values_and_gradient(cosines, target)
        np.testing.assert_allclose(values, expected, rtol=1e-4)
        size = 30.0 * p[:, 1:].max(axis=-1, keepdims=True)
        np.testing.assert_allclose(gradient[:, 1:] / size, 30.0 * p[:, 1:] / size, rtol=1e-3, atol=1e-6)


def test_scales_and_margins_can_be_learned(batch):
    logits, labels = batch
    masked = jnp.where(jax.nn.one_hot((labels + 1) % 5, 5, dtype=bool), -jnp.inf, logits)
    losses = {
        "additive_margin": {"scale": 0.5, "margin": 0.35},
        "crammer_singer": {"margin": 2.0},
        "weston_watkins": {"margin": 2.0},
        "zero_one": {"steepness": 0.5},
    }

    def value(hyper_parameters):
        return sum(
            jnp.sum(getattr(loss, name)(z, labels, **chosen))
            for name, chosen in hyper_parameters.items()
            for z in (logits, masked)
        )

    gradient = jax.jit(jax.grad(value))(losses)
    evaluate = jax.jit(value)
    for name, chosen in losses.items():
        for parameter, at in chosen.items():
            ahead, behind = (evaluate({**losses, name: {**chosen, parameter: at + h}}) for h in (0.01, -0.01))
            np.testing.assert_allclose(gradient[name][parameter], (ahead - behind) / 0.02, rtol=0.01, atol=0.01)
