"""Several networks trained with the same losses, some of them with each first, for an estimate."""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from edl_jax import data
from edl_jax.core.stopping import Stop
from edl_jax.study import stages
from edl_jax.study.candidates import Candidate
from edl_jax.study.stages import Result, Stage
from edl_jax.training.progress import format_duration

_ERRORS = 3.0  # standard errors of a classifier that guesses
_NEVER = 1.0  # an error that none exceeds
# Candidates that every network is trained with before the others.
_FIRST = {True: 16, False: 1}  # whether it is a student: those that are trained at once


class Chance(NamedTuple):
    """What a classifier that has learnt nothing gets.

    Attributes:
      error: its error: that of always the most frequent class.
      examples: of validation.
    """

    error: float
    examples: int

    @property
    def limit(self) -> float:
        """The error from which on a candidate has failed: three standard errors of a guess below chance."""
        return self.error - _ERRORS * math.sqrt(self.error * (1.0 - self.error) / self.examples)


class Outcome(NamedTuple):
    """What a network found of n candidates.

    Attributes:
      error: `[n]` float64 validation error; infinite where training did not end finite.
      full: `[n]` bool, whether training went to its end.
    """

    error: np.ndarray
    full: np.ndarray

    def settled(self, chance: Chance) -> np.ndarray:
        """Return the errors `[n]`; of candidates that failed infinity."""
        return np.where(self.full & (self.error < chance.limit), self.error, np.inf)


class Trained(NamedTuple):
    """A network that was trained with n candidates.

    Attributes:
      name: for tables and figures.
      training: how it was trained, in words.
      chance: on its validation examples.
      seconds: of training and validation, a candidate.
      outcomes: what it found, by seed.
    """

    name: str
    training: str
    chance: Chance
    seconds: float
    outcomes: tuple[Outcome, ...]


class _Block(NamedTuple):
    """A network, a seed, and some of the candidates."""

    network: int
    seed: int
    start: int
    stop: int

    def folder(self, stage: Stage) -> str:
        """Return the name of its directory."""
        return f"{self.network + 1}-{stage.arch}-seed-{self.seed}-from-{self.start + 1}"


def to_the_end(stage: Stage) -> Stage:
    """Return a stage in which no candidate ends early, unless it says which do: one that learns late is not lost."""
    if stage.student is None or stage.stop_error is not None:
        return stage
    return dataclasses.replace(stage, stop_error=_NEVER)


def names_of(found: Sequence[Stage]) -> list[str]:
    """Return a short name for each network, different from those of the others."""
    archs = [stage.arch for stage in found]
    return [stage.arch if archs.count(stage.arch) == 1 else str(stage) for stage in found]


def train(
    found: Sequence[Stage],
    candidates: Sequence[Candidate],
    datasets: Mapping[int | None, data.Dataset],
    seeds: Sequence[int],
    folder: Path,
    stop: Stop,
    command: str,
) -> list[Trained]:
    """Return what each network finds of the candidates; what was trained before is kept.

    The smallest network comes first, then some candidates with each of the others: from then on the time that is left
    is known.

    Args:
      found: networks and their training.
      candidates: n losses.
      datasets: image size -> the data set.
      seeds: of the trainings; the first is that of the split, too.
      folder: where results are kept.
      stop: looked at every second or so.
      command: whose training it is, for the bar.
    """
    names, total = names_of(found), len(candidates)
    done: dict[_Block, list[Result]] = {}
    count = len(seeds) * len(found) * total
    bar = tqdm(total=count, unit="loss", desc=command, disable=not sys.stderr.isatty())

    def run(block: _Block) -> None:
        stage = found[block.network]
        title = names[block.network] if len(seeds) == 1 else f"{names[block.network]}, seed {block.seed}"

        def report(what: str) -> None:
            bar.set_postfix_str(f"{title}: {what}")
            stop.check(f"{bar.n} of {bar.total} trainings")

        report("starting")
        done[block] = stages.train(
            to_the_end(stage),
            candidates[block.start : block.stop],
            datasets[stage.image_size],
            seed=block.seed,
            split_seed=seeds[0],
            directory=folder / block.folder(stage),
            stop=stop,
            report=report,
        )
        bar.update(block.stop - block.start)

    # Not a part of the smallest: what `linear` reads takes longer to prepare than some candidates to train.
    first = [total, *(min(_FIRST[stage.student is not None], total) for stage in found[1:])]
    begun = [_Block(i, seeds[0], 0, end) for i, end in enumerate(first)]
    left = [_Block(i, seeds[0], end, total) for i, end in enumerate(first) if end < total]
    left += [_Block(i, seed, 0, total) for seed in seeds[1:] for i in range(len(found))]
    with bar:
        for block in begun:
            run(block)
        kept = [stages.count(folder / block.folder(found[block.network])) for block in left]
        if sum(kept) < sum(block.stop - block.start for block in left):
            bar.write(_estimate(left, kept, done), file=sys.stderr)
        for block in left:
            run(block)
    return [
        Trained(
            name,
            str(stage),
            _chance(stage, datasets[stage.image_size]),
            float(np.median([result.seconds for seed in seeds for result in _of(done, i, seed)])),
            tuple(_outcome(stage, _of(done, i, seed)) for seed in seeds),
        )
        for i, (name, stage) in enumerate(zip(names, found, strict=True))
    ]


def _of(done: Mapping[_Block, Sequence[Result]], network: int, seed: int) -> list[Result]:
    """Return the results of a network with a seed, in the order of the candidates."""
    blocks = sorted(block for block in done if (block.network, block.seed) == (network, seed))
    return [result for block in blocks for result in done[block]]


def _outcome(stage: Stage, results: Sequence[Result]) -> Outcome:
    steps = 0 if stage.student is None else stage.student.steps  # a downstream run never ends early
    full = np.array([result.steps >= steps for result in results])
    return Outcome(np.array([result.error for result in results]), full)


def _chance(stage: Stage, dataset: data.Dataset) -> Chance:
    """Return the chance on the validation examples of a stage, which have each class's share of the whole."""
    labels = np.asarray(dataset.train_labels)
    size = len(labels) if stage.train_size is None else stage.train_size
    return Chance(1.0 - float(np.bincount(labels).max()) / len(labels), round(stage.validation * size))


def _estimate(left: Sequence[_Block], kept: Sequence[int], done: Mapping[_Block, Sequence[Result]]) -> str:
    """Return a line that says how long the blocks will take, of which some trainings are kept from before."""
    seconds = {block.network: float(np.mean([result.seconds for result in results])) for block, results in done.items()}
    counts = [block.stop - block.start - have for block, have in zip(left, kept, strict=True)]
    total = sum(count * seconds[block.network] for block, count in zip(left, counts, strict=True))
    return f"estimate: up to {sum(counts)} trainings are left, about {format_duration(total)}"
