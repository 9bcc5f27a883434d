"""Losses that are loaded are evaluated from splines: as exact as single precision, and smooth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_cases import random_params

from edl_jax import loss
from edl_jax.loss.artifacts.learned import learned_loss, raw_loss
from edl_jax.loss.artifacts.spline import splines
from edl_jax.loss.contract import targets
from edl_jax.loss.networks import kinds

TAIL = -9.0
# Each kind once: an activation is the network's, whose numbers the splines take as they are.
CASES = [("true_class", "gelu"), ("per_class", "tanh"), ("monotone_true_class", "softplus"), ("monotone", "softplus")]
MORE = [("true_class", activation) for activation in ("silu", "softplus", "tanh")]
MORE += [("per_class", activation) for activation in ("gelu", "silu", "softplus")]


def network_and_params(kind, activation):
    network = loss.NetworkConfig(kind=kind, hidden=(6, 4), activation=activation)
    return network, jax.tree.map(np.asarray, random_params(3, network, scale=1.0))


@pytest.mark.parametrize(
    ("kind", "activation"), [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]
)
def test_values_to_1e5_and_slopes_to_1e4_of_the_network(kind, activation):
    network, params = network_and_params(kind, activation)
    table = splines(network, params, TAIL, -1.0)
    with jax.enable_x64(True):
        exact_params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params)
        log_p = jnp.linspace(TAIL + 1e-6, -1e-9, 4001)
        for function, spline in ((kinds.g1, table.true_value), (kinds.g0, table.wrong_value)):
            exact = jax.jvp(lambda x, f=function: f(network, exact_params, x), (log_p,), (jnp.ones_like(log_p),))
            single = log_p.astype(jnp.float32)
            ours = jax.jvp(spline, (single,), (jnp.ones_like(single),))
            for found, wanted, tolerance in zip(ours, exact, (1e-5, 1e-4), strict=True):
                assert np.max(np.abs(found - wanted)) <= tolerance * max(np.max(np.abs(wanted)), 1.0)


def test_second_derivatives_are_continuous():
    table = splines(*network_and_params("true_class", "tanh"), TAIL, -1.0)
    knots = -table.true.step * jnp.arange(1.0, 500.0, 7.0)
    bend = jax.jit(jax.vmap(jax.grad(jax.grad(table.true_value))))
    above, below = bend(knots + 1e-4), bend(knots - 1e-4)
    np.testing.assert_allclose(above, below, atol=2e-3 * float(jnp.max(jnp.abs(above))))


@pytest.mark.parametrize("kind", ["true_class", "per_class"])
def test_a_loaded_loss_is_its_network(kind):
    network, params = network_and_params(kind, "tanh")
    calibration = loss.Calibration((10.0,), (0.7,), (0.2,), TAIL, -0.5)
    logits = 6.0 * jax.random.normal(jax.random.key(0), (64, 10))
    logits = logits.at[0, 0].set(60.0).at[1, 3].set(-60.0)
    integer = jax.random.randint(jax.random.key(1), (64,), 0, 10).at[1].set(3)
    soft = jax.nn.softmax(jax.random.normal(jax.random.key(2), (64, 10)))
    function = learned_loss(loss.Artifact(network, params, calibration))

    def reference(z, labels):
        return 0.7 * raw_loss(network, params, targets(z, labels), TAIL, -0.5) + 0.2

    for labels in (integer, soft):
        for ours, wanted in zip(both(function)(logits, labels), both(reference)(logits, labels), strict=True):
            np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=2e-4)


def both(function):
    return jax.jit(lambda z, y: (function(z, y), jax.grad(lambda z: jnp.sum(function(z, y)))(z)))


def test_the_tail_is_a_line_with_one_slope_at_its_start():
    table = splines(*network_and_params("true_class", "tanh"), TAIL, -0.25)
    slopes = jax.vmap(jax.grad(table.true_value))(jnp.array([TAIL - 1e-3, -50.0, -1e4]))
    np.testing.assert_allclose(slopes, -0.25)
    assert np.isfinite(table.true_value(jnp.float32(-1e30)))


@pytest.mark.parametrize("kind", ["monotone", "per_class"])
def test_far_down_a_wrong_class_counts_in_proportion_to_its_probability(kind):
    table = splines(*network_and_params(kind, "tanh"), TAIL, -0.25)
    log_p = jnp.array([-19.99, -20.0, -20.01, -30.0, -60.0])
    values, slopes = jax.vmap(jax.value_and_grad(table.wrong_value))(log_p)
    np.testing.assert_allclose(values[1:] / jnp.exp(log_p[1:]), values[0] / jnp.exp(log_p[0]), rtol=1e-3)
    np.testing.assert_allclose(slopes[2:], values[2:], rtol=1e-5)
    assert jax.value_and_grad(table.wrong_value)(-jnp.inf) == (0.0, 0.0)


@pytest.mark.parametrize("kind", ["joint", "pairwise"])
def test_no_splines_of_what_is_not_separable(kind):
    network = loss.NetworkConfig(kind=kind, hidden=(4,))
    assert splines(network, {}, TAIL, -1.0) is None


def test_kinks_are_left_to_the_network():
    network = loss.NetworkConfig(kind="true_class", hidden=(4,), activation="relu")
    assert splines(network, {}, TAIL, -1.0) is None
