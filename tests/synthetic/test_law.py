"""The law of p_t in closed form, and the optimum that it gives: that of a sample, without its noise."""

import dataclasses

import jax
import numpy as np
import pytest
from known_losses import only

from edl_jax import loss
from edl_jax.synthetic import MixtureConfig, draw_predictions, drop_in as calibration, optimum
from edl_jax.synthetic.law import OF_P_T, Law, Position, law_of
from edl_jax.synthetic.mixture import COMPONENTS
from edl_jax.synthetic.optimum_loss import optimum_artifact

KNOTS = (-7.0, -3.0, -1.0, -0.2)
EVERY = MixtureConfig(**dict.fromkeys(COMPONENTS, 1.0), designed_log_p=KNOTS)
COUNT = 1 << 15
LOG_P = np.linspace(-8.9, -0.01, 300)


def mixture_of(name):
    return dataclasses.replace(only(**{name: 1.0}), designed_log_p=KNOTS)


@pytest.mark.parametrize("num_classes", [2, 10])
def test_it_is_the_law_of_what_is_drawn(num_classes):
    """Every component is in the mixture; that each has its own law is tried below."""
    labels, log_p = (np.asarray(x) for x in draw_predictions(jax.random.key(0), EVERY, num_classes, COUNT))
    drawn = np.sort(log_p[np.arange(COUNT), labels].astype(np.float64))
    above = 1.0 - (np.arange(COUNT) + 0.5) / COUNT
    # Kolmogorov: exceeded once in ten thousand samples.
    assert np.max(np.abs(Law(EVERY, num_classes).rank(drawn) - above)) < 2.2 / np.sqrt(COUNT)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
@pytest.mark.parametrize("name", COMPONENTS)
def test_ranks_fall_and_the_density_is_their_slope(name, num_classes):
    law = Law(mixture_of(name), num_classes)
    assert np.all(np.diff(law.rank(LOG_P)) <= 0.0)
    np.testing.assert_allclose(law.rank([-80.0, 0.0]), [1.0, 0.0], atol=1e-12)
    slope = (law.rank(LOG_P - 1e-6) - law.rank(LOG_P + 1e-6)) / 2e-6
    np.testing.assert_allclose(law.density(LOG_P), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("mixture", "p", "rank"),
    [
        (only(uniform=1.0), 0.3, 0.7**9),
        (only(confident_right=1.0), 0.5, 1.0 - 0.5**4),
        (only(confident_wrong=1.0), 0.1, 0.9**5),
        (only(log_uniform=1.0), np.exp(-3.0), 1.0 / 3.0),
        (mixture_of("designed"), np.exp(-2.0), 0.5),
    ],
    ids=["uniform", "confident_right", "confident_wrong", "log_uniform", "designed"],
)
def test_ranks_that_are_known_by_hand(mixture, p, rank):
    np.testing.assert_allclose(Law(mixture, 10).rank(np.log(p)), rank, rtol=1e-12)


@pytest.mark.parametrize(
    ("mixture", "severity"),
    [
        (MixtureConfig(), "brier"),
        (MixtureConfig(designed=1.0, designed_log_p=(-2.0, -1.0, -1.0)), "error"),  # an atom
        (dataclasses.replace(only(near_uniform=1.0), flatness=1e6), "error"),  # nearly one
    ],
    ids=["severity", "atom", "narrow"],
)
def test_what_needs_a_sample_has_no_law(mixture, severity):
    assert law_of(mixture, severity, 10) is None


@pytest.mark.parametrize("severity", OF_P_T)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_bins_hold_the_whole_law_in_order(severity, share):
    position = Position.of(law_of(MixtureConfig(), severity, 10), severity, share)
    at, e, mass = position.bins(64)
    assert np.all(np.diff(at) > 0.0)
    assert np.all(np.diff(e) > 0.0)
    np.testing.assert_allclose(mass.sum(), 1.0, rtol=1e-12)
    of, _, back = OF_P_T[severity]
    np.testing.assert_allclose(back(of(LOG_P)), LOG_P, rtol=1e-9)
    numeric = (position(LOG_P + 1e-6) - position(LOG_P - 1e-6)) / 2e-6
    np.testing.assert_allclose(position.slope(LOG_P), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("severity", "beta", "margin"), [("error", 1.0, 0.0), ("nll", 10.0, 1.0)])
def test_the_optimum_is_that_of_a_sample_within_its_error(severity, beta, margin):
    rng = np.random.default_rng(0)
    drawn = np.interp(rng.uniform(size=1 << 17), *reversed(table()))
    sampled = optimum.from_severities(OF_P_T[severity][0](drawn), severity, beta=beta, margin=margin)
    exact = optimum.solve(MixtureConfig(), severity, 10, beta=beta, margin=margin)
    np.testing.assert_allclose(exact.fitness, sampled.fitness, rtol=2e-3 if margin else 1e-4)
    e = OF_P_T[severity][0](LOG_P)
    np.testing.assert_allclose(exact.loss_of_severity(e), sampled.loss_of_severity(e), atol=0.02)
    assert np.all(np.diff(exact.curve(LOG_P)) < 0.0)
    numeric = (exact.curve(LOG_P + 1e-6) - exact.curve(LOG_P - 1e-6)) / 2e-6
    np.testing.assert_allclose(exact.curve.slope(LOG_P), numeric, rtol=1e-5)


def table():
    """Return ln p_t, ascending, and the share of predictions below each."""
    log_p = np.linspace(-9.0, -1e-6, 1 << 15)
    return log_p, 1.0 - Law(MixtureConfig(), 10).rank(log_p)


def changes(values):
    """Return how often the sign of a sequence changes."""
    signs = np.sign(values)
    signs = signs[signs != 0.0]
    return int(np.sum(signs[1:] != signs[:-1]))


def check_smooth(function):
    _, norms = loss.margin_profile(function, np.linspace(-6.0, 2.0, 401))
    assert changes(np.diff(norms)) <= 4
    assert changes(np.diff(norms, 2)) <= 16


def test_its_gradient_is_smooth(monkeypatch):
    """A table of sampled severities turned 192 times here, and was bent 217 times."""
    monkeypatch.setattr(calibration, "_VALUES", 1 << 12)
    monkeypatch.setattr(calibration, "NUM_CLASSES", (10,))
    solved = optimum.solve(MixtureConfig(), "error", 10)
    artifact = optimum_artifact(jax.random.key(0), solved, MixtureConfig())
    check_smooth(loss.learned_loss(artifact))
    # The table is the curve itself, up to scale and offset.
    _, norms = loss.margin_profile(loss.learned_loss(artifact), np.linspace(-6.0, 8.0, 200))
    log_p = -np.log1p(9.0 * np.exp(-np.linspace(-6.0, 8.0, 200)))
    exact = -solved.curve.slope(log_p) * -np.expm1(log_p)
    np.testing.assert_allclose(norms / exact, np.mean(norms / exact), rtol=1e-3)


def test_the_gradient_of_the_shipped_optimum_is_smooth():
    check_smooth(loss.get("edl_optimum"))


def test_the_shipped_optimum_is_that_of_the_default_mixture():
    stored = loss.load_artifact("edl_optimum")
    exact = optimum.solve(MixtureConfig(), "error", 10)
    assert stored.metadata["metrics"]["fitness"] == pytest.approx(exact.fitness, rel=1e-6)
