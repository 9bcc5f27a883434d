"""Drop-in calibration: cross-entropy's gradient norm, a minimum of 0, a tail; and what a loss looks like."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_losses import cross_entropy_network, error_network, one_unit, only, uncalibrated

from edl_jax import loss
from edl_jax.loss import _network
from edl_jax.synthetic import (
    SEVERITIES,
    MixtureConfig,
    calibrate,
    calibration,
    draw_predictions,
    gradient_norm_ratio,
    shape_report,
)
from edl_jax.synthetic.gradients import loss_gradients

PRIOR = loss.load_artifact("edl")
MIXTURE = MixtureConfig(**PRIOR.metadata["config"]["mixture"])


@pytest.fixture(scope="module")
def artifact():
    """Return a trained network, calibrated anew as a run does it (but for C = 1000, the dearest to draw)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "NUM_CLASSES", (2, 10, 100))
        calibrated = calibrate(jax.random.key(9), PRIOR.network, PRIOR.params, MIXTURE)
    return dataclasses.replace(PRIOR, calibration=calibrated)


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
@pytest.mark.parametrize(("num_classes", "limit"), [(2, 0.02), (10, 0.02), (100, 0.08)])
def test_gradient_norm_is_cross_entropys_on_held_out_keys(artifact, num_classes, limit):
    ratio, error = measured_ratio(77, artifact, num_classes)
    tolerance = 4.0 * np.sqrt(2.0) * error
    assert tolerance < limit
    assert ratio == pytest.approx(1.0, abs=tolerance)
    if num_classes == 10:
        assert gradient_norm_ratio(jax.random.key(77), artifact, MIXTURE, 10) == pytest.approx(ratio, rel=1e-4)


def shipped():
    return [name for name in loss.names() if name not in ("brier", "cross_entropy", "label_smoothing")]


@pytest.mark.parametrize("name", shipped())
@pytest.mark.parametrize("seed", [1, 2])
def test_a_shipped_prior_has_cross_entropys_gradient_norm(name, seed):
    prior = loss.load_artifact(name)
    mixture = MixtureConfig(**prior.metadata["config"]["mixture"])
    assert gradient_norm_ratio(jax.random.key(1_000 + seed), prior, mixture, 10) == pytest.approx(1.0, abs=0.02)


def test_the_minimum_is_zero_on_held_out_keys(artifact):
    labels, log_p = draw_predictions(jax.random.key(78), MIXTURE, 10, (1 << 18) // 10)
    values = loss.learned_loss(artifact)(log_p, labels)
    assert abs(float(jnp.min(values))) < 0.01 * float(jnp.std(values))


def test_knots_are_the_measured_numbers_of_classes(artifact):
    c = artifact.calibration
    assert c.num_classes == (2.0, 10.0, 100.0)
    assert PRIOR.calibration.num_classes == calibration.NUM_CLASSES == (2, 10, 100, 1000)
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


@pytest.mark.parametrize(("name", "network"), [("cross_entropy", cross_entropy_network()), ("error", error_network())])
def test_a_known_loss_has_r_squared_one_with_itself(small, name, network):
    report = shape_report(jax.random.key(0), uncalibrated(*network), MIXTURE, SEVERITIES["margin"], 10)
    assert set(report) == {"cross_entropy", "brier", "error", "severity", "severity_cdf"}
    assert report[name] == pytest.approx(1.0, abs=1e-5)
    assert all(0.0 <= value < 0.99 for other, value in report.items() if other != name), report


@pytest.mark.parametrize("severity", ["error", "nll"])
def test_the_mixture_is_the_shape_of_the_optimum(small, severity):
    """At m = 0 the optimum is the severity's distribution function: known in closed form for these two mixtures."""
    steps = SEVERITIES[severity]
    log_uniform = shape_report(
        jax.random.key(0), uncalibrated(*cross_entropy_network()), only(log_uniform=1.0), steps, 10
    )
    uniform = shape_report(jax.random.key(0), uncalibrated(*error_network()), only(uniform=1.0), steps, 2)
    assert log_uniform["severity_cdf"] > 0.999
    assert uniform["severity_cdf"] > 0.999


def test_a_constant_loss_resembles_nothing(small):
    dead = uncalibrated(*one_unit([0.0, 0.0, 0.0], 0.0, 0.0))
    report = shape_report(jax.random.key(0), dead, MIXTURE, SEVERITIES["error"], 10)
    assert set(report.values()) == {0.0}


def test_artifacts_are_frozen(artifact):
    with pytest.raises(dataclasses.FrozenInstanceError):
        artifact.num_classes = 3
