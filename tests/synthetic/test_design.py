"""Mixtures by design: the law of p_t, the shape it gives back, and the losses that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.synthetic import COMPONENTS, design, optimum
from edl_jax.synthetic.severity import true_class

LOG_P_MIN = -9.0
# Losses as functions of ln p_t.
TARGETS = {
    "cross_entropy": lambda x: -x,
    "focal": lambda x: np.square(np.expm1(x)) * -x,
    "gce": lambda x: -np.expm1(0.7 * x) / 0.7,
    "poly1": lambda x: -x - 2.0 * np.expm1(x),
    "mae": lambda x: -np.expm1(x),
}


def as_loss(function):
    """Return a function of ln p_t as a loss."""

    def of_p_t(logits, labels):
        log_p, is_true = jax.nn.log_softmax(logits), jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
        rest = jnp.sum(jnp.where(is_true, 0.0, jnp.exp(log_p)), axis=-1)  # precise near certainty
        return function(jnp.where(rest < 0.5, jnp.log1p(-rest), true_class(log_p, labels)))

    return of_p_t


def draw(mixture, count=1 << 15):
    """Return ln p_t of the designed component at equally spaced quantiles."""
    knots = mixture.designed_log_p
    return np.interp((np.arange(count) + 0.5) / count, np.linspace(0.0, 1.0, len(knots)), knots)


def r_squared(x, y):
    return np.corrcoef(x, y)[0, 1] ** 2


@pytest.mark.parametrize(("name", "power"), [("cross_entropy", 0.0), ("gce", 0.7), ("mae", 1.0)])
def test_the_law_of_p_t_for_small_beta(name, power):
    """Density proportional to -dl/dp_t: uniform ln p_t, uniform p_t^q, uniform p_t."""
    mixture = design.mixture_for(loss.get(name), beta=1e-3, knots=9)
    expected = np.linspace(LOG_P_MIN, 0.0, 9)
    if power:
        expected = np.log(np.linspace(np.exp(power * LOG_P_MIN), 1.0, 9)) / power
    np.testing.assert_allclose(mixture.designed_log_p, expected, atol=2e-4)
    assert [name for name in COMPONENTS if getattr(mixture, name) > 0.0] == ["designed"]


@pytest.mark.parametrize("severity", ["error", "nll"])
@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("name", TARGETS)
def test_the_optimum_of_the_mixture_is_the_target(name, beta, severity):
    function = TARGETS[name]
    mixture = design.mixture_for(
        loss.get(name, **{"focal": {"gamma": 2.0}, "poly1": {"epsilon": 2.0}}.get(name, {})), beta=beta
    )
    of_p_t = {"error": lambda x: -np.expm1(x), "nll": lambda x: -x}[severity]
    best = optimum.from_severities(of_p_t(draw(mixture)), severity, beta=beta)
    everywhere = {
        "mixture": draw(mixture),
        "log-uniform": np.linspace(LOG_P_MIN, 0.0, 1000),
        "uniform": np.log(np.linspace(np.exp(LOG_P_MIN), 1.0, 1000)),
    }
    for where, log_p in everywhere.items():
        assert r_squared(function(log_p), best.loss_of_severity(of_p_t(log_p))) > 0.999, where


def test_the_report_of_a_designed_mixture():
    target = loss.get("focal", gamma=2.0)
    report = design.report(design.mixture_for(target, num_classes=5), target, num_classes=5)
    assert report.r_squared > 0.9998
    assert report.largest_deviation < 0.02
    np.testing.assert_allclose(report.fitness, 0.3297, rtol=2e-3)
    np.testing.assert_allclose(report.target, TARGETS["focal"](report.log_p), atol=1e-3)
    assert r_squared(report.target, report.optimum) > 0.9998
    off = design.report(design.mixture_for(target, num_classes=5), loss.get("mae"), num_classes=5)
    assert off.r_squared < 0.9


def test_knots_made_for_another_beta_fit_worse():
    right, wrong = (
        optimum.from_severities(-draw(design.mixture_for(loss.cross_entropy, beta=beta)), "nll", beta=10.0)
        for beta in (10.0, 0.1)
    )
    log_p = np.linspace(LOG_P_MIN, 0.0, 1000)
    assert r_squared(right.loss_of_severity(-log_p), log_p) > 0.9999
    assert r_squared(wrong.loss_of_severity(-log_p), log_p) < 0.995


def test_a_flat_top_is_not_drawn():
    mixture = design.mixture_for(loss.get("gce", k=0.5))
    assert min(mixture.designed_log_p) == pytest.approx(np.log(0.5), abs=0.02)


def test_a_flat_bottom_is_not_drawn():
    hinge = as_loss(lambda x: jnp.maximum(-x - 0.5, 0.0))
    mixture = design.mixture_for(hinge, log_p_min=-4.0)
    np.testing.assert_allclose([mixture.designed_log_p[0], mixture.designed_log_p[-1]], [-4.0, -0.5], atol=0.02)


def test_rank_law():
    q = np.linspace(0.0, 1.0, 101)
    np.testing.assert_allclose(design.rank_law(1e-3)(q), q, atol=1e-4)
    for beta in (1.0, 30.0):
        law = design.rank_law(beta)(q)
        np.testing.assert_allclose([law[0], law[50], law[100]], [0.0, 0.5, 1.0], atol=1e-9)
        np.testing.assert_allclose(law + law[::-1], 1.0, atol=1e-9)
        assert np.all(np.diff(law) > 0.0)
    # Its limit, the quantiles of a parabolic density.
    np.testing.assert_allclose(law, 0.5 + np.sin(np.arcsin(2.0 * q - 1.0) / 3.0), atol=0.02)


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_any_number_of_classes(num_classes):
    knots = {c: design.mixture_for(loss.cross_entropy, c).designed_log_p for c in (10, num_classes)}
    np.testing.assert_allclose(knots[num_classes], knots[10], atol=1e-6)


@pytest.mark.parametrize(("alpha", "num_classes"), [(0.1, 10), (0.2, 100), (0.3, 2)])
def test_label_smoothing_turns_up_where_calculus_says(alpha, num_classes):
    place = f"{1.0 - alpha + alpha / num_classes:.2g}"
    message = rf"^label_smoothing turns up again at p_t = {place}: no mixture has it as optimum.*falls with p_t$"
    with pytest.raises(UserError, match=message):
        design.mixture_for(loss.get("label_smoothing", alpha=alpha), num_classes)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (loss.get("ace"), "ace turns up again at p_t = 0.91"),
        (lambda z, y: -loss.cross_entropy(z, y), "this loss turns up at p_t = 0.00012"),
        (as_loss(lambda x: 0.0 * x), "is constant in p_t"),
        (as_loss(lambda x: jnp.where(x > -1.0, jnp.inf, -x)), "is not finite at p_t = 0.37"),
        (loss.brier, "brier is not a function of p_t alone: at p_t = 0.00012 it is 1.11 with the rest spread equally"),
        (lambda z, y: loss.cross_entropy(z, y) - z[..., 0], "and 3 added to every logit"),
    ],
)
def test_losses_that_no_mixture_has(target, message):
    with pytest.raises(UserError) as refusal:
        design.mixture_for(target)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_name_in_the_message_can_be_given():
    with pytest.raises(UserError, match=r"^my loss is constant"):
        design.mixture_for(as_loss(lambda x: 0.0 * x), name="my loss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 1}, "num_classes is 1"),
        ({"log_p_min": 0.0}, "log_p_min is 0.0"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"knots": 1}, "knots is 1"),
        ({"spread": 0.0}, "spread is 0.0"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(UserError, match=message):
        design.mixture_for(loss.cross_entropy, **change)


def test_a_report_needs_a_severity_of_p_t():
    with pytest.raises(UserError, match="severity is 'brier', expected error or nll"):
        design.report(design.mixture_for(loss.cross_entropy), loss.cross_entropy, severity="brier")
