"""The monotone network: what holds for every parameter vector, in float64, and that a per_class one breaks it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from loss_cases import CALIBRATION
from network_cases import random_params

from edl_jax import loss
from edl_jax.loss.artifacts.learned import raw_loss
from edl_jax.loss.contract import targets
from edl_jax.loss.networks import kinds as _network

WIDTHS = [(1,), (3, 5), (8, 8, 8)]
# Rounding in float64, in units of the largest value or gradient at hand.
ROUNDING = 1e-12


def double(x):
    return jax.tree.map(np.float64, x)


@functools.cache
def curves(network):
    """Return the program of (g1 over ln p, g0 over p) of a network."""
    return jax.jit(
        lambda params, log_p, p: (_network.g1(network, params, log_p), _network.g0(network, params, jnp.log(p)))
    )


@functools.cache
def gradient(network):
    """Return the program of d loss / d logits `[N, C]`, with a tail, whatever the parameters."""

    def total(logits, params, labels):
        c = CALIBRATION
        return jnp.sum(raw_loss(network, params, targets(logits, labels, -1, None), c.tail_log_p, c.tail_slope))

    return jax.jit(jax.grad(total))


@pytest.mark.parametrize("hidden", WIDTHS, ids=str)
def test_g1_falls_and_g0_rises_and_is_convex(hidden):
    network = loss.NetworkConfig(kind="monotone", hidden=hidden)
    log_p, p = np.linspace(-80.0, 0.0, 401), np.linspace(0.0, 1.0, 401)

    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.1, 3.0))
    def check(seed, scale):
        with jax.enable_x64(True):
            params = double(random_params(seed, network, scale=scale))
            true, wrong = map(np.asarray, curves(network)(params, log_p, p))
        assert np.all(np.diff(true) <= ROUNDING * np.max(np.abs(true)))
        assert true[-1] < true[0]
        # g0 is a difference of two values, each rounded at its own size.
        room = ROUNDING * max(1.0, np.max(np.abs(wrong)))
        assert abs(wrong[0]) <= room
        assert np.all(np.diff(wrong) >= -room)
        assert np.all(np.diff(wrong, 2) >= -room)

    check()


def test_g1_may_bend_either_way():
    """A sum of convex functions only could not follow a bounded loss such as 1 - p_t over ln p."""
    network = loss.NetworkConfig(kind="monotone", hidden=(8, 8))
    log_p = np.linspace(-9.0, 0.0, 101)
    bends = [np.diff(curves(network)(random_params(i, network, scale=3.0), log_p, log_p)[0], 2) for i in range(20)]
    assert any(np.max(bend) > 0.01 for bend in bends)
    assert any(np.min(bend) < -0.01 for bend in bends)


def wrong_ways(network, seed, num_classes, scale, spread):
    """Return how fast descent lowers the true logit, and its margin, at random predictions: `[N]` each.

    In units of the gradient's largest entry. The margin is the one over the strongest wrong class.
    """
    rng = np.random.default_rng(seed)
    logits = spread * rng.standard_normal((32, num_classes))
    labels = rng.integers(0, num_classes, 32)
    with jax.enable_x64(True):
        params = double(random_params(seed, network, scale=scale))
        slopes = np.asarray(gradient(network)(logits, params, labels))
    is_true = np.eye(num_classes, dtype=bool)[labels]
    rival = np.argmax(np.where(is_true, -np.inf, logits), axis=1)
    size = np.max(np.abs(slopes), axis=1) + np.finfo(float).tiny
    true = slopes[is_true]
    return true / size, (true - slopes[np.arange(32), rival]) / size


@pytest.mark.parametrize("num_classes", [2, 10, *(pytest.param(c, marks=pytest.mark.slow) for c in (3, 100))])
def test_no_gradient_pulls_the_wrong_way(num_classes):
    network = loss.NetworkConfig(kind="monotone", hidden=(6, 6))

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.1, 3.0), spread=st.sampled_from([0.01, 1.0, 5.0, 30.0]))
    def check(seed, scale, spread):
        true, margin = wrong_ways(network, seed, num_classes, scale, spread)
        assert np.max(true) <= ROUNDING
        assert np.max(margin) <= ROUNDING

    check()


def test_a_per_class_network_can_pull_the_wrong_way():
    """Or the test above could not fail."""
    network = loss.NetworkConfig(hidden=(6, 6))
    true, margin = zip(*(wrong_ways(network, seed, 10, 1.0, 5.0) for seed in range(20)), strict=True)
    assert np.max(true) > 0.1
    assert np.max(margin) > 0.1


def test_single_precision_rounds_but_does_not_reverse():
    """What users get: at ordinary predictions the true logit rises and the strongest wrong one falls behind."""
    network = loss.NetworkConfig(kind="monotone", hidden=(16, 16))
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((256, 10)).astype(np.float32) * 3.0, rng.integers(0, 10, 256)
    is_true = np.eye(10, dtype=bool)[labels]
    for seed in range(5):
        slopes = np.asarray(gradient(network)(logits, random_params(seed, network), labels))
        true, strongest = slopes[is_true], np.argmax(np.where(is_true, -np.inf, logits), axis=1)
        size = np.max(np.abs(slopes), axis=1)
        assert np.all(true <= 1e-6 * size)
        assert np.all(true - slopes[np.arange(256), strongest] <= 1e-6 * size)
