"""Genetic programming as EvoMAL has it: ask which trees to evaluate, tell what was found, get the next generation.

    state = init(config, seed)
    while state.generation < config.generations:
        keys = signatures(tables_of_expressions([member.tree for member in state.population]))
        found = {i: evaluate(state.population[i].tree) for i in ask(config, state, keys)}
        state = tell(config, state, keys, found, lambda trees: signatures(tables_of_expressions(trees)))
    state.best_entry

A key says which trees are one candidate: equal tables, whatever the trees look like. Inheritance is Baldwinian: the
edge weights that an evaluation found stay in the archive, children start from weights of 1.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from edl_jax.core.errors import require
from edl_jax.loss.expression import Expression, to_text
from edl_jax.loss.expression.evomal import to_tree
from edl_jax.search.gp.config import GPConfig
from edl_jax.search.gp.state import Entry, Evaluation, GPState, Member
from edl_jax.search.gp.trees import crossover, mutate, random_tree, repair


def init(config: GPConfig, seed: int, trees: Sequence[Expression] = ()) -> GPState:
    """Return the first population: the trees that are given, then random ones.

    Args:
      config: settings.
      seed: of the search, at least 0.
      trees: at most population_size trees over EvoMAL's operators that hold y and p.

    Raises:
      UserError: a tree that the settings do not allow.
    """
    require(seed >= 0, f"seed is {seed}, expected at least 0")
    count = config.population_size
    require(len(trees) <= count, f"{len(trees)} trees are given, expected at most population_size, {count}")
    for tree in trees:
        _check(config, tree)
    rng = np.random.default_rng((seed, 0))
    population = [*trees]
    while len(population) < count:
        grown = repair(rng, random_tree(rng, config, config.min_init_height, config.max_init_height), config)
        assert grown is not None  # its height is below the limit
        population.append(grown)
    return GPState(seed, 0, tuple(Member(tree) for tree in population))


def ask(config: GPConfig, state: GPState, keys: Sequence[str]) -> list[int]:
    """Return the indices of the members to evaluate: one of each candidate that the archive does not hold.

    Args:
      config: settings.
      state: state.
      keys: for each member, equal for what is the same candidate. The released quirks take the trees' text instead.
    """
    keys = _keys(config, state, keys)
    first: dict[str, int] = {}
    for i, (member, key) in enumerate(zip(state.population, keys, strict=True)):
        if member.fitness is None and key not in state.archive:
            first.setdefault(key, i)
    return list(first.values())


def tell(
    config: GPConfig,
    state: GPState,
    keys: Sequence[str],
    found: Mapping[int, Evaluation],
    key_of: Callable[[Sequence[Expression]], Sequence[str]] | None = None,
) -> GPState:
    """Return the state of the next generation.

    Args:
      config: settings.
      state: state.
      keys: those that `ask` was given.
      found: index -> evaluation, of every index that `ask` returned.
      key_of: trees -> their keys, for `config.retries`.

    Raises:
      UserError: a member without a fitness was not evaluated, or there are retries and no `key_of`.
    """
    require(config.retries == 0 or key_of is not None, f"retries is {config.retries}, which needs key_of, got none")
    keys = _keys(config, state, keys)
    archive, best = dict(state.archive), state.best
    results = {key: entry.evaluation.fitness for key, entry in archive.items()}
    for i in sorted(found):
        evaluation = _cleaned(config, found[i])
        results[keys[i]] = evaluation.fitness
        if config.released_quirks and evaluation.rejected:
            continue
        archive[keys[i]] = Entry(state.population[i].tree, evaluation, state.generation)
        if _improves(evaluation.fitness, None if best is None else archive[best].evaluation.fitness):
            best = keys[i]
    members = []
    for i, (member, key) in enumerate(zip(state.population, keys, strict=True)):
        fitness = member.fitness
        if fitness is None:
            require(key in results, f"member {i} was not evaluated: expected an evaluation of all that ask returned")
            fitness = results[key]
        members.append(Member(member.tree, fitness))
    generation = state.generation + 1
    rng = np.random.default_rng((state.seed, generation))
    elites, children = _next_population(rng, config, members, keys)
    for _ in range(config.retries):
        assert key_of is not None
        # What is new and no twin stays; the others are drawn again.
        new = [i for i, child in enumerate(children) if child.fitness is None]
        seen = {*archive}
        twins = []
        for i, key in zip(new, key_of([children[i].tree for i in new]) if new else (), strict=True):
            (twins.append(i) if key in seen else seen.add(key))
        if not twins:
            break
        for i in twins:
            parents = [_tournament(rng, config, members) for _ in range(2)]
            children[i] = _child(rng, config, parents[0], parents)
    population = (*elites, *children)
    return GPState(state.seed, generation, population, MappingProxyType(archive), best)


def _next_population(
    rng: np.random.Generator, config: GPConfig, members: list[Member], keys: Sequence[str]
) -> tuple[list[Member], list[Member]]:
    """Return the elites, and a child of each selected member."""
    order = sorted(range(len(members)), key=lambda i: (np.nan_to_num(_fitness(members[i]), nan=np.inf), i))
    distinct = {keys[i]: i for i in reversed(order)}  # the first of each candidate
    elites = [members[i] for i in order if distinct[keys[i]] == i][: config.num_elites]
    parents = [_tournament(rng, config, members) for _ in range(len(members) - len(elites))]
    return elites, [_child(rng, config, parent, parents) for parent in parents]


def _child(rng: np.random.Generator, config: GPConfig, parent: Member, parents: Sequence[Member]) -> Member:
    """Return what variation and repair make of a selected member: itself, its fitness kept, where that is too high."""
    draw = rng.random()
    if draw < config.crossover:
        tree = crossover(rng, parent.tree, parents[int(rng.integers(len(parents)))].tree)
    elif draw < config.crossover + config.mutation:
        tree = mutate(rng, parent.tree, config)
    else:
        return parent
    repaired = None if tree.height > config.max_height else repair(rng, tree, config)
    return parent if repaired is None or repaired == parent.tree else Member(repaired)


def _tournament(rng: np.random.Generator, config: GPConfig, members: Sequence[Member]) -> Member:
    """Return the fittest of some members, drawn with replacement."""
    winner, *others = (members[i] for i in rng.integers(len(members), size=config.tournament_size))
    for member in others:
        if config.released_quirks:
            # DEAP's order: a NaN is beaten by all that come after it and beats all before it.
            if not _fitness(member) >= _fitness(winner):
                winner = member
        elif _fitness(member) < _fitness(winner):
            winner = member
    return winner


def _cleaned(config: GPConfig, evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with infinity as the fitness of what was rejected, or is not finite."""
    worst = evaluation.rejected or (not np.isfinite(evaluation.fitness) and not config.released_quirks)
    return evaluation._replace(fitness=np.inf) if worst else evaluation


def _fitness(member: Member) -> float:
    assert member.fitness is not None
    return member.fitness


def _improves(fitness: float, best: float | None) -> bool:
    if best is None:
        return fitness != np.inf  # NaN, with the quirks, is taken
    return fitness < best or bool(np.isnan(best))


def _keys(config: GPConfig, state: GPState, keys: Sequence[str]) -> Sequence[str]:
    count = len(state.population)
    require(len(keys) == count, f"{len(keys)} keys for a population of {count}: expected one a member")
    return [to_text(member.tree) for member in state.population] if config.released_quirks else keys


def _check(config: GPConfig, tree: Expression) -> None:
    to_tree(tree)  # refuses what EvoMAL does not have
    text = to_text(tree)
    require(
        tree.height <= config.max_height, f"{text:.60} has height {tree.height}, expected at most {config.max_height}"
    )
    require({"y", "p"} <= tree.names, f"{text:.60} lacks y or p: expected both in a loss")
