"""Gradient reports and regularisers, on networks whose gradients are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_losses import cross_entropy_network, error_network, only, random_params

from edl_jax import loss
from edl_jax.loss.networks import kinds as _network
from edl_jax.synthetic import draw_predictions
from edl_jax.synthetic.gradients import EXPLODING_LIMIT, loss_gradients, network_gradients, penalty

OFF = {"wrong_way": 0.0, "exploding": 0.0, "roughness": 0.0, "log_p_min": -9.0}


@pytest.fixture(scope="module")
def batch():
    """Return (log_p `[256, 10]`, labels `[256]`)."""
    labels, log_p = draw_predictions(
        jax.random.key(4), only(uniform=1.0, log_uniform=2.0, confident_wrong=1.0), 10, 256
    )
    return log_p, labels


def by_hand(log_p, labels):
    """Return (p - y, the gradient of cross-entropy) in float64."""
    return np.exp(np.asarray(log_p, np.float64)) - np.eye(log_p.shape[-1])[np.asarray(labels)]


def test_gradients_of_cross_entropy_are_p_minus_y(batch):
    log_p, labels = batch
    gradients = jax.jit(lambda z: loss_gradients(lambda x: loss.cross_entropy(x, labels), z, labels))(log_p)
    np.testing.assert_allclose(gradients.norm, np.linalg.norm(by_hand(log_p, labels), axis=-1), rtol=1e-4, atol=1e-6)
    p_t = np.exp(np.asarray(log_p, np.float64))[np.arange(256), np.asarray(labels)]
    np.testing.assert_allclose(gradients.scale, np.std(np.log(p_t)), rtol=1e-5)
    np.testing.assert_array_equal(gradients.wrong_way, np.zeros(256))


def test_wrong_way_of_negated_cross_entropy(batch):
    """Descent on -CE moves the logits by p - y: the margin falls by 1 - p_t + p_rival."""
    log_p, labels = batch
    gradients = jax.jit(lambda z: loss_gradients(lambda x: -loss.cross_entropy(x, labels), z, labels))(log_p)
    p, y = np.exp(np.asarray(log_p, np.float64)), np.eye(10)[np.asarray(labels)]
    fall = 1.0 - p[y == 1] + np.max(np.where(y == 1, 0.0, p), axis=-1)
    np.testing.assert_allclose(gradients.wrong_way, fall / float(gradients.scale), rtol=1e-4)


def test_wrong_way_does_not_depend_on_scale(batch):
    log_p, labels = batch
    gradients = jax.jit(lambda z, a: loss_gradients(lambda x: -a * loss.cross_entropy(x, labels) + 3.0, z, labels))
    once, tenfold = (gradients(log_p, a) for a in (1.0, 10.0))
    np.testing.assert_allclose(once.wrong_way, tenfold.wrong_way, rtol=1e-4)
    np.testing.assert_allclose(10.0 * once.norm, tenfold.norm, rtol=1e-4, atol=1e-6)


def test_a_constant_loss_has_finite_gradients(batch):
    log_p, labels = batch
    for leaf in jax.jit(lambda z: loss_gradients(lambda x: 0.0 * x[:, 0], z, labels))(log_p):
        assert jnp.all(jnp.isfinite(leaf))


def test_network_gradients_are_those_of_its_function(batch):
    log_p, labels = batch
    gradients = jax.jit(lambda z: network_gradients(*cross_entropy_network(), z, labels))(log_p)
    np.testing.assert_allclose(gradients.norm, np.linalg.norm(by_hand(log_p, labels), axis=-1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", _network.KINDS)
def test_hard_label_loss_is_the_learned_loss_without_calibration(batch, kind):
    """What evolution scores is what users get."""
    log_p, labels = batch
    network = loss.NetworkConfig(kind=kind, hidden=(6,) if kind == "table" else (6, 5))
    params = random_params(8, network)
    artifact = loss.Artifact(network, params, loss.Calibration(tail_log_p=-50.0), 10 if kind == "joint" else None)
    scored = jax.jit(lambda z: _network.hard_label_loss(network, params, z, labels))(log_p)
    np.testing.assert_allclose(loss.learned_loss(artifact)(log_p, labels), scored, rtol=1e-4, atol=1e-5)


@functools.cache
def charged(network, weights):
    """Return the program of the penalty of an architecture: which weights are 0 decides what it computes."""
    return jax.jit(lambda params, log_p, labels: penalty(network, params, log_p, labels, **OFF | dict(weights)))


def value(network, batch, **weights):
    return float(charged(network[0], tuple(weights.items()))(network[1], *batch))


@pytest.mark.parametrize(
    "kind", ["joint", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("monotone", "pairwise"))]
)
def test_gradients_of_every_kind(batch, kind):
    """By central differences along the steepest direction, in float64; a monotone network pulls no wrong way."""
    log_p, labels = (x[:32] for x in batch)
    network = loss.NetworkConfig(kind=kind, hidden=(6, 5))
    params = random_params(8, network)
    with jax.enable_x64(True):
        z, labels = jnp.asarray(np.asarray(log_p, np.float64)), jnp.asarray(np.asarray(labels))
        of_logits = jax.jit(lambda x: _network.hard_label_loss(network, params, jax.nn.log_softmax(x), labels))
        gradients = jax.jit(lambda x: network_gradients(network, params, x, labels))(z)
        slopes = []
        for c in range(10):
            step = jnp.zeros(z.shape).at[:, c].set(1e-5)
            slopes.append((of_logits(z + step) - of_logits(z - step)) / 2e-5)
        norm = np.linalg.norm(np.stack(slopes), axis=0)
    np.testing.assert_allclose(gradients.norm, norm, rtol=1e-5, atol=1e-8)
    assert (np.max(np.asarray(gradients.wrong_way)) <= 1e-12) == (kind == "monotone")


def test_regularisers_of_weight_zero_are_not_computed(batch):
    network, params = cross_entropy_network()
    nan = jax.tree.map(lambda x: x * np.nan, params)
    assert value((network, nan), batch) == 0.0
    operations = {
        name: str(jax.make_jaxpr(lambda w=weights: penalty(network, params, *batch, **{**OFF, **w}))())
        for name, weights in {
            "none": {},
            "wrong_way": {"wrong_way": 1.0},
            "exploding": {"exploding": 1.0},
            "roughness": {"roughness": 1.0},
        }.items()
    }
    assert "dot_general" not in operations["none"]
    for name in ("wrong_way", "roughness"):
        assert f" {EXPLODING_LIMIT}" not in operations[name], name


def test_cross_entropy_is_charged_nothing(batch):
    for name in ("wrong_way", "exploding", "roughness"):
        assert value(cross_entropy_network(), batch, **{name: 1.0}) == pytest.approx(0.0, abs=1e-5), name


def test_each_regulariser_finds_what_it_is_for(batch):
    steep = cross_entropy_network(start=8.0)  # 0 but for the last unit of ln p_t: s_l is small, its slope is 1
    log_p, labels = batch
    gradients = jax.jit(lambda z: network_gradients(*steep, z, labels))(log_p)
    excess = np.maximum(np.asarray(gradients.norm) / float(gradients.scale) - EXPLODING_LIMIT, 0.0)
    assert excess.mean() > 0.0
    assert value(steep, batch, exploding=2.0) == pytest.approx(2.0 * excess.mean(), rel=1e-4)

    assert value(cross_entropy_network(sign=-1.0), batch, wrong_way=1.0) > 0.1
    doubled = value(cross_entropy_network(sign=-1.0), batch, wrong_way=2.0)
    assert doubled == pytest.approx(2.0 * value(cross_entropy_network(sign=-1.0), batch, wrong_way=1.0), rel=1e-5)

    # 1 - p_t bends in ln p_t, a late kink bends more.
    assert 0.0 < value(error_network(), batch, roughness=1.0) < value(steep, batch, roughness=1.0)


def test_regularisers_do_not_depend_on_the_scale_of_the_loss(batch):
    network, params = cross_entropy_network(sign=-1.0, start=8.0)
    tenfold = {**params, "Dense_1": {"kernel": 10.0 * params["Dense_1"]["kernel"], "bias": params["Dense_1"]["bias"]}}
    for name in ("wrong_way", "exploding", "roughness"):
        once = value((network, params), batch, **{name: 1.0})
        assert once > 0.0
        assert value((network, tenfold), batch, **{name: 1.0}) == pytest.approx(once, rel=1e-4)
