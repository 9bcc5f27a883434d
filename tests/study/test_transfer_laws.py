"""The numbers of `transfer`, against what is known: of a mixture compared with itself, and of its optimum."""

import math

import jax
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.pretrain import ObjectiveConfig
from edl_jax.study.transfer import fit, matched
from edl_jax.study.transfer.config import recorded_epochs
from edl_jax.study.transfer.measure import Place, Synthetic, compare, summarise
from edl_jax.study.transfer.predictions import Predictions, draw, features, quantities
from edl_jax.synthetic.law import law_of
from edl_jax.synthetic.mixture import MixtureConfig

CLASSES = 10
MIXTURE = MixtureConfig(uniform=0.2, confident_right=0.3, confident_wrong=0.2, boundary=0.1, log_uniform=0.2)


def test_quantities_of_predictions_by_hand():
    logits = np.log([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5], [1.0, 1e-12, 1e-12]])
    found = quantities(Predictions.of_logits(logits, np.array([0, 1, 1])))
    assert found["log_p_t"] == pytest.approx([math.log(0.7), math.log(0.25), math.log(1e-12)])
    assert found["logit_p_t"] == pytest.approx([math.log(0.7 / 0.3), math.log(1 / 3), math.log(1e-12)])
    entropy = [-sum(p * math.log(p) for p in row) / math.log(3) for row in ((0.7, 0.2, 0.1), (0.25, 0.25, 0.5))]
    assert found["entropy"][:2] == pytest.approx(entropy)
    assert found["margin"] == pytest.approx([0.5, -0.25, -1.0])
    assert found["gap"] == pytest.approx([0.5, 0.25, 1.0])


def test_a_prediction_that_is_all_but_certain_keeps_its_logit():
    """In p_t itself it would be 1, and its logit infinite."""
    found = quantities(Predictions.of_logits(np.array([[45.0, 0.0, 0.0], [900.0, 0.0, 0.0]]), np.array([0, 0])))
    assert found["logit_p_t"] == pytest.approx([45.0 - math.log(2.0), 50.0])


def test_features_do_not_depend_on_the_order_of_classes():
    given = draw(jax.random.key(0), MIXTURE, 12, 50)
    order = np.random.default_rng(0).permutation(12)
    shuffled = Predictions(given.log_p[:, order], np.argsort(order)[given.labels])
    assert np.array_equal(features(given), features(shuffled))
    label = features(given)[:, 11:]  # after ten largest and p_t
    assert np.array_equal(
        label.sum(axis=1), np.sum(np.argsort(np.argsort(-given.log_p))[range(50), given.labels][None] < 10, 0)
    )


@pytest.fixture(scope="module")
def synthetic():
    return Synthetic(MIXTURE, CLASSES, 0)


def test_a_mixture_is_level_with_itself_and_another_is_not(synthetic):
    place = Place("run", "train", 1)
    own = draw(jax.random.key(9), MIXTURE, CLASSES, 2000)
    for row in compare(place, own, synthetic):
        assert row.distance < 2.5 * row.by_chance
        assert row.covered == pytest.approx(0.99, abs=0.01)
    found = summarise(place, own, synthetic, seed=0)
    assert found.told_apart.p_value > 0.01
    assert found.below == found.above == 0.0
    other = draw(jax.random.key(8), MixtureConfig(confident_right=1.0, log_uniform=0.0, boundary=0.0), CLASSES, 2000)
    rows = {row.quantity: row for row in compare(place, other, synthetic)}
    assert all(row.distance > 5.0 * row.by_chance for row in rows.values())
    nearest = rows["log_p_t"].components
    assert min(nearest, key=nearest.__getitem__) == "confident_right"
    assert summarise(place, other, synthetic, seed=0).told_apart.p_value < 1e-6


def test_the_weights_of_a_mixture_are_found_again():
    own = quantities(draw(jax.random.key(3), MIXTURE, CLASSES, 16000))["logit_p_t"]
    found = fit.fit(fit.shares(own), MIXTURE, CLASSES, len(own))
    wanted = {"uniform": 0.2, "confident_right": 0.3, "confident_wrong": 0.2, "boundary": 0.1, "log_uniform": 0.2}
    assert {name: weight for name, weight in found.weights.items() if name in wanted} == pytest.approx(wanted, abs=0.06)
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert found.left < 1.5 * found.by_chance
    # What no component draws is left: predictions all but certain.
    assert fit.fit(fit.shares(np.full(1000, 11.0)), MIXTURE, CLASSES, 1000).left > 0.9


def test_epochs_count_by_the_training_that_they_stand_for():
    assert fit.spans([0, 1, 2, 4, 8]) == pytest.approx(np.array([0.5, 1.0, 1.5, 3.0, 2.0]) / 8.0)
    assert fit.spans([3]) == pytest.approx([1.0])
    assert fit.shares(np.array([-20.0, 0.1, 20.0]), np.array([0.5, 0.3, 0.2]))[[0, 49, -1]] == pytest.approx(
        [0.5, 0.3, 0.2]
    )


def test_the_mixture_of_quantiles_has_the_real_law_in_spite_of_ties():
    rng = np.random.default_rng(0)
    log_p_t = np.where(rng.random(4000) < 0.3, -1e-12, -rng.gamma(1.5, size=4000))  # many all but certain
    mixture = fit.by_quantiles(MIXTURE, log_p_t, np.full(4000, 1.0))
    law = law_of(mixture, "nll", CLASSES)
    at = np.array([-4.0, -2.0, -1.0, -0.3])
    assert law.rank(at) == pytest.approx([np.mean(log_p_t > x) for x in at], abs=0.02)


def test_the_loss_that_a_mixtures_own_predictions_imply_is_its_optimum():
    """Both ways to it: the fitted weights, and the optimum over the predictions themselves."""
    objective = ObjectiveConfig(mixture=MIXTURE)
    found = matched.match({0: draw(jax.random.key(5), MIXTURE, CLASSES, 40000)}, objective, CLASSES, seed=0)
    optimum = loss.learned_loss(fit.implied_loss(MIXTURE, objective, CLASSES, seed=0))
    for logit, pull, tolerance in (
        (found.implied.logit, found.implied.pull, 0.06),
        (logits := np.linspace(-4.0, 4.0, 17), _pull(loss.learned_loss(found.artifact), logits), 0.04),
    ):
        near = np.abs(logit) < 4.0
        assert pull[near] == pytest.approx(_pull(optimum, logit[near]), abs=tolerance)


def _pull(function, logit):
    _, norms = loss.margin_profile(function, logit + math.log(CLASSES - 1), CLASSES)
    return norms / math.sqrt(1.0 + 1.0 / (CLASSES - 1))


def test_epochs_that_are_recorded():
    assert recorded_epochs((), 4, "run") == (0, 1, 2, 4)
    assert recorded_epochs((), 20, "run") == (0, 1, 2, 4, 8, 16, 20)
    assert recorded_epochs((1, 3), 4, "run") == (1, 3)
    with pytest.raises(UserError, match="epochs is 9, expected at most 4: runs/a has no more"):
        recorded_epochs((1, 9), 4, "runs/a")
