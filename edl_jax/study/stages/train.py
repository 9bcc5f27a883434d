"""The training of a stage: candidates in chunks, each kept as soon as it is done."""

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from edl_jax import data
from edl_jax.core import jax_settings
from edl_jax.core.errors import DivergedError, UserError, require
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.task import prepare_task
from edl_jax.downstream.train import Extras, run_one
from edl_jax.downstream.trainer import Trainers
from edl_jax.search import students
from edl_jax.search.racing import RacingConfig, full
from edl_jax.search.split import Images, Split, batches, split
from edl_jax.search.tables import signatures
from edl_jax.search.training import Training
from edl_jax.study.candidates import Candidate
from edl_jax.study.stages import results
from edl_jax.study.stages.results import Result
from edl_jax.study.stages.stage import Stage
from edl_jax.training.progress import format_duration

Report = Callable[[str], None]
CHUNK = 16
"""Students that are trained at once."""
# Students that learnt nothing end after this share of the steps, but not before so many, and in no short training.
_STOPPED_AT, _LEAST = 0.1, 50
_ERRORS = 3.0  # standard errors below the error of guessing
_SAMPLE = 64  # images that a student is made for to see whether it takes them
_EXAMPLES = 2000  # validation examples that this is judged by


@jax_settings.fixed()
def train(
    stage: Stage,
    candidates: Sequence[Candidate],
    dataset: str | data.Dataset,
    *,
    seed: int,
    directory: Path,
    split_seed: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    stop: Stop | None = None,
    report: Report | None = None,
) -> list[Result]:
    """Train a network with each candidate, from the same first weights on the same batches.

    What is done is kept in `directory`: a stage that was killed goes on there, and ends with the same numbers. Test
    images are not read.

    Args:
      stage: network and training.
      candidates: at least one, with names of their own.
      dataset: data set, of whose official training images a part is held out; one that is loaded has the stage's
        image size.
      seed: of the split, the first weights, the batches and the augmentation.
      directory: of this stage alone; it is made.
      split_seed: of the split, where that is not to follow `seed`; of students alone, a downstream run has one seed.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      stop: asks the training to stop; the chunk of students in work is trained again, a downstream run goes on.
      report: called with what is being done, often; by default a bar shows it.

    Returns:
      A result for each candidate, in their order.

    Raises:
      UserError: candidates or images that the stage cannot take, or a directory that holds another stage.
      Stopped: `stop` was asked.
    """
    require(len(candidates) > 0, "a stage of no candidates, expected at least 1")
    names = [candidate.name for candidate in candidates]
    for name in names:
        require(names.count(name) == 1, f"two candidates are called {name}, expected a name for each")
    if isinstance(dataset, str):
        dataset = data.load(dataset, data_dir, cache_dir, image_size=stage.image_size)
    side = stage.image_size
    height, width = dataset.train_images.shape[1:3]
    require(
        side is None or (height, width) == (side, side),
        f"images are {height}x{width} pixels, expected {side}x{side}: load the data set with that image_size",
    )
    keys = signatures(np.stack([candidate.table for candidate in candidates]))
    identity: dict[str, Any] = {
        "stage": str(dataclasses.replace(stage, survivors=None)),
        "seed": seed,
        "split seed": seed if split_seed is None else split_seed,
        "data set": dataset.digest,
        "candidates": dict(zip(names, keys, strict=True)),
    }
    done = results.begin(directory, identity)
    chunks = _Chunks(directory, candidates, done, stop or Stop(), report or (lambda what: None))
    if stage.student is None:
        _train_models(stage, dataset, seed, chunks)
    elif report is not None:
        _train_students(stage, dataset, seed, identity["split seed"], chunks)
    else:
        with tqdm(total=len(names), unit="loss", desc=stage.arch, disable=not sys.stderr.isatty()) as bar:

            def show(what: str) -> None:
                bar.n = len(chunks.done)
                bar.set_postfix_str(what)

            chunks.report = show
            _train_students(stage, dataset, seed, identity["split seed"], chunks)
    return [chunks.done[name] for name in names]


def check(stage: Stage, dataset: data.Dataset) -> None:
    """Raise `UserError` for a network or sizes that do not go with a data set of the stage's image size."""
    have = len(dataset.train_labels)
    size = have if stage.train_size is None else stage.train_size
    held_out = round(stage.validation * size)
    try:
        require(size <= have, f"train_size is {size}, expected at most {have}: {dataset.name} has no more")
        if stage.model is not None:
            prepare_task(_settings(stage, dataset, seed=0), None, None, _untested(dataset))
            return
        assert stage.student is not None
        rows = slice(min(have, _SAMPLE))
        sample = (dataset.train_images[rows], dataset.train_labels[rows])
        mean, std = (tuple(map(float, x)) for x in (dataset.mean, dataset.std))
        images = Images(sample[0].shape[1:], dataset.num_classes, mean, std)
        batches(0, size - held_out, 1, stage.student.batch_size)
        student = students.create(stage.student.arch, Split(images, *sample, *sample))
        stage.student.noisy(student, images)
    except UserError as error:
        raise UserError(f"stage '{stage}': {error}") from error


@dataclasses.dataclass
class _Chunks:
    """What is done of a stage, and what is left."""

    directory: Path
    candidates: Sequence[Candidate]
    done: dict[str, Result]
    stop: Stop
    report: Report

    def left(self, size: int) -> Iterator[tuple[int, Sequence[Candidate]]]:
        """Yield the chunks that are not done, with their place: cut as if none were, so that numbers are the same."""
        for start in range(0, len(self.candidates), size):
            chunk = self.candidates[start : start + size]
            if any(candidate.name not in self.done for candidate in chunk):
                yield start, chunk

    def keep(self, found: Sequence[Result]) -> None:
        """Store results."""
        self.done |= {result.name: result for result in found}
        results.write(self.directory, [self.done[c.name] for c in self.candidates if c.name in self.done])

    def say(self, what: str) -> None:
        """Report what is being done, and stop where that was asked for."""
        self.report(what)
        self.stop.check(f"{len(self.done)} of {len(self.candidates)} losses of {self.directory.name}")


def _train_students(stage: Stage, dataset: data.Dataset, seed: int, split_seed: int, chunks: _Chunks) -> None:
    """Train the chunks that are left, many students at once."""
    assert stage.student is not None
    left = list(chunks.left(CHUNK))
    if not left:
        return
    chunks.say("preparing")
    examples = split(dataset, split_seed, validation=stage.validation, size=stage.train_size)
    training = Training(stage.student, examples, seed)
    rungs = _rungs(stage, training)
    with chunks.stop.deferring():  # not in the midst of a chunk
        for place, chunk in left:
            label = f"losses {place + 1} to {place + len(chunk)}"
            since = time.perf_counter()

            def on_steps(step: int, running: int, label: str = label) -> None:
                chunks.say(f"{label}: {running} train, step {step}")

            chunks.say(label)
            tables = jnp.asarray(np.stack([candidate.table for candidate in chunk]))
            at_least = min(CHUNK, len(chunks.candidates))
            race = training.race(tables, rungs, at_least=at_least, on_steps=on_steps)
            seconds = round((time.perf_counter() - since) / len(chunk), 4)
            rows = zip(chunk, race.error.tolist(), race.loss.tolist(), race.steps.tolist(), strict=True)
            chunks.keep([Result(c.name, error, value, steps, seconds) for c, error, value, steps in rows])


def _rungs(stage: Stage, training: Training) -> RacingConfig:
    """Return when students are evaluated: at the end, and after a tenth of the steps or 50, where the hopeless end."""
    assert stage.student is not None
    steps = stage.student.steps
    early = max(round(_STOPPED_AT * steps), _LEAST)
    if 2 * early > steps:
        return full(steps)
    limit = stage.stop_error
    if limit is None:
        _, labels = training.split.validation
        guess = 1.0 - float(np.bincount(labels).max()) / len(labels)
        limit = guess - _ERRORS * math.sqrt(guess * (1.0 - guess) / min(len(labels), _EXAMPLES))
    return RacingConfig(rungs=(early, steps), kept=(1.0,), examples=_EXAMPLES, limit=limit)


def _train_models(stage: Stage, dataset: data.Dataset, seed: int, chunks: _Chunks) -> None:
    """Make the downstream runs that are left."""
    settings = _settings(stage, dataset, seed)
    left = [candidate for _, (candidate,) in chunks.left(1)]
    for place, candidate in enumerate(left):
        chunks.say(f"loss {candidate.name}")
        if place == 1:
            seconds = chunks.done[left[0].name].seconds * (len(left) - 1)
            tqdm.write(f"about {format_duration(seconds)} for the {len(left) - 1} losses left", file=sys.stderr)
        config = dataclasses.replace(settings, loss=str(candidate.store(chunks.directory / "losses")))
        chunks.keep([_train_model(config, dataset, candidate, chunks)])


def _settings(stage: Stage, dataset: data.Dataset, seed: int) -> DownstreamConfig:
    """Return the settings of the downstream runs of a stage, but for the loss."""
    assert stage.model is not None
    size = len(dataset.train_labels) if stage.train_size is None else stage.train_size
    held_out = round(stage.validation * size)
    return dataclasses.replace(
        stage.model, dataset=dataset.name, seed=seed, train_size=size - held_out, val_size=held_out
    )


def _untested(dataset: data.Dataset) -> data.Dataset:
    """Return a data set without test images."""
    return dataclasses.replace(dataset, test_images=dataset.train_images[:0], test_labels=dataset.train_labels[:0])


def _train_model(config: DownstreamConfig, dataset: data.Dataset, candidate: Candidate, chunks: _Chunks) -> Result:
    """Return what a downstream run finds: the error of its best epoch on the images that are held out."""
    start, stop = time.perf_counter(), chunks.stop
    # A run evaluates its test part in each epoch: here that is the part held out, too, so that no test image is read.
    task = prepare_task(config, None, None, _untested(dataset))
    held_out = dataclasses.replace(dataset, test_images=np.asarray(task.val_images), test_labels=task.val_labels)
    task = dataclasses.replace(task, dataset=held_out)
    path = chunks.directory / candidate.folder
    directory = Run.open("downstream", config, out=path, resume=path.is_dir(), inputs=task.inputs)
    note = f", loss {candidate.name}"
    try:
        result = run_one(directory, config, task, Trainers(), Extras(figures=False), stop, start=start, note=note)
    except DivergedError:
        steps = max(directory.checkpoints.steps(), default=0) * task.steps
        return Result(candidate.name, math.inf, math.inf, steps, round(time.perf_counter() - start, 4))
    best = next(row for row in directory.metrics() if row["epoch"] == result["best_epoch"])
    directory.checkpoints.delete()  # the run is finished, and there are many
    error = 1.0 - result["best_val_accuracy"]
    nll = math.inf if best["val_nll"] is None else best["val_nll"]
    return Result(candidate.name, error, nll, task.steps * config.epochs, result["wall_seconds"])
