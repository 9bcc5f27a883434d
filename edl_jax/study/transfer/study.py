"""Synthetic predictions beside those of networks while they train: `python run.py transfer RUN...`.

A run keeps its last two checkpoints alone. So its training is made again, as an ordinary run in OUT/runs, which records
the predictions of a fixed part of the images after some epochs; the same seed gives the same training.
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from edl_jax import data
from edl_jax.core import jax_settings, status
from edl_jax.core.errors import UserError
from edl_jax.core.inputs import Input
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.task import Task, prepare_task
from edl_jax.downstream.trainer import Trainers
from edl_jax.plot.style import check_format
from edl_jax.plot.transfer import Law
from edl_jax.pretrain import ObjectiveConfig
from edl_jax.study.transfer import figures, matched, recording, report
from edl_jax.study.transfer.config import TransferConfig, recorded_epochs
from edl_jax.study.transfer.measure import Place, Row, Summary, Synthetic, compare, summarise, tables
from edl_jax.study.transfer.predictions import Predictions
from edl_jax.study.transfer.sources import Source, digest, read_objective, read_sources
from edl_jax.synthetic.mixture import COMPONENTS

COMMAND = "transfer"

# run -> epoch -> part -> predictions
Recorded = dict[str, dict[int, dict[str, Predictions]]]


@jax_settings.fixed()
def run(
    config: TransferConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train what is left, then compare the predictions with a mixture's, and draw.

    Args:
      config: trainings and mixture.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/transfer-<time>`).
      resume: keep what is trained in `out`.
      overwrite: replace the comparison in `out`.
      figure_format: of the figures: png, pdf or svg.
      stop: asks to stop: a training after its next step, a comparison within a second or so.

    Returns:
      The content of result.json: `trainings`, `rows` and `tests`, the lines of both tables, `matched`, what would have
      matched each training, and `report`, its path.

    Raises:
      UserError: a setting that cannot be used, no finished run, absent data, or a directory that may not be written.
      DivergedError: a training became non-finite.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    with Run.preparing(COMMAND, config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        sources, objective = read_sources(config.runs), read_objective(config.mixture)
        epochs = {each.name: recorded_epochs(config.epochs, each.config.epochs, each.given) for each in sources}
        tasks = _tasks(sources, data_dir, cache_dir)
    inputs = {f"run {i}": each.input for i, each in enumerate(sources, 1)}
    directory = open_run(inputs={**inputs, "mixture": Input(f"mixture {config.mixture}", digest(objective))})
    stop.path = directory.path
    try:
        trained = _train(directory.path, config, sources, tasks, epochs, stop)
        recorded = {
            each.name: {epoch: recording.read(_folder(directory.path, each), epoch) for epoch in epochs[each.name]}
            for each in sources
        }
        classes = {each.name: tasks[each.name].dataset.num_classes for each in sources}
        result = _conclude(directory.path, config, sources, trained, recorded, objective, classes, stop, figure_format)
        directory.finish(result)
        return result
    finally:
        directory.close()


def _tasks(
    sources: Sequence[Source],
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> dict[str, Task]:
    """Return what each source trains, by its name; every data set is loaded once."""
    loaded: dict[tuple[str, int | None], data.Dataset] = {}
    tasks = {}
    for source in sources:
        config = source.config
        key = (config.dataset, config.image_size)
        try:
            if key not in loaded:
                status.say(f"loading {config.dataset}")
                loaded[key] = data.load(config.dataset, data_dir, cache_dir, image_size=config.image_size)
            tasks[source.name] = prepare_task(config, data_dir, cache_dir, loaded[key])
        except UserError as error:  # what a run was trained on may have moved
            raise UserError(f"{source.given}: {error}") from error
    return tasks


def _train(
    path: Path,
    config: TransferConfig,
    sources: Sequence[Source],
    tasks: Mapping[str, Task],
    epochs: Mapping[str, Sequence[int]],
    stop: Stop,
) -> dict[str, dict[str, Any]]:
    """Train what is left of each source; return the results."""
    trainers: dict[DownstreamConfig, Trainers] = {}
    results = {}
    for place, source in enumerate(sources, 1):
        shared = trainers.setdefault(dataclasses.replace(source.config, seed=0), Trainers())
        results[source.name] = recording.train(
            _folder(path, source),
            source.config,
            tasks[source.name],
            shared,
            epochs[source.name],
            config.examples,
            stop,
            note=f", run {place} of {len(sources)}",
        )
    return results


def _folder(path: Path, source: Source) -> Path:
    return path / "runs" / source.name


def _conclude(
    path: Path,
    config: TransferConfig,
    sources: Sequence[Source],
    trained: Mapping[str, Mapping[str, Any]],
    recorded: Recorded,
    objective: ObjectiveConfig,
    classes: Mapping[str, int],
    stop: Stop,
    figure_format: str,
) -> dict[str, Any]:
    """Compare, draw, and write the report; return the content of result.json."""
    rows, summaries = _measure(config, recorded, objective, classes, stop)
    found, files = {}, {}
    for run_name, epochs in recorded.items():
        status.say(f"fitting a mixture to {run_name}")
        stop.check("all comparisons")
        train = {epoch: parts["train"] for epoch, parts in epochs.items()}
        found[run_name] = matched.match(train, objective, classes[run_name], seed=config.seed)
        files[run_name] = matched.write(path / "mixtures", run_name, found[run_name], objective)
    status.say("drawing")
    stop.check("all comparisons")
    laws = {name: _laws(epochs) for name, epochs in recorded.items()}
    titles = {each.name: each.title for each in sources}
    drawn = figures.draw(path / "figures", objective.mixture, titles, laws, found, rows, summaries, figure_format)
    facts = {
        "mixture": f"{config.mixture}: {_mixture_text(objective)}",
        "objective": f"severity {objective.severity}, beta {objective.beta:g}, margin {objective.margin:g}",
        "images": f"up to {config.examples} of training and of test, the same in all epochs",
        "seed": config.seed,
    }
    trainings = [(each.name, _training_text(each, trained[each.name])) for each in sources]
    report.write(path, facts, trainings, rows, summaries, found, files, drawn)
    first, second = tables(rows, summaries)
    return {
        "report": str(path / "report.md"),
        "trainings": [
            {
                "run": each.name,
                "given": each.given,
                "test_accuracy": trained[each.name].get("test_accuracy"),
                "test_accuracy_of_the_run": each.test_accuracy,
            }
            for each in sources
        ],
        "rows": first,
        "tests": second,
        "matched": {
            name: {
                "weights": each.fit.weights,
                "left": each.fit.left,
                "left_by_chance": each.fit.by_chance,
                "files": [str(file.relative_to(path)) for file in files[name]],
            }
            for name, each in found.items()
        },
    }


def _measure(
    config: TransferConfig,
    recorded: Recorded,
    objective: ObjectiveConfig,
    classes: Mapping[str, int],
    stop: Stop,
) -> tuple[list[Row], list[Summary]]:
    """Compare the predictions of every run, part and epoch with the mixture's."""
    places = [
        Place(name, part, epoch) for name, epochs in recorded.items() for part in recording.PARTS for epoch in epochs
    ]
    synthetic: dict[int, Synthetic] = {}
    rows, summaries = [], []
    with tqdm(total=len(places), unit="law", desc="comparing", disable=not sys.stderr.isatty()) as bar:
        for place in places:
            stop.check(f"{bar.n} of {bar.total} comparisons, which are made again")
            size = classes[place.run]
            if size not in synthetic:
                synthetic[size] = Synthetic(objective.mixture, size, config.seed)
            real = recorded[place.run][place.epoch][place.part]
            rows += compare(place, real, synthetic[size])
            summaries.append(summarise(place, real, synthetic[size], seed=config.seed))
            bar.update()
    return rows, summaries


def _laws(epochs: Mapping[int, Mapping[str, Predictions]]) -> list[Law]:
    return [
        Law(epoch, dict(zip(parts, matched.shares_by_epoch(list(parts.values())), strict=True)))
        for epoch, parts in epochs.items()
    ]


def _mixture_text(objective: ObjectiveConfig) -> str:
    weights = zip(COMPONENTS, objective.mixture.weights, strict=True)
    return ", ".join(f"{name} {weight:.3g}" for name, weight in weights if weight > 0.0)


def _training_text(source: Source, trained: Mapping[str, Any]) -> str:
    text = f"{source.title}, {source.config.epochs} epochs, seed {source.config.seed}"
    accuracy = trained.get("test_accuracy")
    if accuracy is not None:
        text += f"; test accuracy {accuracy:.4f}"
        if source.test_accuracy is not None:
            text += f", that of {source.given} {source.test_accuracy:.4f}"
    return text
