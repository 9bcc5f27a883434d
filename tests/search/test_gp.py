"""Genetic programming: trees, selection, archive, states that go on."""

import json

import numpy as np
import pytest
from search_cases import CONFIG

from edl_jax.core.errors import UserError
from edl_jax.loss import expression as ex
from edl_jax.search import gp
from edl_jax.search.gp.evolve import _tournament
from edl_jax.search.gp.trees import crossover, mutate, random_tree, repair
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.tables import same, signatures

QUIRKS = gp.GPConfig(released_quirks=True)


def texts(state):
    return [ex.to_text(member.tree) for member in state.population]


def of_size(tree):
    """Return a fitness: how far a tree is from 12 nodes, and a little of its own."""
    return abs(tree.size - 12) + hash_of(ex.to_text(tree))


def hash_of(text):
    return sum(i * ord(c) for i, c in enumerate(text)) % 997 / 1000.0


def generations(config, state, count, evaluate=of_size):
    """Return the states of some generations, trees being the same where their text is."""
    states = [state]
    for _ in range(count):
        keys = texts(state)
        found = {i: gp.Evaluation(evaluate(state.population[i].tree)) for i in gp.ask(config, state, keys)}
        state = gp.tell(config, state, keys, found, lambda trees: [ex.to_text(tree) for tree in trees])
        states.append(state)
    return states


def test_random_trees_are_those_of_deap():
    """20,000 trees of EvoMAL's released code: 30.5 % hold y and p; 3 to 31 nodes, median 7, mean 8.0."""
    rng = np.random.default_rng(0)
    trees = [random_tree(rng, CONFIG, 2, 4) for _ in range(4000)]
    sizes = np.array([tree.size for tree in trees])
    assert {tree.height for tree in trees} == {2, 3, 4}
    assert np.mean([{"y", "p"} <= tree.names for tree in trees]) == pytest.approx(0.305, abs=0.025)
    assert sizes.mean() == pytest.approx(8.0, abs=0.3)
    assert (sizes.min(), np.median(sizes)) == (3, 7)
    assert sizes.max() <= 31


def test_the_first_population_holds_y_and_p():
    state = gp.init(CONFIG, 0)
    assert len(state.population) == 25
    for member in state.population:
        assert {"y", "p"} <= member.tree.names
        assert 2 <= member.tree.height <= 5
        ex.evomal.to_tree(member.tree)
    assert texts(state) == texts(gp.init(CONFIG, 0)) != texts(gp.init(CONFIG, 1))


def test_repair_turns_a_terminal_into_both_inputs():
    rng = np.random.default_rng(0)
    tree = ex.evomal.from_tree("add(tanh(p), 1)")
    repaired = {ex.to_text(repair(rng, tree, CONFIG)) for _ in range(300)}
    inputs = [f"{name}({a}, {b})" for name in ("add", "sub", "mul", "div") for a, b in (("y", "p"), ("p", "y"))]
    expected = [ex.evomal.from_tree(f"add(tanh({x}), 1)") for x in inputs]
    expected += [ex.evomal.from_tree(f"add(tanh(p), {x})") for x in inputs]
    assert repaired == {ex.to_text(x) for x in expected}
    whole = ex.parse("y*p")
    assert repair(rng, whole, CONFIG) is whole


def test_crossover_and_mutation():
    rng = np.random.default_rng(0)
    tree, mate = ex.parse("y - tanh(p)"), ex.parse("square(y) + 1")
    children = {ex.to_text(crossover(rng, tree, mate)) for _ in range(500)}
    parts = ("y^2", "y", "1")
    assert children == {f"{x} - tanh(p)" for x in parts} | {f"y - {x}" for x in parts} | {
        f"y - tanh({x})" for x in parts
    }
    assert crossover(rng, ex.P, mate) is ex.P
    mutants = [mutate(rng, tree, CONFIG) for _ in range(500)]
    assert max(mutant.height for mutant in mutants) == 4
    assert 0.18 < np.mean([mutant.nodes[0].name != "sub" for mutant in mutants]) < 0.29  # the whole: 1 place of 4


def test_heights_stay_below_the_limit():
    config = gp.GPConfig(max_height=5, mutation=0.5, crossover=0.5)
    for state in generations(config, gp.init(config, 0), 12, lambda tree: -tree.size):
        assert max(member.tree.height for member in state.population) <= 5
    released = gp.GPConfig(max_height=5, mutation=0.5, crossover=0.5, released_quirks=True)
    heights = {
        member.tree.height
        for state in generations(released, gp.init(released, 0), 12, lambda tree: -tree.size)
        for member in state.population
    }
    assert max(heights) <= 6


def test_a_full_tree_without_room_is_not_repaired():
    config = gp.GPConfig(min_init_height=1, max_init_height=1, max_height=2)
    tree = ex.evomal.from_tree("add(add(p, p), add(p, p))")
    assert repair(np.random.default_rng(0), tree, config) is None


def test_tournaments_choose_the_best_of_four():
    rng = np.random.default_rng(0)
    members = [gp.Member(ex.P, float(i)) for i in range(10)]
    wins = np.bincount([int(_tournament(rng, CONFIG, members).fitness) for _ in range(20000)], minlength=10)
    worse = np.arange(10, -1, -1) / 10.0
    np.testing.assert_allclose(wins / 20000, worse[:-1] ** 4 - worse[1:] ** 4, atol=0.01)


def test_the_best_goes_on_and_nothing_is_evaluated_twice():
    evaluated = []

    def evaluate(tree):
        evaluated.append(ex.to_text(tree))
        return of_size(tree)

    states = generations(CONFIG, gp.init(CONFIG, 3), 20, evaluate)
    assert len(evaluated) == len({*evaluated}) == len(states[-1].archive)
    bests = [state.best_entry.evaluation.fitness for state in states[1:]]
    assert bests == sorted(bests, reverse=True)
    for state in states[1:]:
        assert state.population[0].fitness == state.best_entry.evaluation.fitness
        assert all(
            state.archive[key].evaluation.fitness >= state.best_entry.evaluation.fitness for key in state.archive
        )
    assert bests[-1] < bests[0]


def test_retries_replace_twins():
    config = gp.GPConfig(retries=3)
    plain, diverse = (generations(c, gp.init(c, 5), 15)[-1] for c in (CONFIG, config))
    assert len(diverse.archive) > len(plain.archive)
    with pytest.raises(UserError, match="retries is 3, which needs key_of"):
        gp.tell(config, gp.init(config, 0), ["a"] * 25, {0: gp.Evaluation(1.0)})


def test_one_evaluation_for_trees_of_one_key():
    trees = [ex.parse("y - p"), ex.parse("(y - p)*1"), ex.parse("y*p")]
    config = gp.GPConfig(population_size=3)
    state = gp.init(config, 0, trees)
    keys = signatures(tables_of_expressions(trees))
    assert keys[0] == keys[1] != keys[2]
    assert gp.ask(config, state, keys) == [0, 2]
    state = gp.tell(config, state, keys, {0: gp.Evaluation(0.5, (1.0, 2.0, 3.0)), 2: gp.Evaluation(0.7)})
    assert state.best_entry == gp.Entry(trees[0], gp.Evaluation(0.5, (1.0, 2.0, 3.0)), 0)
    assert {key: entry.evaluation.fitness for key, entry in state.archive.items()} == {keys[0]: 0.5, keys[2]: 0.7}
    with pytest.raises(UserError, match="member 0 was not evaluated"):
        gp.tell(config, gp.init(config, 0, trees), keys, {2: gp.Evaluation(0.7)})
    with pytest.raises(UserError, match="2 keys for a population of 3"):
        gp.ask(config, state, keys[:2])


@pytest.mark.parametrize("config", [CONFIG, gp.PRESETS["diverse"], QUIRKS], ids=["paper", "diverse", "quirks"])
def test_a_search_goes_on_from_text_as_if_nothing_had_happened(config):
    states = generations(config, gp.init(config, 7), 6)
    for i in (0, 3):
        again = gp.GPState.from_json(json.dumps(json.loads(states[i].to_json())))
        assert again == states[i]
        assert generations(config, again, 6 - i)[-1] == states[6]


def test_states_hold_the_largest_trees():
    """Text has a greatest length, trees have not."""
    tree = ex.evomal.from_tree("y - p")
    for _ in range(9):
        tree = ex.apply("mul", tree, tree)
    assert len(ex.to_text(tree)) > 2000
    state = gp.init(CONFIG, 0, [tree])
    assert gp.GPState.from_json(state.to_json()) == state


@pytest.mark.parametrize("config", [CONFIG, QUIRKS], ids=["paper", "quirks"])
def test_a_generation_of_rejects(config):
    state = gp.init(config, 0)
    keys = texts(state)
    rejects = dict.fromkeys(gp.ask(config, state, keys), gp.Evaluation(0.1, rejected=True))
    after = gp.tell(config, state, keys, rejects)
    assert after.best is None
    assert after.best_entry is None
    assert {member.fitness for member in after.population} <= {None, np.inf}
    assert gp.GPState.from_json(after.to_json()) == after
    # The released code forgets what it rejected.
    assert len(after.archive) == (0 if config.released_quirks else len(rejects))
    again = gp.GPState(0, 1, state.population, after.archive)
    assert len(gp.ask(config, again, keys)) == (len(rejects) if config.released_quirks else 0)


def test_nan_never_wins():
    def evaluate(tree):
        return (-np.inf, np.nan)[tree.size % 2] if tree.size < 12 else np.inf if tree.size < 14 else float(tree.size)

    states = generations(CONFIG, gp.init(CONFIG, 0), 12, evaluate)
    assert states[-1].best_entry.evaluation.fitness == 14.0
    assert all(not np.isnan(entry.evaluation.fitness) for entry in states[-1].archive.values())
    with_quirks = generations(QUIRKS, gp.init(QUIRKS, 0), 12, evaluate)
    assert any(np.isnan(entry.evaluation.fitness) for entry in with_quirks[-1].archive.values())


def planted(config, seed):
    """Return (the search's last state, whether its best is the target's table)."""
    (target,) = tables_of_expressions([ex.parse("square(y - p)")])

    def key_of(trees):
        return signatures(tables_of_expressions(trees))

    def distance(table):
        return float(np.nan_to_num(np.abs(np.arcsinh(64.0 * table) - np.arcsinh(64.0 * target)), nan=50.0).mean())

    state = gp.init(config, seed)
    while state.generation < config.generations:
        tables = tables_of_expressions([member.tree for member in state.population])
        keys = signatures(tables)
        found = {i: gp.Evaluation(distance(tables[i])) for i in gp.ask(config, state, keys)}
        state = gp.tell(config, state, keys, found, key_of)
        if state.best_entry.evaluation.fitness == 0.0:
            break
    return same(tables_of_expressions([state.best_entry.tree])[0], target)


@pytest.mark.parametrize(
    ("preset", "seeds", "least"),
    [
        ("diverse", 1, 1),
        pytest.param("diverse", 10, 8, marks=pytest.mark.slow),
        pytest.param("paper", 10, 4, marks=pytest.mark.slow),
    ],
)
def test_a_planted_target_is_found(preset, seeds, least):
    """In 50 generations of 25."""
    assert sum(bool(planted(gp.PRESETS[preset], seed)) for seed in range(seeds)) >= least


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operators": ("add", "multiply")}, "unknown primitive 'multiply'"),
        ({"operators": ("tanh", "log")}, "primitives are tanh, log, expected one of add, sub"),
        ({"terminals": ("y", "1")}, "terminals are y, 1, expected y and p among them"),
        ({"terminals": ("y", "p", "2")}, "unknown terminal '2'"),
        ({"operators": ("add", "add")}, "primitives are add, add, expected each once"),
        ({"population_size": 1}, "population_size is 1, expected at least 2"),
        ({"generations": 0}, "generations is 0"),
        ({"max_init_height": 10}, "min_init_height, max_init_height and max_height are 2, 10 and 10"),
        ({"max_height": 20}, "max_height <= 16"),
        ({"crossover": 0.9}, "expected a sum of at most 1"),
        ({"mutation": -0.1}, "mutation is -0.1, expected 0 <= mutation <= 1"),
        ({"tournament_size": 0}, "tournament_size is 0"),
        ({"elitism": 1.0}, "elitism is 1.0, expected less than 1"),
        ({"retries": -1}, "retries is -1"),
        ({"retries": 1, "released_quirks": True}, "retries is 1, expected 0 with released_quirks"),
        ({"max_mutation_height": -1}, "max_mutation_height is -1"),
    ],
)
def test_settings_that_make_no_search(settings, message):
    with pytest.raises(UserError, match=message):
        gp.GPConfig(**settings)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("tanh(y)", "lacks y or p"),
        ("exp(y)*p", "unknown EvoMAL operator 'exp'"),
        ("tanh(" * 11 + "y - p" + ")" * 11, "has height 12, expected at most 10"),
    ],
)
def test_trees_that_cannot_start_a_search(formula, message):
    with pytest.raises(UserError, match=message):
        gp.init(CONFIG, 0, [ex.parse(formula)])
    with pytest.raises(UserError, match="26 trees are given"):
        gp.init(CONFIG, 0, [ex.parse("y - p")] * 26)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"seed": 0, "generation": 1, "population": [], "archive": {}, "best": "x"}',
        '{"seed": 0, "generation": 1, "population": [{"tree": ["exp", "y"], "fitness": 1}], "archive": {}}',
    ],
)
def test_what_is_no_state(text):
    with pytest.raises(UserError, match="this is no state of a search"):
        gp.GPState.from_json(text)
