"""Which pretraining number predicts real accuracy: `python run.py correlate`.

Losses of every quality (snapshots of evolutions on several mixtures, known formulas, random ones, those of runs) are
put on one scale, measured on the same fresh pairs, and train the same networks. What is done is kept: --resume
continues a killed study.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edl_jax import data
from edl_jax.core import jax_settings, status
from edl_jax.core.config import load_preset, to_dict
from edl_jax.core.errors import require
from edl_jax.core.inputs import Input
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.plot.style import check_format
from edl_jax.pretrain import ObjectiveConfig, PretrainConfig
from edl_jax.search.tables import signatures
from edl_jax.study.correlate import collect, correlation, evolution, figures, numbers, report, sources, students
from edl_jax.study.correlate.collect import Collected
from edl_jax.study.correlate.config import FEWEST, CorrelateConfig
from edl_jax.study.correlate.correlation import Measured
from edl_jax.study.correlate.evolution import Plan
from edl_jax.study.correlate.numbers import Predictions
from edl_jax.study.correlate.sources import Source
from edl_jax.study.stages import check, networks
from edl_jax.study.stages.networks import Trained

COMMAND = "correlate"
_LEAST_CLASSES = 3


@jax_settings.fixed()
def run(
    config: CorrelateConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Evolve, measure and train what is left, then compare and draw.

    Args:
      config: artifacts, numbers and networks.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/correlate-<time>`).
      resume: keep what is done in `out`.
      overwrite: replace the study in `out`.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the study to stop, within a second or so but for a compilation.

    Returns:
      The content of result.json: `rows`, the correlations, `artifacts`, each with its numbers and accuracies,
      `networks`, `numbers`, what these are called and which sign they have, `dropped`, and `report`, its path.

    Raises:
      UserError: a setting that cannot be used, an unfinished run, losses of another form, fewer than 8 of them, or a
        directory that may not be written.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    with Run.preparing(COMMAND, config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        stages = config.stages
        sizes = dict.fromkeys(stage.image_size for stage in stages)
        status.say(f"loading {config.dataset}")
        datasets = {size: data.load(config.dataset, data_dir, cache_dir, image_size=size) for size in sizes}
        for stage in stages:
            check(stage, datasets[stage.image_size])
        classes = next(iter(datasets.values())).num_classes
        require(
            classes >= _LEAST_CLASSES,
            f"dataset is {config.dataset}, which has {classes} classes, expected at least {_LEAST_CLASSES}: of two "
            "classes one loss has many tables",
        )
        status.say("reading the losses")
        plans = evolution.read_plans(config.mixtures, config.generations, classes, config.seed)
        given = [
            *sources.known(config.losses, classes),
            *sources.random(config.random, config.seed),
            *sources.of_paths(config.runs, config.best, classes),
        ]
        _check_count(len(plans) * len(config.generations) + len(given))
        objective = _objective("default", classes)
        status.say("drawing pairs")
        predictions = numbers.draw(objective, config.pairs, config.seed)
        tables = collect.tables_of(given, classes)
        collect.check(given, tables, predictions)
    inputs = {f"dataset {size}": Input(f"data set {config.dataset}", x.digest) for size, x in datasets.items()}
    inputs["losses"] = Input("the losses given", _digest([s.name for s in given], signatures(tables)))
    inputs["mixtures"] = Input("the presets of the mixtures", _digest([to_dict(plan.config) for plan in plans]))
    directory = open_run(inputs=inputs)
    stop.path = directory.path
    try:
        collected = _collect(directory.path, config, plans, given, predictions, stop)
        print(_announcement(config, collected), flush=True)
        measured = _measure(directory.path, config, plans, collected, predictions, stop)
        trained = networks.train(
            stages, collected.candidates, datasets, config.seeds, directory.path / "stages", stop, COMMAND
        )
        result = _conclude(directory.path, config, measured, collected, trained, predictions, stop, figure_format)
        directory.finish(result)
        return result
    finally:
        directory.close()


def _check_count(count: int) -> None:
    require(
        count >= FEWEST,
        f"these are {count} artifacts, expected at least {FEWEST}: a correlation of fewer says nothing; give more "
        "losses, mixtures, generations or runs",
    )


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _objective(preset: str, num_classes: int) -> ObjectiveConfig:
    """Return the objective of a preset of pretrain for a number of classes."""
    return load_preset("pretrain", preset, PretrainConfig(num_classes=num_classes)).objective


def _collect(
    path: Path,
    config: CorrelateConfig,
    plans: Sequence[Plan],
    given: Sequence[Source],
    predictions: Predictions,
    stop: Stop,
) -> Collected:
    """Evolve what is left; return all losses on one scale."""
    evolved = evolution.evolve(plans, config.generations, path / "evolved", stop)
    status.say("putting the losses on one scale")
    stop.check("all evolutions")
    return collect.collect([*evolved, *given], predictions)


def _announcement(config: CorrelateConfig, collected: Collected) -> str:
    counts = [sum(source.family == family for source in collected.sources) for family in sources.FAMILIES]
    parts = [f"{n} {family}" for n, family in zip(counts, sources.FAMILIES, strict=True) if n]
    dropped = f", {len(collected.dropped)} dropped" if collected.dropped else ""
    trainings = len(collected.candidates) * len(config.networks) * len(config.seeds)
    return (
        f"correlate: {len(collected.candidates)} artifacts ({', '.join(parts)}{dropped}), {trainings} trainings; some "
        "with each network come first, for an estimate"
    )


def _measure(
    path: Path,
    config: CorrelateConfig,
    plans: Sequence[Plan],
    collected: Collected,
    predictions: Predictions,
    stop: Stop,
) -> list[Measured]:
    """Return all pretraining numbers of all losses."""
    status.say("measuring the losses")
    own: dict[str, Predictions] = {}
    for plan in plans:
        drawn = numbers.draw(plan.config.objective, config.pairs, config.seed)
        own |= {f"{plan.name}@{generation}": drawn for generation in config.generations}
        stop.check("all evolutions")
    measured = collect.measure(collected, predictions, own, lambda: stop.check("all evolutions"))
    found = students.train(collected.candidates, config.tasks, config.seed, path / "students.json", stop)
    return [each._replace(numbers={**each.numbers, **accuracy}) for each, accuracy in zip(measured, found, strict=True)]


def _conclude(
    path: Path,
    config: CorrelateConfig,
    measured: Sequence[Measured],
    collected: Collected,
    trained: Sequence[Trained],
    predictions: Predictions,
    stop: Stop,
    figure_format: str,
) -> dict[str, Any]:
    """Compare, draw, and write the report; return the content of result.json."""

    def say(what: str) -> None:
        status.say(what)
        stop.check("all trainings")

    rows = correlation.measure(measured, trained, say)
    say("drawing")
    drawn = figures.draw(path / "figures", measured, trained, rows, figure_format)
    facts = {
        "data set": f"{config.dataset}: official training images, a part of them for validation",
        "mixture that all are measured on": "preset default of pretrain, "
        f"{len(predictions.labels)} pairs, F* = {predictions.fitness:.4f}",
        "scale": "mean norm of the gradient in the logits as large as cross-entropy's, on these predictions",
        "synthetic tasks": f"{config.tasks} of each kind ({', '.join(students.KINDS)}), with {_noises()} wrong labels",
        "seeds of the trainings": " ".join(map(str, config.seeds)),
        "seed of all else": config.seed,
    }
    report.write(path, facts, measured, collected.dropped, trained, rows, drawn)
    return {"report": str(path / "report.md"), **report.result_of(measured, collected.dropped, trained, rows)}


def _noises() -> str:
    return " and ".join(f"{100 * noise:g} %" for noise in students.NOISES.values())
