"""Regularized evolution: invariants of its steps, with fitness that is drawn in place of trained."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from edl_jax.core.errors import UserError
from edl_jax.loss.expression import genome_text
from edl_jax.search import nlfs
from edl_jax.search.nlfs.evolve import Trial

CONFIG = nlfs.NLFSConfig(first=12, population_size=6, iterations=40, tournament_size=3, children=4)
NAMES = (
    "abs",
    "square",
    "softsign",
    "arctan",
    "erf",
    "tanh",
    "sin",
    "sinh",
    "arcsinh",
    "exp",
    "relu",
    "softplus_shift",
)


def genome(i):
    """Return one of many genomes; the steps but `propose` do not look into them."""
    first, second = NAMES[i % len(NAMES)], NAMES[i // len(NAMES) % len(NAMES)]
    return genome_text.from_text(f"root = sub(h1, h2); h1 = {first}(p); h2 = {second}(y)")


def begun(fitness):
    """Return the state after the first losses."""
    return nlfs.tell_first(CONFIG, nlfs.NLFSState(0), [Trial(genome(i), f) for i, f in enumerate(fitness)])


ERRORS = st.lists(st.sampled_from([0.1, 0.2, 0.2, 0.3, 0.5, math.inf]), min_size=12, max_size=12).filter(
    lambda fitness: sum(math.isfinite(f) for f in fitness) >= 2
)
ITERATIONS = st.lists(st.lists(st.sampled_from([math.inf, 0.05, 0.2, 0.4]), max_size=3), max_size=30)


@settings(max_examples=100, deadline=None)
@given(ERRORS, ITERATIONS)
def test_the_oldest_dies_the_history_keeps_it_and_the_population_stays_as_large(first, iterations):
    state = begun(first)
    size = len(state.population)
    assert size == min(6, sum(math.isfinite(f) for f in first))
    best_first = sorted(f for f in first if math.isfinite(f))[:size]
    assert sorted(state.history[place].fitness for place in state.population) == best_first
    for tried in iterations:
        ended = [f for f in tried if not math.isfinite(f)]
        trained = [f for f in tried if math.isfinite(f)][:1]
        before = state
        trials = [Trial(genome(i), f, before.population[0]) for i, f in enumerate([*ended, *trained])]
        state = nlfs.tell(state, [trials])
        assert state.iteration == before.iteration + 1
        assert state.history[: len(before.history)] == tuple(
            entry._replace(death=state.history[place].death) for place, entry in enumerate(before.history)
        )
        assert len(state.history) == len(before.history) + len(trials)
        assert len(set(state.population)) == size
        gone = set(before.population) - set(state.population)
        if trained:
            (dead,) = gone
            oldest = min(before.history[place].birth for place in before.population)
            assert before.history[dead].birth == oldest
            as_old = [before.history[p] for p in before.population if before.history[p].birth == oldest]
            assert before.history[dead].fitness == max(entry.fitness for entry in as_old)
            assert state.history[dead].death == state.iteration
            assert state.history[-1][1:5] == (trained[0], state.iteration, None, before.population[0])
        else:
            assert not gone
        alive = {place for place, entry in enumerate(state.history) if entry.death is None}
        assert alive == set(state.population)
    assert nlfs.NLFSState.from_dict(json.loads(state.to_json())) == state


def test_the_best_can_die_and_the_history_keeps_it():
    state = begun([0.01, *[0.5] * 11])
    for i in range(6):
        state = nlfs.tell(state, [[Trial(genome(20 + i), 0.6, 0)]])
    assert min(state.history[place].fitness for place in state.population) == 0.6
    assert state.history[0].fitness == 0.01
    assert state.history[0].death == 6  # of first losses the worst go first


def test_a_parent_is_the_best_of_some_and_its_child_is_valid_and_new():
    config = nlfs.NLFSConfig(first=30, population_size=10, tournament_size=200, children=8)
    looks = nlfs.Looks()
    state = nlfs.NLFSState(4)
    while len(state.history) < config.first:
        losses = nlfs.draw_first(config, state, looks)
        state = nlfs.tell_first(config, state, [Trial(one, 0.5 - 0.01 * i) for i, one in enumerate(losses)])
    assert len(state.history) == 30
    assert len({looks.of([entry.genome])[0].key for entry in state.history}) == 30
    children: list[nlfs.Child] = []
    for rng in nlfs.generators(config, state):
        child = nlfs.propose(config, state, rng, looks, [child.genome for child in children])
        assert child is not None
        children.append(child)
    best = min(state.population, key=lambda place: state.history[place].fitness)
    assert {state.history[child.parent].fitness for child in children} == {state.history[best].fitness}
    keys = [look.key for look in looks.of([child.genome for child in children])]
    assert len({*keys, *(looks.of([state.history[p].genome])[0].key for p in state.population)}) == 18
    again = nlfs.propose(config, state, nlfs.generators(config, state)[0], nlfs.Looks())
    assert again == children[0]
    twins = nlfs.NLFSConfig(**{**vars(config), "twins": "phenotype"})
    child = nlfs.propose(twins, state, np.random.default_rng(0), looks)
    assert child is not None
    (own,) = looks.of([child.genome])
    others = looks.of([state.history[place].genome for place in state.population])
    assert min(np.linalg.norm(own.phenotype - other.phenotype) for other in others) > 0.01


def test_first_losses_that_train_nothing_end_the_search_in_a_line():
    with pytest.raises(UserError, match="1 of 12 first losses trained a student, expected at least 2: raise first"):
        begun([0.5, *[math.inf] * 11])


def test_a_screen_chooses_whom_the_student_tries():
    state = begun([0.1 * (i + 1) for i in range(12)])
    screened = nlfs.tell_screened(CONFIG, state, [0.6, 0.5, math.inf, 0.4, 0.3, 0.2])
    assert screened.population == (0, 1, 3, 4, 5)
    assert [entry.screened for entry in screened.history] == [entry.fitness for entry in state.history]
    assert [entry.fitness for entry in screened.history] == [0.6, 0.5, math.inf, 0.4, 0.3, 0.2, *[math.inf] * 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "no state of NLFS"),
        ('{"seed": 0, "generation": 1, "iteration": 0, "history": [], "population": [3]}', "outside the history"),
        ('{"seed": 0, "generation": 1, "iteration": 0, "history": [{}], "population": []}', "no entry of a history"),
    ],
)
def test_what_is_no_state(text, message):
    with pytest.raises(UserError, match=message):
        nlfs.NLFSState.from_dict(json.loads(text))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": 1}, "hidden is 1, expected 2 to 32 nodes"),
        ({"first": 5}, "first is 5, expected at least population_size"),
        ({"twins": "text"}, "twins"),
        ({"operator": 0.9, "connection": 0.2}, "expected a sum of at most 1"),
        ({"tournament_size": 0}, "tournament_size is 0, expected at least 1"),
    ],
)
def test_settings_that_contradict(changes, message):
    with pytest.raises(UserError, match=message):
        nlfs.NLFSConfig(**changes)


def test_a_history_is_read_back_and_a_damaged_one_is_named(tmp_path):
    state = nlfs.tell(begun([0.5, math.inf, *[0.4] * 10]), [[Trial(genome(50), 0.1, 2)]])
    with pytest.raises(UserError, match="is no run directory"):
        nlfs.history.read(tmp_path)
    nlfs.history.write(tmp_path, state.history)
    assert tuple(nlfs.history.read_all(tmp_path)) == state.history
    assert [entry.fitness for entry in nlfs.history.read(tmp_path)] == [0.1, *[0.4] * 10, 0.5]
    file = tmp_path / nlfs.history.FILE
    file.write_text(file.read_text() + "{\n")
    with pytest.raises(UserError, match="damaged at line 14"):
        nlfs.history.read(tmp_path)
