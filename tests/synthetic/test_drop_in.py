"""Drop-in calibration: cross-entropy's gradient norm, a minimum of 0, a tail."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_losses import TRAINED, cross_entropy_network, mixture_of, one_unit, random_params, uncalibrated

from edl_jax import loss
from edl_jax.loss import registry as _registry
from edl_jax.loss.networks import kinds as _network, table as _table
from edl_jax.synthetic import calibrate, draw_predictions, drop_in as calibration, gradient_norm_ratio
from edl_jax.synthetic.gradients import loss_gradients

MIXTURE = mixture_of(TRAINED)
KNOTS = 65
NETWORKS = {
    kind: loss.NetworkConfig(kind=kind, hidden=(KNOTS,) if kind == "table" else (6, 6)) for kind in _network.KINDS
}


@pytest.fixture(scope="module")
def artifact():
    """Return a trained network, calibrated anew as a run does it (but for C = 1000, the dearest to draw)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "NUM_CLASSES", (2, 10, 100))
        calibrated = calibrate(jax.random.key(9), TRAINED.network, TRAINED.params, MIXTURE)
    return dataclasses.replace(TRAINED, calibration=calibrated)


@pytest.fixture
def small(monkeypatch):
    """Measure on few predictions of one number of classes: for what holds at any sample size."""
    monkeypatch.setattr(calibration, "_VALUES", 1 << 13)
    monkeypatch.setattr(calibration, "_LEAST", 512)
    monkeypatch.setattr(calibration, "NUM_CLASSES", (10,))


def measured_ratio(seed, artifact, num_classes):
    """Return the ratio of mean gradient norms on held-out predictions, and the standard error of that ratio."""
    count = max((1 << 18) // num_classes, 2048)
    labels, log_p = draw_predictions(jax.random.key(seed), MIXTURE, num_classes, count)
    norms, reference = (
        np.asarray(jax.jit(lambda z, f=f: loss_gradients(lambda x: f(x, labels), z, labels).norm)(log_p), np.float64)
        for f in (loss.learned_loss(artifact), loss.cross_entropy)
    )
    ratio = norms.mean() / reference.mean()
    return ratio, np.std(norms - ratio * reference) / reference.mean() / np.sqrt(count)


# Calibration and this measurement err by one standard error each; it is that of a mean over 2^18 / C predictions,
# so it grows with C: four times the error of the difference is at most the limit given here.
@pytest.mark.parametrize(
    ("num_classes", "limit"), [(2, 0.02), (10, 0.02), pytest.param(100, 0.08, marks=pytest.mark.slow)]
)
def test_gradient_norm_is_cross_entropys_on_held_out_keys(artifact, num_classes, limit):
    ratio, error = measured_ratio(77, artifact, num_classes)
    tolerance = 4.0 * np.sqrt(2.0) * error
    assert tolerance < limit
    assert ratio == pytest.approx(1.0, abs=tolerance)
    if num_classes == 10:
        assert gradient_norm_ratio(jax.random.key(77), artifact, MIXTURE, 10) == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize("name", _registry._priors())
@pytest.mark.parametrize("seed", [1, 2])
def test_a_shipped_prior_has_cross_entropys_gradient_norm(name, seed):
    prior = loss.load_artifact(name)
    assert gradient_norm_ratio(jax.random.key(1_000 + seed), prior, mixture_of(prior), 10) == pytest.approx(
        1.0, abs=0.02
    )


def test_the_minimum_is_zero_on_held_out_keys(artifact):
    labels, log_p = draw_predictions(jax.random.key(78), MIXTURE, 10, (1 << 18) // 10)
    values = loss.learned_loss(artifact)(log_p, labels)
    assert abs(float(jnp.min(values))) < 0.01 * float(jnp.std(values))


def test_knots_are_the_measured_numbers_of_classes(artifact):
    c = artifact.calibration
    assert c.num_classes == (2.0, 10.0, 100.0)
    assert TRAINED.calibration.num_classes == calibration.NUM_CLASSES == (2, 10, 100, 1000)
    assert all(scale > 0.0 for scale in c.scale)
    assert c.tail_log_p == MIXTURE.log_p_min


def test_the_tail_goes_on_straight(artifact):
    """Value and slope are continuous at the smallest ln p_t of training; below it the value is a line."""

    def value(log_p):
        """Return the loss at C = 2 and this ln p_t, in logits whose gap gives it."""
        gap = -jnp.log(jnp.expm1(-log_p))  # ln (p / (1 - p))
        return loss.learned_loss(artifact)(jnp.stack([gap, 0.0 * gap], axis=-1), jnp.zeros(gap.shape, jnp.int32))

    with jax.enable_x64(True):
        start = artifact.calibration.tail_log_p
        above, below, far = (
            jax.jvp(value, (x,), (jnp.ones_like(x),)) for x in map(jnp.float64, (start + 1e-6, start - 1e-6, -3e2))
        )
    np.testing.assert_allclose(above[0], below[0], rtol=1e-4)
    np.testing.assert_allclose(above[1], below[1], rtol=1e-3)
    # Only the wrong class's part, p_j near 1, still bends just below the knot.
    np.testing.assert_allclose(far[1], artifact.calibration.tail_slope * artifact.calibration.scale[0], rtol=1e-5)


def test_a_network_that_is_cross_entropy_becomes_cross_entropy(small):
    network, params = cross_entropy_network(sign=0.037)
    calibrated = calibrate(jax.random.key(0), network, params, MIXTURE)
    drop_in = loss.learned_loss(loss.Artifact(network, params, calibrated))
    assert -0.1 < calibrated.shift[0] <= 0.0  # the best of a few hundred predictions is near p_t = 1, not at it
    labels = jnp.zeros(9, jnp.int32)
    for num_classes in (2, 10):
        logits = np.zeros((9, num_classes), np.float32)
        logits[:, 1] = [-1e4, -20.0, -1.0, 0.0, 1.0, 5.0, 20.0, 100.0, 1e4]
        expected = loss.cross_entropy(logits, labels)
        np.testing.assert_allclose(drop_in(logits, labels), expected + calibrated.shift[0], rtol=1e-4, atol=1e-4)


def test_calibration_undoes_scale_and_offset(small):
    network = loss.NetworkConfig(hidden=(6,))
    params = jax.jit(_network.init, static_argnums=1)(jax.random.key(5), network)
    head = params["Dense_1"]
    moved = {**params, "Dense_1": {"kernel": 20.0 * head["kernel"], "bias": 20.0 * head["bias"]}}
    one, other = (calibrate(jax.random.key(0), network, p, MIXTURE) for p in (params, moved))
    np.testing.assert_allclose(20.0 * np.array(other.scale), one.scale, rtol=1e-4)
    np.testing.assert_allclose(other.shift, one.shift, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(other.tail_slope, 20.0 * one.tail_slope, rtol=1e-4)


def test_a_dead_network_gets_a_finite_calibration(small, tmp_path):
    network, params = one_unit([0.0, 0.0, 0.0], 0.0, 0.0)
    dead = loss.Artifact(network, params, calibrate(jax.random.key(0), network, params, MIXTURE))
    loss.save(dead, tmp_path / "dead.safetensors")
    np.testing.assert_array_equal(loss.load(tmp_path / "dead.safetensors")(jnp.eye(3), jnp.arange(3)), jnp.zeros(3))


def test_gradient_norm_ratio_of_a_multiple_of_cross_entropy(small):
    tripled = uncalibrated(*cross_entropy_network(sign=3.0))
    assert gradient_norm_ratio(jax.random.key(0), tripled, MIXTURE, 10) == pytest.approx(3.0, rel=1e-4)


@pytest.fixture(scope="module")
def of_each_kind():
    """Return an artifact of every kind, with random parameters, calibrated on a small sample at C = 10."""
    artifacts = {}
    for kind, network in NETWORKS.items():
        params, only = random_params(1, network), 10 if kind == "joint" else None
        if kind == "table":  # 1 - sqrt(p)
            log_p = np.linspace(-9.2, 0.0, KNOTS)
            params = _table.params_of(-9.2, 1.0 - np.exp(0.5 * log_p), -0.5 * np.exp(0.5 * log_p))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calibration, "_VALUES", 1 << 15)
            if only is None:
                patch.setattr(calibration, "NUM_CLASSES", (10,))
            found = calibrate(jax.random.key(9), network, params, MIXTURE, only)
        artifacts[kind] = loss.Artifact(network, params, found, only)
    return artifacts


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kind_has_cross_entropys_gradient_norm_on_held_out_keys(kind, of_each_kind, monkeypatch):
    """A joint network at its own number of classes alone."""
    monkeypatch.setattr(calibration, "_VALUES", 1 << 15)
    artifact = of_each_kind[kind]
    c = artifact.calibration
    assert (c.num_classes, len(c.scale), len(c.shift)) == ((10.0,), 1, 1)
    assert gradient_norm_ratio(jax.random.key(77), artifact, MIXTURE, 10) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kind_has_its_minimum_at_zero(kind, of_each_kind):
    """On the predictions that it is measured on; a random network's minimum is a rare prediction elsewhere."""
    labels, log_p = draw_predictions(
        jax.random.fold_in(jax.random.key(9), 10), MIXTURE, 10, max((1 << 15) // 10, calibration._LEAST)
    )
    values = np.asarray(loss.learned_loss(of_each_kind[kind])(log_p, labels))
    assert abs(values.min()) < 1e-4 * values.std()


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_kinds_tail_begins_without_a_kink(kind, of_each_kind):
    """Along ln p_t, the other classes equal: the line below the tail's start has the slope above it."""
    artifact = of_each_kind[kind]
    function = loss.learned_loss(artifact)

    def value(log_p_t):
        rest = jnp.log(-jnp.expm1(log_p_t)) - jnp.log(9.0)
        return function(jnp.append(log_p_t, jnp.broadcast_to(rest, (9,))), jnp.int32(0))

    with jax.enable_x64(True):
        start = artifact.calibration.tail_log_p
        above, below = (jax.jvp(value, (jnp.float64(x),), (jnp.float64(1.0),)) for x in (start + 1e-6, start - 1e-6))
    assert start == MIXTURE.log_p_min
    np.testing.assert_allclose(above, below, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["pairwise", "joint"])
def test_losses_of_one_architecture_share_their_programs(kind, of_each_kind, monkeypatch, compilations):
    monkeypatch.setattr(calibration, "_VALUES", 1 << 15)
    monkeypatch.setattr(calibration, "NUM_CLASSES", (10,))
    first = of_each_kind[kind]
    params = random_params(2, first.network)
    with compilations() as counts:
        found = calibrate(jax.random.key(0), first.network, params, MIXTURE, first.num_classes)
        gradient_norm_ratio(
            jax.random.key(2), loss.Artifact(first.network, params, found, first.num_classes), MIXTURE, 10
        )
    assert counts["jit(_measure)"] == counts["jit(_slope)"] == 0, counts
    assert found.scale != first.calibration.scale


def test_artifacts_are_frozen(artifact):
    with pytest.raises(dataclasses.FrozenInstanceError):
        artifact.num_classes = 3
