"""TaylorGLO: its losses, its search, states that go on."""

import json

import jax
import numpy as np
import pytest

from edl_jax import loss
from edl_jax.core.errors import UserError
from edl_jax.loss.expression import Record, parse
from edl_jax.search import taylorglo
from edl_jax.search.loss_tables import table_of_loss
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.tables import same
from edl_jax.search.taylorglo import TaylorConfig, TaylorState, expression

THETA = (0.3, 0.7, 0.1, -0.2, 0.5, 1.0, -0.4, 0.6)


@pytest.fixture(autouse=True)
def _evosax_promotes():
    with jax.numpy_rank_promotion("allow"):
        yield


def released(theta, y, p):
    """The polynomial of EvoMAL's released code."""
    t = theta
    e, f = y - t[1], p - t[0]
    alone = t[2] * e + t[3] / 2 * e**2 + t[4] / 6 * e**3
    return alone + t[5] * f * e + t[6] / 2 * f * e**2 + t[7] / 2 * f**2 * (y - t[0])


def original(theta, y, p):
    t = theta
    d, s = p - t[1], y - t[0]
    return -(t[2] * d + t[3] * d**2 + t[4] * d**3 + t[5] * s * d + t[6] * s * d**2 + t[7] * s**2 * d)


@pytest.mark.parametrize(("variant", "polynomial"), [("taylorglo", original), ("evomal_taylor", released)])
def test_losses_are_the_polynomials(variant, polynomial):
    logits = np.random.default_rng(0).standard_normal((6, 4))
    labels = np.arange(6) % 4
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = np.eye(4)[labels]
    found = loss.expression_loss(expression(THETA, variant))(logits.astype(np.float32), labels)
    # The terms in the label alone are part of the value, as in the code.
    np.testing.assert_allclose(found, polynomial(THETA, y, p).sum(axis=1), rtol=1e-5)


@pytest.mark.slow
def test_the_original_is_the_zoos_but_for_factorials_and_the_mean_over_classes():
    factors = np.array([1, 1, 10, 20, 60, 10, 20, 20])
    zoo = loss.get("taylor_glo", theta=tuple(factors * np.array(THETA)))
    assert same(table_of_loss(zoo, 10), tables_of_expressions([expression(THETA)])[0])


def test_half_of_the_released_coefficients_do_nothing():
    changed = (*THETA[:2], 5.0, 6.0, 7.0, *THETA[5:])
    a, b = tables_of_expressions([expression(theta, "evomal_taylor") for theta in (THETA, changed)])
    assert same(a, b)
    c, d = tables_of_expressions([expression(theta) for theta in (THETA, changed)])
    assert not same(c, d)


def test_a_found_loss_is_an_artifact(tmp_path):
    found = expression(THETA)
    loss.save(loss.FormulaArtifact(Record(found), {"method": "taylorglo"}), tmp_path / "loss.safetensors")
    assert loss.load(tmp_path / "loss.safetensors") == loss.expression_loss(found)
    assert parse(loss.load_artifact(tmp_path / "loss.safetensors").record.to_dict()["formula"]) == found


def distance(thetas):
    """Return how far losses are from one, by the coefficients that matter."""
    return np.linalg.norm(np.asarray(thetas) - np.asarray(THETA), axis=1)


def test_the_search_descends_and_goes_on_from_text_as_if_nothing_had_happened():
    config = TaylorConfig()
    state = taylorglo.init(config, 0)
    states = [state]
    for _ in range(30):
        state = taylorglo.tell(config, state, distance(taylorglo.ask(config, state)))
        states.append(state)
    first = taylorglo.ask(config, states[0])
    assert first.shape == (20, 8)
    assert first.std() == pytest.approx(1.2, abs=0.2)
    assert state.best_fitness < 0.2 * distance(first).min()
    assert distance([state.best])[0] == pytest.approx(state.best_fitness, rel=1e-5)
    again = TaylorState.from_dict(config, json.loads(states[10].to_json()))
    for _ in range(20):
        again = taylorglo.tell(config, again, distance(taylorglo.ask(config, again)))
    assert again.to_json() == state.to_json()


def test_what_does_not_train_never_wins():
    config = TaylorConfig()
    state = taylorglo.init(config, 1)
    fitness = distance(taylorglo.ask(config, state))
    fitness[:4] = np.nan, np.inf, np.nan, -np.inf
    state = taylorglo.tell(config, state, fitness)
    assert state.best_fitness == pytest.approx(fitness[4:].min())
    assert np.isfinite(taylorglo.ask(config, state)).all()
    nothing = taylorglo.tell(config, taylorglo.init(config, 1), np.full(20, np.nan))
    assert nothing.best is None
    assert np.isfinite(taylorglo.ask(config, nothing)).all()
    assert TaylorState.from_dict(config, nothing.to_dict()).best_fitness == np.inf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaylorConfig(variant="taylor"), "unknown TaylorGLO variant 'taylor'"),
        (lambda: TaylorConfig(population_size=2), "population_size is 2"),
        (lambda: TaylorConfig(generations=0), "generations is 0"),
        (lambda: TaylorConfig(std=0.0), "std is 0.0"),
        (lambda: expression((1.0, 2.0)), "expected 8 finite numbers"),
        (lambda: expression((*THETA[:7], np.nan)), "expected 8 finite numbers"),
        (lambda: expression(THETA, "other"), "unknown TaylorGLO variant 'other'"),
        (lambda: taylorglo.tell(TaylorConfig(), taylorglo.init(TaylorConfig(), 0), [1.0]), "fitness has shape"),
        (lambda: TaylorState.from_dict(TaylorConfig(), {}), "this is no state of a search"),
        (
            lambda: TaylorState.from_dict(
                TaylorConfig(), taylorglo.init(TaylorConfig(), 0).to_dict() | {"strategy": {}}
            ),
            "this is no state of a search",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(UserError, match=message):
        make()
