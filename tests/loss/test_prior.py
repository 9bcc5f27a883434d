"""The shipped prior: pulls as its optimum, keeps the rule it was chosen by, is the same for any number of classes."""

import jax
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.synthetic import MixtureConfig, pull_report
from edl_jax.synthetic.optimum import solve


def over_cross_entropy(name, logits):
    """Return the gradient of a wrong class over cross-entropy's, `[N]`, for label 0: equal wrong classes."""
    labels = np.zeros(len(logits), np.int32)

    def of_wrong_class(function):
        return np.asarray(jax.jit(jax.grad(lambda z: function(z, labels).sum()))(logits))[:, 1]

    return of_wrong_class(loss.get(name)) / of_wrong_class(loss.get("cross_entropy"))


def test_it_pulls_as_its_optimum_on_the_mixture_and_outside():
    found = pull_report(loss.load_artifact("edl"), solve(MixtureConfig()))
    assert found["r_squared"] > 0.999
    assert found["largest_deviation"] < 0.02
    assert found["largest_deviation_outside"] < 0.02


def test_a_prior_with_the_same_values_and_other_slopes_is_told_from_it():
    artifact = loss.load_artifact("edl_per_class")
    assert pull_report(artifact, solve(MixtureConfig()))["largest_deviation"] > 0.02


@pytest.mark.parametrize("name", ["edl", "edl_optimum"])
def test_the_rule_of_its_selection_holds_at_every_gap(name):
    logits = np.zeros((81, 10), np.float32)
    logits[:, 0] = np.linspace(-50.0, 50.0, 81)
    ratio = over_cross_entropy(name, logits)
    assert ratio.min() >= 0.3
    assert ratio.max() <= 5.0


def test_it_pulls_as_hard_with_any_number_of_classes():
    p = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    rows = []
    for classes in (2, 1000, 256_000):
        logits = np.zeros((len(p), classes), np.float32)
        logits[:, 0] = np.log(p) - np.log((1.0 - p) / (classes - 1))
        rows.append(over_cross_entropy("edl", logits))
    np.testing.assert_allclose(rows, np.broadcast_to(rows[0], (3, 5)), rtol=0.01)
