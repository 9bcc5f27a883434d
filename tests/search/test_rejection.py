"""The rejection protocol, beside descent on the losses themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.expression import parse
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.rejection import PRESETS, RejectionConfig, reject

FORMULAS = ("-y*ln(p)", "y*ln(p)", "square(y - p)", "1 + 0*y*p", "tanh(y - p)", "abs(ln(y*p))", "y*p")
TABLES = tables_of_expressions([parse(formula) for formula in FORMULAS])
SHORT = RejectionConfig(steps=100)


@pytest.fixture(scope="module")
def outputs():
    rng = np.random.default_rng(0)
    return rng.normal(0.0, 0.4, (120, 10)).astype(np.float32), rng.integers(0, 10, 120, np.int32)


def error(logits, labels):
    return np.mean(np.argmax(logits, axis=-1) != np.asarray(labels))


def test_descent_decides(outputs):
    logits, labels = outputs
    before = error(logits[:100], labels[:100])
    scores, rejected = reject(TABLES, logits, labels)
    assert dict(zip(FORMULAS, rejected, strict=True)) == {
        "-y*ln(p)": False,
        "y*ln(p)": True,
        "square(y - p)": False,
        "1 + 0*y*p": True,
        "tanh(y - p)": True,
        "abs(ln(y*p))": False,
        "y*p": True,
    }
    assert scores[0] == pytest.approx(before)  # all are right in the end
    assert scores[3] == 0.0
    assert scores[1] == pytest.approx(before - 1.0)  # all are wrong


@pytest.mark.parametrize(
    ("config", "optimizer"),
    [
        (SHORT, optax.adam(0.01)),
        pytest.param(PRESETS["july_2022"], optax.sgd(0.01, 0.9), marks=pytest.mark.slow),
    ],
)
def test_scores_are_those_of_descent_on_the_loss(config, optimizer, outputs):
    logits, labels = jnp.asarray(outputs[0][:100]), jnp.asarray(outputs[1][:100])
    function = loss.expression_loss("square(y - p)")

    @jax.jit
    def descend(free):
        def step(carry, _):
            free, state = carry
            gradient = jax.grad(lambda z: jnp.mean(function(z, labels)))(free)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(free, updates), state), None

        return jax.lax.scan(step, (free, optimizer.init(free)), length=config.steps)[0][0]

    expected = error(outputs[0][:100], outputs[1][:100]) - error(np.asarray(descend(logits)), labels)
    found = reject(TABLES, *outputs, config)
    assert found.scores[2] == pytest.approx(expected, abs=0.011)  # one example on the border
    assert found.rejected[2] == (found.scores[2] <= config.threshold)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_rejected_alone(bad, outputs, compilations):
    expected = reject(TABLES, *outputs, SHORT)
    broken = TABLES.copy()
    broken[2] = bad
    with compilations() as counts:
        found = reject(broken, *outputs, SHORT)
    assert counts.total() == 0, counts
    assert np.isnan(found.scores[2])
    assert found.rejected[2]
    others = np.arange(len(TABLES)) != 2
    np.testing.assert_array_equal(found.scores[others], expected.scores[others])


def test_a_fall_of_just_the_threshold_is_rejected(outputs):
    score = reject(TABLES[:1], *outputs, SHORT).scores[0]
    assert score > 0.0
    assert reject(TABLES[:1], *outputs, RejectionConfig(steps=100, threshold=float(score))).rejected[0]
    assert not reject(TABLES[:1], *outputs, RejectionConfig(steps=100, threshold=float(score) - 0.01)).rejected[0]


def test_released_code_lets_nan_pass(outputs):
    broken = np.full_like(TABLES[:1], np.nan)
    assert not reject(broken, *outputs, RejectionConfig(steps=2, nan_passes=True)).rejected[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adams"}, "unknown rejection optimizer 'adams': did you mean adam"),
        ({"steps": 0}, "rejection steps is 0"),
        ({"examples": 0}, "rejection examples is 0"),
        ({"lr": 0.0}, "rejection lr is 0.0"),
        ({"momentum": 1.0}, "rejection momentum is 1.0"),
        ({"threshold": 2.0}, "rejection threshold is 2.0"),
    ],
)
def test_settings_that_make_no_protocol(settings, message):
    with pytest.raises(UserError, match=message):
        RejectionConfig(**settings)


def test_too_few_examples(outputs):
    with pytest.raises(UserError, match="99 examples are given, expected at least the 100 of the rejection protocol"):
        reject(TABLES, outputs[0][:99], outputs[1], SHORT)
