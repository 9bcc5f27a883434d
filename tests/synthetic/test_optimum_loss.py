"""The optimum of the ranking objective as a loss: its shape, its size, and what cannot be one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_losses import only
from scipy import special

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.synthetic import SEVERITIES, drop_in as calibration, gradient_norm_ratio, optimum, shape_report
from edl_jax.synthetic.optimum_loss import OF_P_T, optimum_artifact

LOG_UNIFORM, UNIFORM = only(log_uniform=1.0), only(uniform=1.0)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Calibrate on few predictions of one number of classes."""
    monkeypatch.setattr(calibration, "_VALUES", 1 << 15)
    monkeypatch.setattr(calibration, "NUM_CLASSES", (10,))


@functools.cache
def best(name, severity="error", beta=1.0, margin=0.0):
    """Return the optimum for severities at exact quantiles: log-uniform p_t, or uniform p_t (C = 2)."""
    quantile = (np.arange(1 << 14) + 0.5) / (1 << 14)
    log_p = {"log_uniform": -9.0 * quantile, "uniform": np.log(quantile)}[name]
    severities = {"error": -np.expm1(log_p), "nll": -log_p}[severity]
    return optimum.from_severities(severities, severity, beta=beta, margin=margin)


def values(artifact, p_t):
    """Return the loss at probabilities `[N]` of the true class, C = 2."""
    logits = jnp.asarray(np.stack([special.logit(p_t), np.zeros_like(p_t)], axis=-1), jnp.float32)
    return np.asarray(loss.learned_loss(artifact)(logits, jnp.zeros(len(p_t), jnp.int32)), np.float64)


@pytest.mark.parametrize("severity", OF_P_T)
def test_of_log_uniform_p_t_it_is_cross_entropy(severity):
    """It trains like it too: the same mean gradient norm, and the same gradient from end to end but for a fifth."""
    artifact = optimum_artifact(jax.random.key(0), best("log_uniform", severity), LOG_UNIFORM)
    assert artifact.network.kind == "table"
    report = shape_report(jax.random.key(1), artifact, LOG_UNIFORM, SEVERITIES[severity], 10)
    assert report["cross_entropy"] > 0.999
    assert gradient_norm_ratio(jax.random.key(2), artifact, LOG_UNIFORM, 10) == pytest.approx(1.0, abs=0.03)
    logits = jnp.stack([-jnp.linspace(-2.0, 8.0, 11), jnp.zeros(11)], axis=-1)
    ratio = [
        jax.jit(jax.grad(lambda z, f=f: jnp.sum(f(z, jnp.zeros(11, jnp.int32)))))(logits)[:, 0]
        for f in (loss.learned_loss(artifact), loss.cross_entropy)
    ]
    np.testing.assert_allclose(ratio[0] / ratio[1], 1.0, atol=0.25)
    # Far outside the mixture it goes on as cross-entropy does.
    far = values(artifact, np.exp(-np.array([20.0, 40.0, 60.0])))
    np.testing.assert_allclose(np.diff(far) / 20.0, far[2] / 60.0, rtol=0.1)
    assert np.all(np.diff(far) > 0.0)


def test_of_uniform_p_t_it_is_a_line_in_p_t():
    artifact = optimum_artifact(jax.random.key(0), best("uniform"), UNIFORM)
    p_t = np.linspace(0.02, 0.98, 49)
    found = values(artifact, p_t)
    assert np.corrcoef(found, p_t)[0, 1] < -0.9995
    assert np.all(np.diff(found) < 0.0)
    report = shape_report(jax.random.key(1), artifact, UNIFORM, SEVERITIES["error"], 2)
    assert report["error"] > 0.999
    assert report["cross_entropy"] < 0.9


@pytest.mark.parametrize("severity", OF_P_T)
@pytest.mark.parametrize("name", ["log_uniform", "uniform"])
def test_the_table_is_the_optimum(name, severity):
    """Up to scale and offset, between the knots too, and for any m."""
    solved = best(name, severity, 10.0, 1.0)
    mixture = {"log_uniform": LOG_UNIFORM, "uniform": UNIFORM}[name]
    artifact = optimum_artifact(jax.random.key(0), solved, mixture)
    log_p = np.linspace(-8.9, -0.003, 333)
    exact = solved.loss_of_severity(-np.expm1(log_p) if severity == "error" else -log_p)
    found = values(artifact, np.exp(log_p))
    fit = np.polyval(np.polyfit(exact, found, 1), exact)
    assert np.max(np.abs(found - fit)) < 2e-3 * np.ptp(fit)
    assert np.all(np.diff(found) <= 1e-5)


def test_it_is_a_loss_like_any_other(tmp_path):
    artifact = optimum_artifact(jax.random.key(0), best("log_uniform"), LOG_UNIFORM)
    path = tmp_path / "optimum.safetensors"
    loss.save(artifact, path)
    p_t = np.linspace(0.01, 0.99, 9)
    np.testing.assert_array_equal(values(loss.load_artifact(path), p_t), values(artifact, p_t))
    assert artifact.num_classes is None
    logits = jax.random.normal(jax.random.key(3), (4, 1000))
    assert jnp.all(jnp.isfinite(loss.load(path)(logits, jnp.arange(4))))


@pytest.mark.parametrize("severity", sorted({*SEVERITIES} - {*OF_P_T}))
def test_a_severity_that_is_no_function_of_p_t(severity):
    solved = optimum.from_severities(np.linspace(0.0, 1.0, 100), severity)
    with pytest.raises(UserError, match=f"severity {severity} is no function of p_t alone: expected error or nll"):
        optimum_artifact(jax.random.key(0), solved, LOG_UNIFORM)
