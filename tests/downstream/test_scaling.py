"""Temperature scaling at the end of a run: what the temperature is fitted on."""

import dataclasses

import numpy as np
import pytest
from downstream_cases import SMALL
from scipy.special import log_softmax

from edl_jax.downstream.scaling import HALVES, VALIDATION, scaled_by_halves, scaled_numbers
from edl_jax.training.report import make_report
from edl_jax.training.temperature import fit_temperature


def report(seed, count):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    logits = 3.0 * generator.normal(size=(count, 4)) + 4.0 * np.eye(4)[labels]
    return make_report(logits, labels)


def test_a_clean_validation_part_gives_the_temperature_of_the_test_images():
    test, validation = report(0, 300), report(1, 200)
    config = dataclasses.replace(SMALL, val_size=200)
    found, bins = scaled_numbers(config, test, lambda: validation)
    temperature = fit_temperature(validation.logits, validation.labels)
    logp = log_softmax(test.logits / temperature, axis=1)[np.arange(300), test.labels]
    assert (found["temperature"], found["temperature_from"]) == (temperature, VALIDATION)
    assert found["scaled_nll"] == pytest.approx(-logp.mean(), rel=1e-5)
    gaps = np.abs(bins["correct"] - bins["confidence"])
    assert found["scaled_ece"] == pytest.approx(gaps.sum() / bins["count"].sum(), rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"val_size": 200, "label_noise": 0.4}])
def test_without_one_or_with_wrong_labels_in_it_halves_of_the_test_images_do(changes):
    test = report(0, 300)
    found, _ = scaled_numbers(dataclasses.replace(SMALL, **changes), test, lambda: pytest.fail("it is not read"))
    assert found["temperature_from"] == HALVES
    assert found["scaled_ece"] == scaled_by_halves(test)["scaled"]["ece"]


def test_where_no_temperature_is_best_there_are_no_numbers():
    labels = np.arange(8) % 4
    test = make_report(0.1 * np.eye(4)[labels], labels)
    found, bins = scaled_numbers(SMALL, test, lambda: pytest.fail("it is not read"))
    assert (found["temperature"], found["scaled_nll"], found["scaled_ece"], bins) == (None, None, None, None)
