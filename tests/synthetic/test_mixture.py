"""The mixture: each component has the law that its table promises, and the weights are honoured."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_losses import QUANTILES, only
from scipy import stats

from edl_jax.core.errors import UserError
from edl_jax.synthetic import COMPONENTS, MixtureConfig, draw_predictions, sample, sample_labels

NUM_CLASSES = [2, 10, *(pytest.param(count, marks=pytest.mark.slow) for count in (3, 1000))]
CONFIDENCE, FLATNESS, SPREAD = 6.0, 4.0, 2.0
# A KS test on a fixed key: a p-value below this has a chance of one in ten thousand if the law is right.
REJECT = 1e-4


def draws(config, num_classes, seed=0):
    """Return (labels `[N]`, log_p `[N, C]`) in float64.

    Outside jit the parts of `sample` are compiled once for each C, not once for each config.
    """
    count = min(4_000, 500_000 // num_classes)
    labels = np.random.default_rng(seed).integers(0, num_classes, count).astype(np.int32)
    log_p = sample(jax.random.key(seed), config, num_classes, jnp.asarray(labels))
    return labels, np.asarray(log_p, np.float64)


def at(x, labels):
    return np.take_along_axis(x, labels[:, None], axis=1)[:, 0]


def law_of_p_t(component, num_classes):
    """Return the distribution of p_t, from the table in the module's docstring: a Dirichlet's marginal is a Beta."""
    k, f, others = CONFIDENCE, FLATNESS, 1.0 if num_classes > 2 else 0.0
    return {
        "uniform": stats.beta(1, num_classes - 1),
        "confident_right": stats.beta(k, 1),
        "confident_wrong": stats.beta(1, k + others),
        "boundary": stats.beta(k, k + others),
        "near_uniform": stats.beta(f, f * (num_classes - 1)),
        "log_uniform": stats.loguniform(np.exp(-9.0), 1.0),
        "designed": Designed(QUANTILES),
    }[component]


class Designed:
    """The law of p_t whose ln has these quantiles at equal steps of probability, linear between them."""

    def __init__(self, quantiles):
        self.quantiles = np.asarray(quantiles)

    def cdf(self, p_t):
        with np.errstate(divide="ignore"):
            return np.interp(np.log(p_t), self.quantiles, np.linspace(0.0, 1.0, self.quantiles.size))


def component_config(component, weight=1.0):
    return only(**{component: weight}, confidence=CONFIDENCE, flatness=FLATNESS, spread=SPREAD)


@pytest.mark.parametrize("num_classes", NUM_CLASSES)
@pytest.mark.parametrize("component", COMPONENTS)
def test_law_of_the_true_class(component, num_classes):
    labels, log_p = draws(component_config(component), num_classes)
    assert np.all(np.isfinite(log_p))
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, atol=2e-5)
    p_t = np.exp(at(log_p, labels))
    assert stats.kstest(p_t, law_of_p_t(component, num_classes).cdf).pvalue > REJECT


@pytest.mark.parametrize("num_classes", [3, 10])
@pytest.mark.parametrize(("component", "others"), [("confident_wrong", 2.0), ("boundary", CONFIDENCE + 1.0)])
def test_law_of_the_rival(component, others, num_classes):
    labels, log_p = draws(only(**{component: 1.0}, confidence=200.0), num_classes)
    np.put_along_axis(log_p, labels[:, None], -np.inf, axis=1)
    rival = np.argmax(log_p, axis=1)
    shift = (rival - labels) % num_classes
    counts = np.bincount(shift, minlength=num_classes)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > REJECT
    weight = {"confident_wrong": stats.beta(200, 2), "boundary": stats.beta(200, 201)}[component]
    assert stats.kstest(np.exp(at(log_p, rival)), weight.cdf).pvalue > REJECT


@pytest.mark.parametrize("component", ["log_uniform", "designed"])
def test_a_set_level_spreads_the_rest_by_a_dirichlet(component):
    labels, log_p = draws(component_config(component), 10)
    share = at(log_p, (labels + 3) % 10) - np.log(-np.expm1(at(log_p, labels)))
    assert stats.kstest(np.exp(share), stats.beta(SPREAD, 8 * SPREAD).cdf).pvalue > REJECT


def test_designed_may_have_atoms_and_many_quantiles():
    """Equal quantiles in a row are an atom; 1,000 quantiles are followed as closely as seven."""
    labels, log_p = draws(only(designed=1.0, designed_log_p=(-6.0, -3.0, -3.0, 0.0)), 10)
    assert np.mean(at(log_p, labels) == -3.0) == pytest.approx(1.0 / 3.0, abs=4.0 * np.sqrt(2.0 / 9.0 / labels.size))
    law = stats.beta(3.0, 2.0)
    quantiles = tuple(np.log(law.ppf(np.linspace(1e-4, 1.0, 1_000))).tolist())
    labels, log_p = draws(only(designed=1.0, designed_log_p=quantiles), 10)
    assert stats.kstest(np.exp(at(log_p, labels)), law.cdf).pvalue > REJECT


def test_designed_at_the_ends_of_its_range():
    """Down to the smallest ln p_t that is allowed; and p_t = 1 leaves a finite rest."""
    labels, log_p = draws(only(designed=1.0, designed_log_p=(-80.0, -40.0, 0.0, 0.0, 0.0)), 10)
    assert np.all(np.isfinite(log_p))
    assert -80.0 <= at(log_p, labels).min() < -79.0
    assert -1e-6 < at(log_p, labels).max() < 0.0


def test_log_uniform_reaches_down_to_log_p_min():
    labels, log_p = draws(only(log_uniform=1.0, log_p_min=-40.0), 3)
    level = at(log_p, labels)
    assert stats.kstest(level, stats.uniform(-40.0, 40.0).cdf).pvalue > REJECT
    assert level.min() < -39.9
    assert level.max() < 0.0


@pytest.mark.parametrize(
    "weights",
    [
        (0.5, 0.0, 2.0, 1.0, 0.25, 1.25, 0.75),
        (0.0, 3.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        (1e-3, 2e-3, 0.0, 1e-3, 0.0, 4e-3, 2e-3),
    ],
)
def test_weights_are_honoured(weights):
    named = dict(zip(COMPONENTS, weights, strict=True))
    config = only(**named, confidence=CONFIDENCE, flatness=FLATNESS, spread=SPREAD)
    np.testing.assert_allclose(config.weights, np.array(weights) / sum(weights))
    laws = [(law_of_p_t(name, 10), weight / sum(weights)) for name, weight in named.items()]
    p_t = np.concatenate(
        [np.exp(at(log_p, labels)) for labels, log_p in (draws(config, 10, seed) for seed in range(4))]
    )
    assert stats.kstest(p_t, lambda x: sum(weight * law.cdf(x) for law, weight in laws)).pvalue > REJECT


def test_every_component_is_in_the_config():
    fields = [field.name for field in dataclasses.fields(MixtureConfig)]
    assert tuple(fields[: len(COMPONENTS)]) == COMPONENTS


@pytest.mark.parametrize("num_classes", NUM_CLASSES)
def test_labels_are_uniform(num_classes):
    labels = np.asarray(sample_labels(jax.random.key(1), num_classes, 50_000))
    assert labels.dtype == np.int32
    assert stats.chisquare(np.bincount(labels, minlength=num_classes)).pvalue > REJECT


@pytest.mark.parametrize("confidence", [1e-3, 1e6])
def test_extreme_concentrations_stay_finite(confidence):
    weights = dict.fromkeys(COMPONENTS, 1.0)
    config = only(**weights, confidence=confidence, flatness=confidence, spread=confidence, log_p_min=-80.0)
    _, log_p = draws(config, 1000)
    assert np.all(np.isfinite(log_p))
    assert np.all(log_p <= 0.0)
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1.0, atol=1e-4)


def test_samples_follow_from_the_key():
    config = MixtureConfig()
    (labels, a), (_, b), (_, c) = (draw_predictions(jax.random.key(seed), config, 10, 4_000) for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.mean(np.all(np.isclose(a, c), axis=1)) == 0.0
    assert (labels.dtype, labels.shape, a.dtype, a.shape) == (jnp.int32, (4_000,), jnp.float32, (4_000, 10))
    _, sample_key = jax.random.split(jax.random.key(0))
    np.testing.assert_allclose(sample(sample_key, config, 10, labels), a, rtol=1e-4, atol=1e-5)


def test_predictions_of_one_label_are_independent():
    labels = np.tile(np.random.default_rng(0).integers(0, 10, 2_000).astype(np.int32), 2)
    log_p = np.asarray(sample(jax.random.key(0), component_config("log_uniform"), 10, labels), np.float64)
    (a, b), labels = np.split(log_p, 2), labels[:2_000]
    assert abs(stats.spearmanr(at(a, labels), at(b, labels)).statistic) < 0.07
    assert stats.ks_2samp(at(a, (labels + 1) % 10), at(b, (labels + 1) % 10)).pvalue > REJECT


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"uniform": -1.0}, "mixture.uniform is -1.0"),
        ({"boundary": float("nan")}, "mixture.boundary is nan"),
        ({"log_uniform": float("inf")}, "mixture.log_uniform is inf"),
        (dict.fromkeys(COMPONENTS, 0.0), "the weights of the mixture sum to 0"),
        ({"confidence": 0.0}, "mixture.confidence is 0.0"),
        ({"flatness": -2.0}, "mixture.flatness is -2.0"),
        ({"spread": float("nan")}, "mixture.spread is nan"),
        ({"log_p_min": 0.0}, "mixture.log_p_min is 0.0"),
        ({"log_p_min": -100.0}, "mixture.log_p_min is -100.0"),
        ({"designed": -1.0}, "mixture.designed is -1.0"),
        (
            {"designed": 1.0},
            "mixture.designed_log_p has 0 quantiles, expected at least 2: `edl-jax design-mixture",
        ),
        ({"designed": 1.0, "designed_log_p": (-1.0,)}, "mixture.designed_log_p has 1 quantiles"),
        ({"designed": 1.0, "designed_log_p": (-1.0, -2.0, 0.0)}, "mixture.designed_log_p is not ascending"),
        ({"designed": 1.0, "designed_log_p": (-1.0, 0.5)}, "mixture.designed_log_p is not ascending within [-80, 0]"),
        ({"designed": 1.0, "designed_log_p": (-81.0, 0.0)}, "mixture.designed_log_p is not ascending within"),
        ({"designed": 1.0, "designed_log_p": (-1.0, float("nan"))}, "mixture.designed_log_p is not ascending"),
    ],
)
def test_settings_that_make_no_mixture(settings, message):
    with pytest.raises(UserError) as caught:
        MixtureConfig(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("num_classes", [1, 0, -3])
def test_fewer_than_two_classes(num_classes):
    with pytest.raises(UserError, match=f"num_classes is {num_classes}, expected at least 2"):
        sample(jax.random.key(0), MixtureConfig(), num_classes, jnp.zeros(3, jnp.int32))
    with pytest.raises(UserError, match="expected at least 2"):
        draw_predictions(jax.random.key(0), MixtureConfig(), num_classes, 3)
