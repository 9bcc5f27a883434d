"""Regularized evolution: the oldest loss dies, not the worst, and its place is taken by a child of a good one.

    state = NLFSState(seed)
    while len(state.history) < config.first:
        losses = draw_first(config, state, looks)
        state = tell_first(config, state, [Trial(genome, fitness(genome)) for genome in losses])
    while state.iteration < config.iterations:
        children = [propose(config, state, rng, looks) for rng in generators(config, state)]
        state = tell(state, [[Trial(child.genome, fitness(child.genome), child.parent)] for child in children if child])

Steps are pure: they draw from generators of the seed and the iteration, so that a search that was interrupted goes on
as if it had not been. Real et al. (2019, arXiv 1802.01548) named the algorithm; the details are those of the authors'
code.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edl_jax.core.errors import UserError, require
from edl_jax.loss.expression import genome_text
from edl_jax.loss.expression.nlfs import Genome
from edl_jax.search.nlfs.config import NLFSConfig
from edl_jax.search.nlfs.genomes import Genomes, random_genomes, stack
from edl_jax.search.nlfs.history import Entry
from edl_jax.search.nlfs.integrity import REASONS, check
from edl_jax.search.nlfs.looks import Looks, is_twin, look_at
from edl_jax.search.nlfs.mutation import mutate
from edl_jax.search.nlfs.state import NLFSState

_DRAWN, _MUTANTS = 2048, 16  # genomes of a draw, and mutants of a parent, that are checked at once
_MOST_DRAWS = 500
_FIRST, _CHILD = 0, 1  # streams of generators


class Child(NamedTuple):
    """A valid mutant that no member of the population is.

    Attributes:
      genome: oriented.
      parent: its parent's place in the history.
    """

    genome: Genome
    parent: int


class Trial(NamedTuple):
    """A loss and what came of it.

    Attributes:
      genome: oriented.
      fitness: error rate, infinite for one that ended early or was not finite.
      parent: its parent's place in the history, None for a first loss.
    """

    genome: Genome
    fitness: float
    parent: int | None = None


def oriented(genomes: Genomes) -> tuple[list[Genome], np.ndarray]:
    """Return the genomes that pass the integrity check, with the `flip` that it found, and their phenotypes."""
    found = check(genomes)
    return genomes._replace(flip=found.flip).take(np.flatnonzero(found.accepted)).unstack(), found.phenotype


def parse(config: NLFSConfig, texts: Sequence[str]) -> list[Genome]:
    """Return the genomes of texts, oriented.

    Raises:
      UserError: a text that is no genome, has more hidden nodes than the config, or does not pass the check.
    """
    found = []
    for text in texts:
        genomes = stack([genome_text.from_text(text, config.hidden)])
        reason = REASONS[check(genomes).reason[0]]
        require(reason == REASONS[0], f"{text!r:.120} is refused by the integrity check: {reason}")
        found += oriented(genomes)[0]
    return found


def random_valid(
    rng: np.random.Generator, config: NLFSConfig, count: int, looks: Looks | None = None, seen: Sequence[Genome] = ()
) -> list[Genome]:
    """Draw genomes that pass the integrity check, no two of which are one loss.

    Args:
      rng: generator.
      config: probabilities and sizes.
      count: how many.
      looks: of genomes met before.
      seen: genomes that are not to be drawn again.

    Raises:
      UserError: there are hardly so many.
    """
    looks = looks or Looks()
    keys = {look.key for look in looks.of(seen)}
    found: list[Genome] = []
    for _ in range(_MOST_DRAWS):
        drawn, phenotypes = oriented(random_genomes(rng, _DRAWN, config.hidden, config.hidden_unary, config.root_unary))
        for genome, look in zip(drawn, look_at(drawn, phenotypes), strict=True):
            if look.key not in keys:
                keys.add(look.key)
                found.append(genome)
        if len(found) >= count:
            return found[:count]
    raise UserError(
        f"{len(found)} of {count} valid losses were found among {_MOST_DRAWS * _DRAWN} genomes of {config.hidden} "
        "hidden nodes: lower first, or raise hidden"
    )


def draw_first(config: NLFSConfig, state: NLFSState, looks: Looks, start: Sequence[Genome] = ()) -> list[Genome]:
    """Return the first losses that a generation tries: those of `start`, then random ones."""
    tried = len(state.history)
    count = min(config.children, config.first - tried)
    given = list(start[tried:])[:count]
    rng = np.random.default_rng((state.seed, _FIRST, state.generation))
    seen = [*(entry.genome for entry in state.history), *start]
    return [*given, *random_valid(rng, config, count - len(given), looks, seen)]


def tell_first(config: NLFSConfig, state: NLFSState, trials: Sequence[Trial]) -> NLFSState:
    """Return the state after first losses; after all of them the best are the population.

    Raises:
      UserError: fewer than two first losses trained a student.
    """
    history = [*state.history, *(Entry(trial.genome, trial.fitness) for trial in trials)]
    new = state._replace(generation=state.generation + 1, history=tuple(history))
    if len(history) < config.first:
        return new
    return _settled(new, range(len(history)), config.population_size)


def tell_screened(config: NLFSConfig, state: NLFSState, fitness: Sequence[float]) -> NLFSState:
    """Return the state after the population, of the losses that a screen chose, was tried with the search's student.

    Args:
      config: settings.
      state: its population has the screen's fitness.
      fitness: of each member of the population.
    """
    trained = dict(zip(state.population, fitness, strict=True))
    history = tuple(
        entry._replace(screened=entry.fitness, fitness=trained.get(place, math.inf))
        for place, entry in enumerate(state.history)
    )
    new = state._replace(generation=state.generation + 1, history=history)
    return _settled(new, state.population, config.population_size)


def generators(config: NLFSConfig, state: NLFSState) -> list[np.random.Generator]:
    """Return the generators of the next generation's iterations."""
    count = min(config.children, config.iterations - state.iteration)
    return [np.random.default_rng((state.seed, _CHILD, state.iteration + i)) for i in range(count)]


def propose(
    config: NLFSConfig, state: NLFSState, rng: np.random.Generator, looks: Looks, others: Sequence[Genome] = ()
) -> Child | None:
    """Return a child of a member of the population; None where no mutant is valid and new.

    Args:
      config: settings.
      state: state.
      rng: generator of the iteration.
      looks: of genomes met before.
      others: children that are tried at the same time, which it may not be either.
    """
    drawn = rng.choice(np.array(state.population), config.tournament_size)
    parent = int(min(drawn, key=lambda place: state.history[place].fitness))
    members = [*(state.history[place].genome for place in state.population), *others]
    known = looks.of(members)
    genomes = stack([state.history[parent].genome] * _MUTANTS)
    for _ in range(0, config.attempts, _MUTANTS):
        mutants, phenotypes = oriented(mutate(rng, genomes, config.operator, config.connection))
        for mutant, look in zip(mutants, look_at(mutants, phenotypes), strict=True):
            if not is_twin(look, known, config.twins):
                return Child(mutant, parent)
    return None


def tell(state: NLFSState, iterations: Sequence[Sequence[Trial]]) -> NLFSState:
    """Return the state after iterations.

    Args:
      state: state.
      iterations: what each tried, in its order. The last trial, if its fitness is finite, enters the population; the
        others are failures. An iteration without one is skipped.
    """
    history, population, iteration = [*state.history], [*state.population], state.iteration
    for trials in iterations:
        iteration += 1
        for trial in trials:
            death: int | None = iteration
            if math.isfinite(trial.fitness):
                # The oldest dies; of those that are as old the worst, so that first losses go worst first.
                oldest = min(population, key=lambda place: (history[place].birth, -history[place].fitness, place))
                history[oldest] = history[oldest]._replace(death=iteration)
                population[population.index(oldest)] = len(history)
                death = None
            history.append(Entry(trial.genome, trial.fitness, iteration, death, trial.parent))
    return NLFSState(state.seed, state.generation + 1, iteration, tuple(history), tuple(population))


def _settled(state: NLFSState, places: Sequence[int], count: int) -> NLFSState:
    """Return the state whose population are the best of some losses; the others are dead."""
    trained = sorted(
        (place for place in places if math.isfinite(state.history[place].fitness)),
        key=lambda place: state.history[place].fitness,
    )
    require(
        len(trained) >= 2,
        f"{len(trained)} of {len(places)} first losses trained a student, expected at least 2: raise first, steps or "
        "stop_error, or lower the learning rate",
    )
    alive = set(trained[:count])
    history = tuple(entry._replace(death=None if place in alive else 0) for place, entry in enumerate(state.history))
    return state._replace(history=history, population=tuple(sorted(alive)))
