import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from edl_jax.core.errors import UserError
from edl_jax.training.temperature import fit_temperature


def calibrated(count, num_classes, seed=0):
    """Logits, and labels drawn from their softmax: the best temperature is 1 but for chance."""
    rng = np.random.default_rng(seed)
    logits = 2.0 * rng.normal(size=(count, num_classes))
    uniform = rng.random((count, 1))
    return logits, (softmax(logits, 1).cumsum(1) < uniform).sum(1).clip(max=num_classes - 1)


@pytest.mark.parametrize("num_classes", [2, 10])
def test_calibrated_logits_have_temperature_one(num_classes):
    logits, labels = calibrated(20_000, num_classes)
    assert fit_temperature(logits, labels) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("scale", [0.1, 0.5, 3.0, 20.0])
def test_known_temperature_is_recovered(scale):
    logits, labels = calibrated(2000, 5)
    base = fit_temperature(logits, labels)
    assert fit_temperature((scale * logits).astype(np.float32), labels) == pytest.approx(scale * base, rel=1e-4)


def test_found_temperature_is_the_best_of_a_grid():
    logits, labels = calibrated(300, 4, seed=1)
    logits = 2.5 * logits + 7.0  # a shift of a whole row changes nothing

    def nll(temperature):
        return -log_softmax(logits / temperature, 1)[np.arange(300), labels].mean()

    found = fit_temperature(logits, labels)
    assert all(nll(found) <= nll(t) + 1e-12 for t in np.geomspace(0.02, 50, 400))


LOGITS, LABELS = calibrated(30, 3)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "there are no examples"),
        (LOGITS, LABELS[:-1], r"logits have shape \(30, 3\) and labels \(29,\)"),
        (LOGITS[:, :1], LABELS, "at least 2 classes"),
        (np.where(LOGITS > 2, np.inf, LOGITS), LABELS, "not all finite"),
        (LOGITS, LABELS + 1, "labels range from 1 to 3, expected integers from 0 to 2"),
        (LOGITS, LABELS + 0.5, "expected integers from 0 to 2"),
        (np.ones((30, 3)), LABELS, "equal in each row"),
        (LOGITS, LOGITS.argmax(1), "every example is classified right"),
        (LOGITS, LOGITS.argmin(1), "the logits say nothing about the labels"),
    ],
)
def test_inputs_without_a_best_temperature_are_refused(logits, labels, message):
    with pytest.raises(UserError, match=message):
        fit_temperature(logits, labels)
