"""The classic losses one by one: hyper-parameters, the identities between them, where their minima lie."""

import inspect

import jax
import jax.numpy as jnp
import loss_reference
import numpy as np
import optax
import pytest
from loss_cases import normal, soft_labels

from edl_jax import loss
from edl_jax.core.errors import UserError


def close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def evaluate(name, batch, **hyper_parameters):
    return loss.get(name, **hyper_parameters)(*batch)


def equal_others(p, num_classes):
    """Return float32 logits `[N, C]` in which class 0 has p and the others share the rest equally, and labels 0."""
    p = np.asarray(p, np.float64)
    true = np.log(p) - np.log1p(-p) + np.log(num_classes - 1)
    logits = np.zeros((p.size, num_classes))
    logits[:, 0] = true
    return jnp.asarray(logits, jnp.float32), jnp.zeros(p.size, jnp.int32)


def every_label(logits):
    """Return logits `[N, C, C]` and labels `[N, C]`: each prediction once with each of its possible labels."""
    examples, num_classes = logits.shape
    return (
        jnp.broadcast_to(logits[:, None], (examples, num_classes, num_classes)),
        jnp.broadcast_to(jnp.arange(num_classes)[None], (examples, num_classes)),
    )


@pytest.mark.parametrize(
    ("name", "hyper_parameters"),
    [
        ("ace", {"phi0": 2.0, "phi1": 1.5}),
        ("ace", {"phi0": 0.5, "phi1": 0.5}),
        ("additive_margin", {"scale": 2.0, "margin": 0}),
        ("additive_margin", {"scale": 1, "margin": 4.0}),
        ("amse", {"a": 1}),
        ("anl_ce", {"alpha": 0.0, "beta": 2.0, "min_prob": 0.1}),
        ("anl_fl", {"alpha": 10.0, "beta": 1.0, "gamma": 2.0}),
        ("anl_fl", {"alpha": 0.0, "gamma": 0.3, "min_prob": 0.1}),
        ("balanced_softmax", {"class_counts": (500, 300, 100, 30, 7)}),
        ("barron", {"alpha": 2.0, "scale": 0.3}),
        ("barron", {"alpha": 0, "scale": 0.3}),
        ("barron", {"alpha": -2.0, "scale": 0.3}),
        ("barron", {"alpha": -np.inf, "scale": 0.3}),
        ("barron", {"alpha": 3.5}),
        ("bi_tempered", {"t1": 1, "t2": 1}),
        ("bi_tempered", {"t1": 0.0, "t2": 4.0}),
        ("bi_tempered", {"t1": 1.0, "t2": 2.0}),
        ("bi_tempered", {"t1": 0.5, "t2": 1.0}),
        ("crammer_singer", {"margin": 0}),
        ("crammer_singer", {"margin": 6.0}),
        ("dual_focal", {"gamma": 0.0}),
        ("dual_focal", {"gamma": 0.5}),
        ("focal", {"gamma": 0.0}),
        ("focal", {"gamma": 0.5}),
        ("focal", {"gamma": 5}),
        ("gce", {"q": 0.1}),
        ("gce", {"k": 0.5}),
        ("gce", {"q": 1, "k": 0.2}),
        ("jal_ce", {"alpha": 5.0, "beta": 0.1, "a": 5.0}),
        ("jal_fl", {"alpha": 5.0, "beta": 0.1, "a": 5.0, "gamma": 2.0}),
        ("label_smoothing", {"alpha": 0.0}),
        ("label_smoothing", {"alpha": 0.3}),
        ("label_smoothing", {"alpha": 1}),
        ("logit_adjustment", {"class_counts": np.array([500, 300, 100, 30, 7]), "tau": 0.5}),
        ("logit_adjustment", {"class_counts": [0.5, 0.3, 0.1, 0.03, 0.07], "tau": 2}),
        ("logit_norm", {"tau": 1.0}),
        ("nce_rce", {"alpha": 10.0, "beta": 0.1}),
        ("nce_rce", {"clip": 1e-2}),
        ("poly1", {"epsilon": -1.0}),
        ("poly1", {"epsilon": 1}),
        ("reverse_cross_entropy", {"clip": 1e-2}),
        ("sce", {"alpha": 6.0, "beta": 0.1}),
        ("sce", {"beta": 0.0, "clip": 1e-2}),
        ("sparse_lsr", {"alpha": 0.0}),
        ("sparse_lsr", {"alpha": 0.4}),
        ("sparse_lsr", {"alpha": 1}),
        ("taylor_cross_entropy", {"order": 1}),
        ("taylor_cross_entropy", {"order": 7}),
        ("taylor_glo", {"theta": (0.2, 0.3, -2.0)}),
        ("taylor_glo", {"theta": [0.2, 0.3, -2.0, 0.5, 1.0]}),
        ("taylor_glo", {"theta": np.array([0.1, 0.7, 1.0, -2.0, 3.0, -4.0, 5.0, -6.0])}),
        ("taylor_glo", {"theta": tuple(np.sin(np.arange(12.0)))}),
        ("weston_watkins", {"margin": 0}),
        ("weston_watkins", {"margin": 6.0}),
        ("zero_one", {"steepness": 0.3}),
    ],
)
def test_hyper_parameters(batch, name, hyper_parameters):
    logits, labels = batch
    reference = loss_reference.CLASSIC[name]
    for target, y in ((labels, np.eye(5)[np.asarray(labels)]), (soft := soft_labels(1, logits.shape), soft)):
        expected = reference(np.asarray(logits, np.float64), np.asarray(y, np.float64), **hyper_parameters)
        close(evaluate(name, (logits, target), **hyper_parameters), expected)


def test_every_hyper_parameter_is_tested_and_has_the_default_of_the_reference():
    for name, reference in loss_reference.CLASSIC.items():
        common = inspect.signature(loss.Loss.__call__).parameters
        ours = inspect.signature(getattr(loss, name)).parameters
        defaults = {key: p.default for key, p in ours.items() if key not in common}
        theirs = list(inspect.signature(reference).parameters.values())[2:]
        assert defaults == {p.name: p.default for p in theirs}, name


@pytest.mark.parametrize(
    ("name", "parameter", "values", "expected"),
    [
        ("ace", "phi0", [0.0, -1.0, "1"], "a finite number greater than 0"),
        ("ace", "phi1", [0.0, float("inf")], "a finite number greater than 0"),
        ("additive_margin", "scale", [0.0, -1.0], "a finite number greater than 0"),
        ("additive_margin", "margin", [-0.1, float("inf")], "a finite number of at least 0"),
        ("amse", "a", [0.0, -1.0, float("inf")], "a finite number greater than 0"),
        ("anl_ce", "alpha", [-1.0], "a finite number of at least 0"),
        ("anl_ce", "beta", [float("nan")], "a finite number of at least 0"),
        ("anl_ce", "min_prob", [0.0, 1.0], "0 < min_prob < 1"),
        ("anl_fl", "alpha", [-1.0], "a finite number of at least 0"),
        ("anl_fl", "beta", ["1"], "a finite number of at least 0"),
        ("anl_fl", "gamma", [-0.5], "a finite number of at least 0"),
        ("anl_fl", "min_prob", [-1e-7], "0 < min_prob < 1"),
        ("asymmetric", "gamma_pos", [-1.0, None], "a finite number of at least 0"),
        ("asymmetric", "gamma_neg", [float("inf")], "a finite number of at least 0"),
        ("asymmetric", "clip", [-0.1, 1.0, None], "0 <= clip < 1"),
        ("balanced_softmax", "class_counts", [7, (7,), "12345"], "a finite number greater than 0 for each class"),
        ("barron", "alpha", [float("inf"), float("nan"), "2"], "a finite number or -inf"),
        ("barron", "scale", [0.0, float("inf")], "a finite number greater than 0"),
        ("bi_tempered", "t1", [-0.1, 1.2, None], "0 <= t1 <= 1"),
        ("bi_tempered", "t2", [0.9, float("inf"), float("nan")], "a finite number of at least 1"),
        ("crammer_singer", "margin", [-1.0, float("nan")], "a finite number of at least 0"),
        ("dual_focal", "gamma", [-0.1, float("inf")], "a finite number of at least 0"),
        ("focal", "gamma", [-0.1, float("inf"), float("nan"), None], "a finite number of at least 0"),
        ("gce", "q", [0.0, 1.1, -0.5, (0.1, 0.2)], "0 < q <= 1"),
        ("gce", "k", [0.0, 1.0, 7], "None or 0 < k < 1"),
        ("jal_ce", "alpha", [-1.0], "a finite number of at least 0"),
        ("jal_ce", "beta", [-1.0], "a finite number of at least 0"),
        ("jal_ce", "a", [0.0], "a finite number greater than 0"),
        ("jal_fl", "alpha", [-1.0], "a finite number of at least 0"),
        ("jal_fl", "beta", [-1.0], "a finite number of at least 0"),
        ("jal_fl", "gamma", [float("nan")], "a finite number of at least 0"),
        ("jal_fl", "a", [0.0], "a finite number greater than 0"),
        ("label_smoothing", "alpha", [-0.1, 1.5, float("nan")], "0 <= alpha <= 1"),
        ("logit_adjustment", "class_counts", [7, ((1, 2),)], "a finite number greater than 0 for each class"),
        ("logit_adjustment", "tau", [-1.0, float("nan")], "a finite number of at least 0"),
        ("logit_norm", "tau", [0.0, -0.04, float("nan")], "a finite number greater than 0"),
        ("nce_rce", "alpha", [-1.0], "a finite number of at least 0"),
        ("nce_rce", "beta", [float("nan")], "a finite number of at least 0"),
        ("nce_rce", "clip", [0.0], "0 < clip < 1"),
        ("poly1", "epsilon", [-1.01, float("inf")], "a finite number of at least -1"),
        ("reverse_cross_entropy", "clip", [0.0, 1.0, -4.0], "0 < clip < 1"),
        ("sce", "alpha", [-0.1], "a finite number of at least 0"),
        ("sce", "beta", ["a"], "a finite number of at least 0"),
        ("sce", "clip", [2.0], "0 < clip < 1"),
        ("sparse_lsr", "alpha", [-0.1, 1.5], "0 <= alpha <= 1"),
        ("taylor_cross_entropy", "order", [0, -1, 2.0, True, "2"], "an integer of at least 1"),
        (
            "taylor_glo",
            "theta",
            [(), (0.0, 1.0), (0.0, 1.0, 2.0, 3.0), (0.0, 1.0, float("nan")), 3.0, "123", ((0.0, 1.0, 2.0),), None],
            "3, 5, 8, 12, ... finite numbers: 2 + k (k + 1) / 2 for order k",
        ),
        ("weston_watkins", "margin", [-1.0, float("inf")], "a finite number of at least 0"),
        ("zero_one", "steepness", [0.0, -5.0, float("inf")], "a finite number greater than 0"),
    ],
)
def test_hyper_parameters_that_cannot_be_used(batch, name, parameter, values, expected):
    for value in values:
        with pytest.raises(UserError) as caught:
            evaluate(name, batch, **{parameter: value})
        assert str(caught.value) == f"{name}: {parameter} is {value}, expected {expected}"
    with pytest.raises(UserError, match=f"unknown hyper-parameter 'x{parameter}' of loss {name}"):
        loss.get(name, **{f"x{parameter}": 1.0})


def test_a_traced_hyper_parameter_can_be_learned(batch):
    """Meta-learning a hyper-parameter differentiates through it."""

    def total(gamma, k):
        return jnp.sum(loss.focal(*batch, gamma=gamma)) + jnp.sum(loss.gce(*batch, k=k))

    at = np.array([2.0, 0.3], np.float32)
    slopes = jax.jit(jax.grad(total, argnums=(0, 1)))(*at)
    logits, y = np.asarray(batch[0], np.float64), np.eye(5)[np.asarray(batch[1])]
    focal, gce = loss_reference.focal, loss_reference.gce
    close(slopes[0], np.sum(focal(logits, y, 2.001) - focal(logits, y, 1.999)) / 0.002, 1e-4)
    close(slopes[1], np.sum(gce(logits, y, k=0.301) - gce(logits, y, k=0.299)) / 0.002, 1e-4)


@pytest.mark.parametrize(
    ("name", "hyper_parameters", "other", "factor"),
    [
        ("ace", {"phi1": 1.0}, "cross_entropy", 1.0),
        ("additive_margin", {"scale": 1.0, "margin": 0.0}, "cross_entropy", 1.0),
        ("amse", {"a": 1.0}, "brier", 1 / 5),
        ("anl_ce", {"alpha": 3.0, "beta": 0.0}, "nce", 3.0),
        ("anl_fl", {"gamma": 0.0}, "anl_ce", 1.0),
        ("barron", {"alpha": 2.0}, "brier", 0.5),
        ("bi_tempered", {"t1": 1.0, "t2": 1.0}, "cross_entropy", 1.0),
        ("dual_focal", {"gamma": 0.0}, "cross_entropy", 1.0),
        ("focal", {"gamma": 0.0}, "cross_entropy", 1.0),
        ("gce", {"q": 1.0}, "mae", 1.0),
        ("gce", {"q": 1e-6}, "cross_entropy", 1.0),
        ("jal_ce", {"alpha": 2.0, "beta": 0.0}, "nce", 2.0),
        ("jal_fl", {"alpha": 0.0, "beta": 2.0}, "amse", 2.0),
        ("jal_fl", {"gamma": 0.0}, "jal_ce", 1.0),
        ("label_smoothing", {"alpha": 0.0}, "cross_entropy", 1.0),
        ("logit_adjustment", {"class_counts": (9, 7, 5, 3, 1), "tau": 0}, "cross_entropy", 1.0),
        ("logit_adjustment", {"class_counts": (7.0,) * 5}, "balanced_softmax", 1.0),
        ("poly1", {"epsilon": 0.0}, "cross_entropy", 1.0),
        ("reverse_cross_entropy", {}, "mae", -np.log(1e-4)),
        ("sce", {"alpha": 2.0, "beta": 0.0}, "cross_entropy", 2.0),
        ("sce", {"alpha": 0.0, "beta": 3.0}, "reverse_cross_entropy", 3.0),
        ("sparse_lsr", {"alpha": 0.0}, "cross_entropy", 1.0),
        ("nce_rce", {"alpha": 3.0, "beta": 0.0}, "nce", 3.0),
        ("nce_rce", {"alpha": 0.0, "beta": 2.0}, "reverse_cross_entropy", 2.0),
        ("taylor_cross_entropy", {"order": 1}, "mae", 1.0),
        ("taylor_glo", {}, "taylor_cross_entropy", 1 / 5),
        ("zero_one", {"steepness": 1.0}, "mae", 1.0),
    ],
)
def test_one_loss_contains_another(batch, name, hyper_parameters, other, factor):
    close(evaluate(name, batch, **hyper_parameters), factor * evaluate(other, batch))


def test_the_taylor_series_of_cross_entropy_converges_to_it():
    batch = normal(0, (6, 5), 0.5), jnp.arange(6) % 5
    assert jnp.min(jnp.exp(-evaluate("cross_entropy", batch))) > 0.05
    close(evaluate("taylor_cross_entropy", batch, order=200), evaluate("cross_entropy", batch), 1e-4)
    assert jnp.all(evaluate("taylor_cross_entropy", batch, order=3) < evaluate("cross_entropy", batch) - 0.01)


def test_poly1_is_that_of_optax_where_optax_has_it(batch):
    logits, labels = batch
    for y in (jax.nn.one_hot(labels, 5), soft_labels(1, logits.shape)):
        close(evaluate("poly1", (logits, y)), optax.losses.poly_loss_cross_entropy(logits, y))


def test_symmetric_losses_sum_to_a_constant_over_the_labels(batch):
    """The condition of Ghosh et al. under which noise spread evenly over the labels moves no minimum."""
    batch = every_label(batch[0])
    totals = {
        "anl_ce": 25.0,
        "anl_fl": 25.0,
        "nce": 1.0,
        "mae": 4.0,
        "reverse_cross_entropy": -4.0 * np.log(1e-4),
        "zero_one": 4.0,
    }
    for name, total in totals.items():
        close(jnp.sum(evaluate(name, batch), axis=-1), np.full(6, total))
    values = evaluate("nce", batch)
    assert jnp.all((values >= 0.0) & (values <= 1.0))
    assert jnp.std(jnp.sum(evaluate("cross_entropy", batch), axis=-1)) > 1.0


def test_logit_norm_ignores_the_length_of_the_logits(batch):
    logits, labels = batch
    for factor in (0.1, 40.0):
        close(evaluate("logit_norm", (factor * logits, labels)), evaluate("logit_norm", batch), 1e-4)
    # Two unit vectors' coordinates are at most sqrt(2) apart.
    assert jnp.max(evaluate("logit_norm", (1e3 * logits, labels))) < np.sqrt(2) / 0.04 + np.log(5)


def test_logit_norm_of_logits_of_zero(batch):
    """A last layer that starts at zero gives all-equal logits: finite, and steep as the docstring says."""
    logits, labels = jnp.zeros((6, 5)), batch[1]
    value, gradient = jax.jit(jax.value_and_grad(lambda z: jnp.sum(loss.logit_norm(z, labels))))(logits)
    close(value, 6 * np.log(5))
    close(gradient, (0.2 - np.eye(5)[np.asarray(labels)]) / (0.04 * 1e-7))


def test_squentropy_pulls_on_the_wrong_logits_alone(batch):
    logits, labels = batch
    true = jax.nn.one_hot(labels, 5, dtype=bool)

    def squares(z):
        return jnp.sum(loss.squentropy(z, labels) - loss.cross_entropy(z, labels))

    close(jax.jit(jax.grad(squares))(logits), jnp.where(true, 0.0, logits / 2.0))  # 2 z_j / (C - 1)


def test_truncated_gce_stops_learning_below_its_threshold():
    logits, labels = equal_others([0.1, 0.49, 0.51, 0.9], 3)
    gradient, whole = (jax.jit(jax.grad(lambda z, k=k: jnp.sum(loss.gce(z, labels, k=k))))(logits) for k in (0.5, None))
    values = loss.gce(logits, labels, k=0.5)
    close(values[:2], np.full(2, (1 - 0.5**0.7) / 0.7))
    close(values[2:], loss.gce(logits, labels)[2:])
    assert jnp.all(gradient[:2] == 0.0)
    close(gradient[2:], whole[2:])


GRID = np.linspace(0.0005, 0.9995, 1000)


@pytest.mark.parametrize("num_classes", [2, 100])
@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_ace_aims_where_label_smoothing_aims(num_classes, alpha):
    batch = equal_others(GRID, num_classes)
    aim = 1 - alpha + alpha / num_classes
    for values in (evaluate("ace", batch, phi1=1 / aim), evaluate("label_smoothing", batch, alpha=alpha)):
        assert abs(GRID[int(jnp.argmin(values))] - aim) <= 0.001
    # The default, and the kink: the slope in ln p_t changes its sign and nothing else.
    assert abs(GRID[int(jnp.argmin(evaluate("ace", batch)))] - 1 / 1.1) <= 0.001
    slope = np.diff(np.asarray(evaluate("ace", batch, phi1=1 / aim, phi0=2.0), np.float64)) / np.diff(np.log(GRID))
    away = np.abs(GRID[:-1] - aim) > 0.002
    np.testing.assert_allclose(slope[away], np.where(GRID[:-1] < aim, -2.0, 2.0)[away], atol=0.02)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_baikal_aims_below_certainty(num_classes):
    values = evaluate("baikal", equal_others(GRID, num_classes))
    assert abs(GRID[int(jnp.argmin(values))] - 1 / np.sqrt(num_classes)) <= 0.001


def test_baikal_goes_on_as_a_line_in_ln_p():
    """1 / p has slope -1e7 in ln p at p = 1e-7, and keeps it at any gap beyond."""
    gaps = jnp.array([20.0, 50.0, 1e4])
    logits = jnp.zeros((3, 2)).at[:, 1].set(gaps)
    labels = jnp.zeros(3, jnp.int32)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(loss.baikal(z, labels))))(logits)
    np.testing.assert_allclose(gradient, np.broadcast_to([-5e6, 5e6], (3, 2)), rtol=1e-4)
    np.testing.assert_allclose(loss.baikal(logits, labels), 5e6 * (1 + np.log(1e-7) + gaps) + gaps / 2, rtol=1e-5)


@pytest.mark.parametrize("num_classes", [2, 100])
def test_sparse_lsr_is_label_smoothing_when_the_others_are_equal(num_classes):
    """At any gap, on both sides: where p_t rounds to 1 the pull away from certainty is still that of smoothing."""
    leads = jnp.array([-1e4, -50.0, -3.0, 0.0, 3.0, 20.0, 50.0, 1e4])
    logits = jnp.zeros((8, num_classes)).at[:, 0].set(leads)
    labels = jnp.zeros(8, jnp.int32)
    for target in (labels, jax.nn.one_hot(labels, num_classes)):
        sparse, smooth = (
            jax.jit(jax.value_and_grad(lambda z, f=f, y=target: jnp.sum(f(z, y, alpha=0.2))))(logits)
            for f in (loss.sparse_lsr, loss.label_smoothing)
        )
        close(sparse[0], smooth[0])
        np.testing.assert_allclose(sparse[1], smooth[1], rtol=1e-4, atol=1e-6)
        assert jnp.all(sparse[1][5:, 0] > 0.1 * (1 - 1 / num_classes))


@pytest.mark.parametrize(
    ("name", "power", "factor"),
    [
        ("mae", 1.0, 1.0),
        ("gce", 0.7, 1.0),
        ("reverse_cross_entropy", 1.0, -np.log(1e-4)),
        ("taylor_cross_entropy", 1.0, 2.0),
    ],
)
def test_bounded_losses_fade_as_p_and_not_sooner(name, power, factor):
    """At p_t = e^-20 and e^-50 the slope in ln p_t is that of the formula, far below the rounding of the value."""
    gaps = np.array([20.0, 50.0])
    logits = jnp.zeros((2, 2)).at[:, 1].set(gaps)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(loss.get(name)(z, jnp.zeros(2, jnp.int32)))))(logits)
    np.testing.assert_allclose(gradient[:, 0], -factor * np.exp(-power * gaps), rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_focal_rests_on_what_is_learned(gamma):
    """The power of 1 - p_t is smooth where p_t rounds to 1: no infinite slope for gamma < 1, and no NaN."""
    leads = jnp.array([5.0, 20.0, 50.0, 1e4])
    logits = jnp.zeros((4, 3)).at[:, 0].set(leads)
    gradient = jax.jit(jax.grad(lambda z: jnp.sum(loss.focal(z, jnp.zeros(4, jnp.int32), gamma=gamma))))(logits)
    assert jnp.all(jnp.isfinite(gradient))
    assert jnp.all(jnp.diff(jnp.abs(gradient[:, 0])) <= 0.0)
    assert jnp.abs(gradient[-1, 0]) == 0.0
