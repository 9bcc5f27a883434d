"""NLFS: regularized evolution of genomes."""

import math
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from edl_jax.core.runs import read_metrics
from edl_jax.loss.expression import Expression, apply, to_text
from edl_jax.loss.expression.nlfs import Genome
from edl_jax.plot import nlfs as plot
from edl_jax.search import nlfs
from edl_jax.search.config import SearchConfig
from edl_jax.search.difference import apart
from edl_jax.search.methods.base import Method, Row, Winner, mapping_of, row_of
from edl_jax.search.rejection import reject
from edl_jax.search.trials import Report, Trials

_DISTANCE = 0.05  # of `search.difference`: a search crowds about its best
_COUNTS = ("rejected", "known", "trained", "diverged", "hopeless", "steps", "skipped")


class NLFS(Method):
    """Regularized evolution: first losses at random, then children that replace the oldest loss."""

    def __init__(self, config: SearchConfig, trials: Trials) -> None:
        self._config, self._nlfs, self._trials = config, config.nlfs, trials
        self._looks = nlfs.Looks()
        self._start = nlfs.parse(config.nlfs, config.start)
        self._fitness: dict[str, float] = {}  # of the student in use, by key
        self._screen: Trials | None = None

    def init(self) -> nlfs.NLFSState:
        """Return a search that tried nothing."""
        return nlfs.NLFSState(self._config.seed)

    def advance(self, state: nlfs.NLFSState, report: Report) -> tuple[nlfs.NLFSState, Row]:
        """Try some first losses, the population that a screen chose, or a child in each of some iterations."""
        counts = dict.fromkeys(_COUNTS, 0)
        screens = self._nlfs.screen is not None
        if len(state.history) < self._nlfs.first:
            genomes = nlfs.draw_first(self._nlfs, state, self._looks, self._start)
            fitness = self._try(self._screening() if screens else self._trials, genomes, counts, report)
            new = nlfs.tell_first(
                self._nlfs, state, [nlfs.Trial(genome, f) for genome, f in zip(genomes, fitness, strict=True)]
            )
            return new, self._row(new, fitness, counts, screened=screens)
        if screens and state.generation == self._nlfs.first_generations:
            self._fitness, self._screen = {}, None
            members = [state.history[place].genome for place in state.population]
            fitness = self._try(self._trials, members, counts, report)
            new = nlfs.tell_screened(self._nlfs, state, fitness)
        else:
            new, fitness = self._children(state, counts, report)
        return new, self._row(new, fitness, counts)

    def _children(
        self, state: nlfs.NLFSState, counts: dict[str, int], report: Report
    ) -> tuple[nlfs.NLFSState, list[float]]:
        """Return the state after some iterations, and the fitness of what they tried."""
        generators = nlfs.generators(self._nlfs, state)
        tried: list[list[nlfs.Trial]] = [[] for _ in generators]
        pending = [*range(len(generators))]
        for _ in range(self._nlfs.failures):
            children: dict[int, nlfs.Child] = {}
            settled = [trial.genome for trials in tried for trial in trials if math.isfinite(trial.fitness)]
            for i in pending:
                report(f"child {i + 1} of {len(generators)}")
                others = [*settled, *(child.genome for child in children.values())]
                child = nlfs.propose(self._nlfs, state, generators[i], self._looks, others)
                if child is not None:
                    children[i] = child
            if not children:
                break
            fitness = self._try(self._trials, [child.genome for child in children.values()], counts, report)
            for (i, child), f in zip(children.items(), fitness, strict=True):
                tried[i].append(nlfs.Trial(child.genome, f, child.parent))
            pending = [i for i in children if not math.isfinite(tried[i][-1].fitness)]
            if not pending:
                break
        found = [trial.fitness for trials in tried for trial in trials]
        counts["skipped"] = len(tried) - sum(math.isfinite(f) for f in found)
        return nlfs.tell(state, tried), found

    def _try(self, trials: Trials, genomes: Sequence[Genome], counts: dict[str, int], report: Report) -> list[float]:
        """Return the fitness of genomes: trained unless a loss that is the same was."""
        keys = [look.key for look in self._looks.of(genomes)]
        new = {key: genome for key, genome in zip(keys, genomes, strict=True) if key not in self._fitness}
        counts["known"] += len(keys) - len(new)
        if new:
            tables = nlfs.tables_of_genomes([*new.values()])
            fitness = np.full(len(new), np.inf)
            passed = self._passed(trials, tables)
            counts["rejected"] += int(np.sum(~passed))
            if passed.any():
                race = trials.train(jnp.asarray(tables[passed]), report)
                fitness[passed] = race.fitness
                counts["trained"] += int(passed.sum())
                counts["diverged"] += int(np.sum(~np.isfinite(race.error)))
                counts["hopeless"] += int(np.sum(np.isfinite(race.error) & ~np.isfinite(race.fitness)))
                counts["steps"] += int(race.steps.sum())
            self._fitness |= zip(new, fitness.tolist(), strict=True)
        return [self._fitness[key] for key in keys]

    def _passed(self, trials: Trials, tables: np.ndarray) -> np.ndarray:
        """Return bool `[P]`: which tables pass the rejection protocol, where it is asked for."""
        if not self._nlfs.multi_class:
            return np.ones(len(tables), bool)
        targets = np.asarray(trials.training.examples.labels[: self._config.rejection.examples])
        return ~reject(tables, trials.free_outputs, targets, self._config.rejection).rejected

    def _screening(self) -> Trials:
        """Return the trials of the student that screens the first losses."""
        assert self._nlfs.screen is not None
        if self._screen is None:
            self._screen = Trials(self._config.screening(self._nlfs.screen), self._trials.training.split)
        return self._screen

    def _row(
        self, state: nlfs.NLFSState, fitness: Sequence[float], counts: dict[str, int], screened: bool = False
    ) -> Row:
        """Return the numbers of a generation, with those of the population."""
        alive = [] if screened else [state.history[place].fitness for place in state.population]
        every = [entry.fitness for entry in state.history if math.isfinite(entry.fitness)]
        row = row_of(fitness, None if screened else min(every, default=None), counts)
        places = {"best": 0.0, "lower": 0.25, "median": 0.5, "upper": 0.75, "worst": 1.0}
        return {
            **row,
            **{name: counts[name] for name in ("hopeless", "skipped")},
            "iteration": state.iteration,
            **{f"population_{name}": float(np.quantile(alive, q)) if alive else None for name, q in places.items()},
        }

    def dump(self, state: nlfs.NLFSState) -> str:
        """Return the state as text."""
        return state.to_json()

    def load(self, text: str) -> nlfs.NLFSState:
        """Return the state that `dump` gave; what it tried is known from now on."""
        state = nlfs.NLFSState.from_dict(mapping_of(text))
        screening = len(state.history) < self._nlfs.first
        if self._nlfs.screen is None or screening or state.generation > self._nlfs.first_generations:
            looks = self._looks.of([entry.genome for entry in state.history])
            for look, entry in zip(looks, state.history, strict=True):
                if screening or self._nlfs.screen is None or entry.screened is None or math.isfinite(entry.fitness):
                    self._fitness[look.key] = entry.fitness
        return state

    def winners(self, state: nlfs.NLFSState, count: int) -> list[Winner]:
        """Return the best losses of the history."""
        found = []
        for place in self._best(state, count):
            entry = state.history[place]
            found.append(Winner(entry.fitness, self._generation(place, entry), _tree(entry.genome)))
        return found

    def _generation(self, place: int, entry: nlfs.Entry) -> int:
        """Return the generation, from 1, that tried an entry."""
        if entry.birth == 0:
            return 1 + place // self._nlfs.children
        before = self._nlfs.first_generations + (self._nlfs.screen is not None)
        return before + -(-entry.birth // self._nlfs.children)

    def _best(self, state: nlfs.NLFSState, count: int) -> list[int]:
        """Return the places in the history of the best losses, no two of which train nearly alike."""
        finite = [place for place, entry in enumerate(state.history) if math.isfinite(entry.fitness)]
        order = sorted(finite, key=lambda place: state.history[place].fitness)

        def tables(places: Sequence[int]) -> np.ndarray:
            return nlfs.tables_of_genomes([state.history[place].genome for place in places])

        return apart(order, tables, count, _DISTANCE, self._trials.student.num_classes)

    def store(self, state: nlfs.NLFSState, directory: Path) -> None:
        """Write the history."""
        nlfs.history.write(directory, state.history)

    def draw(self, state: nlfs.NLFSState, directory: Path, figure_format: str) -> list[Path]:
        """Draw the population over time, the phenotypes of the best, and the ancestors of the best."""
        history = state.history
        best = self._best(state, plot.MOST_CURVES)
        formulas = [to_text(_tree(history[place].genome)) for place in best]
        looks = self._looks.of([history[place].genome for place in best])
        curves = [(formula, look.phenotype) for formula, look in zip(formulas, looks, strict=True)]
        lives = np.array([(entry.birth, entry.fitness) for entry in history if math.isfinite(entry.fitness)])
        line: list[plot.Life] = []
        place: int | None = best[0]
        while place is not None:
            entry = history[place]
            line.insert(0, plot.Life(entry.birth, entry.fitness, to_text(_tree(entry.genome))))
            place = entry.parent
        rows = read_metrics(directory)
        return plot.draw(directory / "figures", rows, curves, lives, line, figure_format)


def _tree(genome: Genome) -> Expression:
    """Return the expression of a loss, its sign included."""
    return apply("neg", genome.expression()) if genome.flip else genome.expression()
