"""What a loss looks like: R^2 with known losses and with the optimum over the mixture."""

import jax
import numpy as np
import pytest
from known_losses import (
    TRAINED,
    cross_entropy_network,
    error_network,
    mixture_of,
    one_unit,
    only,
    random_params,
    uncalibrated,
)

from edl_jax import loss
from edl_jax.synthetic import SEVERITIES, draw_predictions, optimum, shape_report
from edl_jax.synthetic.shape import r_squared

MIXTURE = mixture_of(TRAINED)


@pytest.mark.parametrize(("name", "network"), [("cross_entropy", cross_entropy_network()), ("error", error_network())])
def test_a_known_loss_has_r_squared_one_with_itself(name, network):
    report = shape_report(jax.random.key(0), uncalibrated(*network), MIXTURE, SEVERITIES["margin"], 10)
    assert set(report) == {"cross_entropy", "brier", "error", "severity", "severity_cdf"}
    assert report[name] == pytest.approx(1.0, abs=1e-5)
    assert all(0.0 <= value < 0.99 for other, value in report.items() if other != name), report


@pytest.mark.parametrize("severity", ["error", "nll"])
def test_the_mixture_is_the_shape_of_the_optimum(severity):
    """At m = 0 the optimum is the severity's distribution function: known in closed form for these two mixtures."""
    steps = SEVERITIES[severity]
    log_uniform = shape_report(
        jax.random.key(0), uncalibrated(*cross_entropy_network()), only(log_uniform=1.0), steps, 10
    )
    uniform = shape_report(jax.random.key(0), uncalibrated(*error_network()), only(uniform=1.0), steps, 2)
    assert log_uniform["severity_cdf"] > 0.999
    assert uniform["severity_cdf"] > 0.999


def test_a_constant_loss_resembles_nothing():
    dead = uncalibrated(*one_unit([0.0, 0.0, 0.0], 0.0, 0.0))
    report = shape_report(jax.random.key(0), dead, MIXTURE, SEVERITIES["error"], 10)
    assert set(report.values()) == {0.0}


@pytest.mark.parametrize(("beta", "margin"), [(1.0, 0.0), (10.0, 1.0)])
def test_r_squared_with_the_optimum(beta, margin):
    """The optimum is near cross-entropy for log-uniform p_t at m = 0, and the severity itself at m = 1, large beta."""
    mixture = only(log_uniform=1.0)
    labels, log_p = draw_predictions(jax.random.key(1), mixture, 10, 1 << 13)
    e = np.asarray(SEVERITIES["error"](log_p, labels), np.float64)
    best = optimum.from_severities(e, "error", beta=beta, margin=margin, bins=64)
    reports = {
        name: shape_report(jax.random.key(0), uncalibrated(*network), mixture, SEVERITIES["error"], 10, best)
        for name, network in {"cross_entropy": cross_entropy_network(), "error": error_network()}.items()
    }
    near, far = ("cross_entropy", "error") if margin == 0.0 else ("error", "cross_entropy")
    assert reports[near]["optimum"] > (0.999 if margin == 0.0 else 0.98)
    assert reports[far]["optimum"] < 0.8
    assert list(reports[near]) == ["optimum", "cross_entropy", "brier", "error", "severity", "severity_cdf"]


@pytest.mark.parametrize("kind", ["joint", "pairwise"])
def test_losses_that_are_not_separable_have_a_shape(kind, compilations):
    """And losses of one architecture share a program."""
    network, num_classes = loss.NetworkConfig(kind=kind, hidden=(5,)), 4 if kind == "joint" else None
    reports = []
    for i in range(3):
        artifact = loss.Artifact(network, random_params(i, network, 4), loss.Calibration(), num_classes)
        with compilations() as counts:
            reports.append(shape_report(jax.random.key(0), artifact, MIXTURE, SEVERITIES["error"], 4))
    assert counts.total() == 0, counts
    assert all(0.0 <= value <= 1.0 for report in reports for value in report.values())
    assert reports[0]["cross_entropy"] != reports[1]["cross_entropy"]


def test_r_squared_is_that_of_a_straight_line():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(500)
    y = 0.5 * x + rng.standard_normal(500)
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    assert r_squared(x, y) == pytest.approx(1.0 - residual.var() / y.var(), rel=1e-12)
    assert r_squared(x, -3.0 * x + 7.0) == pytest.approx(1.0)
    assert r_squared(x, np.full(500, 2.0)) == r_squared(np.zeros(500), x) == 0.0
