"""Losses of searches, eliminated stage by stage on larger networks, then the finals: `python run.py eliminate`.

Every stage trains all that are left from the same first weights on the same batches, and keeps those with the least
validation error. Test images are read in the finals alone. What is done is kept: --resume continues a killed study.
"""

import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edl_jax import data, loss
from edl_jax.core import jax_settings, status
from edl_jax.core.errors import UserError, require
from edl_jax.core.inputs import Input
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.downstream.task import prepare_task
from edl_jax.loss.artifacts.file import RUN_FILENAME
from edl_jax.plot.style import check_format
from edl_jax.search.tables import signatures
from edl_jax.study import stages
from edl_jax.study.candidates import Candidate, folder_name, of_runs
from edl_jax.study.eliminate import figures, finals, report
from edl_jax.study.eliminate.config import EliminateConfig
from edl_jax.study.eliminate.finals import Finalist
from edl_jax.study.eliminate.report import Round
from edl_jax.study.loss_spec import parse_loss
from edl_jax.study.stages.results import order
from edl_jax.training.progress import format_duration

COMMAND = "eliminate"
Datasets = Mapping[int | None, data.Dataset]


@jax_settings.fixed()
def run(
    config: EliminateConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Run the stages and finals that are left, then compare and draw.

    Args:
      config: searches, stages and finals.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/eliminate-<time>`).
      resume: keep what is done in `out`.
      overwrite: replace the study in `out`.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the study to stop, within seconds; the students in work are trained again on resuming.

    Returns:
      The content of result.json: `winners`, the losses that are left, `artifact`, the path of the best of them,
      `stages`, `ranks`, and `finals`, the numbers of every loss and its difference from the first baseline.

    Raises:
      UserError: a setting that cannot be used, a run that is no finished search, or a directory that may not be
        written.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    with Run.preparing(COMMAND, config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        status.say(f"loading {config.dataset}")
        sizes = dict.fromkeys([*(stage.image_size for stage in config.rounds), config.classifier.image_size])
        datasets = {size: data.load(config.dataset, data_dir, cache_dir, image_size=size) for size in sizes}
        status.say("reading the searches")
        classes = max(next(iter(datasets.values())).num_classes, 3)
        found = of_runs(config.runs, config.count, num_classes=classes, distance=config.distance)
        _check(config, found, datasets)
    digests = {f"data set of {size or 'stored'} pixels": dataset.digest for size, dataset in datasets.items()}
    inputs = {name: Input(f"data set {config.dataset}", digest) for name, digest in digests.items()}
    directory = open_run(inputs={**inputs, "losses": Input("the searches", _digest(found))})
    stop.path = directory.path
    try:
        print(_announcement(config, found), flush=True)
        rounds = _eliminate(config, directory.path, found, datasets, stop)
        artifacts = _store(directory.path, rounds[-1])
        table = _final(config, directory.path, artifacts, stop, data_dir, cache_dir)
        result = _conclude(config, directory.path, rounds, artifacts, table, figure_format)
        directory.finish(result)
        return result
    finally:
        directory.close()


def _check(config: EliminateConfig, found: Sequence[Candidate], datasets: Datasets) -> None:
    """Raise `UserError` for what would fail later: too few losses, networks that do not take the images."""
    first = config.rounds[0]
    require(
        first.survivors is not None and len(found) > first.survivors,
        f"the searches hold {len(found)} different losses and the first stage keeps {first.survivors}, expected more "
        "losses than it keeps: lower its survivors, or give more searches",
    )
    for stage in config.rounds:
        stages.check(stage, datasets[stage.image_size])
    for text in config.baselines:
        settings = finals.settings(config.classifier, Finalist(text, *parse_loss(text)))
        try:
            prepare_task(settings, None, None, datasets[settings.image_size])
        except UserError as error:
            raise UserError(f"final is {config.final}, with loss {text}: {error}") from error


def _digest(found: Sequence[Candidate]) -> str:
    """Return a hash of the candidates, in their order."""
    keys = [f"{candidate.name} {key}" for candidate in found for key in signatures(candidate.table[None])]
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def _announcement(config: EliminateConfig, found: Sequence[Candidate]) -> str:
    counts = [len(found), *(stage.survivors or 0 for stage in config.rounds)]
    parts = [f"{n} losses by {stage.arch} ({stage.length})" for n, stage in zip(counts, config.rounds, strict=False)]
    runs = (counts[-1] + len(config.baselines)) * len(config.seeds)
    return f"eliminate: {', '.join(parts)}; {runs} runs of {config.classifier.arch} in the finals"


def _eliminate(
    config: EliminateConfig, path: Path, found: Sequence[Candidate], datasets: Datasets, stop: Stop
) -> list[Round]:
    """Return the stages, each with the survivors of the one before."""
    left, rounds = list(found), []
    for place, stage in enumerate(config.rounds, 1):
        name = f"{place}-{stage.arch}"
        results = order(
            stages.train(
                stage,
                left,
                datasets[stage.image_size],
                seed=config.seed + place,
                directory=path / "stages" / name,
                stop=stop,
            )
        )
        survivors = [result.name for result in results if math.isfinite(result.error)][: stage.survivors]
        if not survivors:
            raise UserError(f"no loss of stage {name} trained to a finite error: lower its lr, or give other searches")
        rounds.append(Round(name, stage, left, results, survivors))
        report.write_stage(path / "stages" / f"{name}.csv", rounds[-1])
        seconds = sum(result.seconds for result in results)
        print(
            f"stage {name}: {len(left)} losses in {format_duration(seconds)}, best error {results[0].error:.4f}, "
            f"{len(survivors)} go on",
            flush=True,
        )
        by_name = {candidate.name: candidate for candidate in left}
        left = [by_name[survivor] for survivor in survivors]
    return rounds


def _store(path: Path, last: Round) -> dict[str, Path]:
    """Return survivor -> file of its loss, written where it is not there; the best is OUT/loss.safetensors, too."""
    by_name = {candidate.name: candidate for candidate in last.candidates}
    files = {name: by_name[name].store(path / "losses") for name in last.survivors}
    best = path / RUN_FILENAME
    if not best.is_file():
        loss.save(by_name[last.survivors[0]].loss, best)
    return files


def _final(
    config: EliminateConfig,
    path: Path,
    artifacts: Mapping[str, Path],
    stop: Stop,
    data_dir: str | os.PathLike[str] | None,
    cache_dir: str | os.PathLike[str] | None,
) -> dict[str, dict[str, Any]]:
    """Return the comparison of the finals: baselines first, in their order, then the survivors."""
    finalists = [Finalist(text, *parse_loss(text)) for text in config.baselines]
    finalists += [Finalist(name, os.fspath(file)) for name, file in artifacts.items()]
    folders = {finalist: path / "finals" / folder_name(finalist.name) for finalist in finalists}
    left = [finalist for finalist in finalists if finals.finished(folders[finalist], config.seeds) is None]
    measured = {}
    for place, finalist in enumerate(finalists):
        stop.check(f"{place} of {len(finalists)} losses of the finals")
        begun = time.perf_counter()
        directory = folders[finalist]
        options: dict[str, Any] = {"stop": stop, "data_dir": data_dir, "cache_dir": cache_dir}
        result = finals.train(finalist, config.classifier, config.seeds, directory, **options)
        measured[finalist.name] = finals.measure(result, config.seeds)
        if len(left) > 1 and finalist == left[0]:
            seconds = (time.perf_counter() - begun) * (len(left) - 1)
            print(f"finals: about {format_duration(seconds)} for the {len(left) - 1} losses left", flush=True)
    return finals.compared(measured)


def _conclude(
    config: EliminateConfig,
    path: Path,
    rounds: Sequence[Round],
    artifacts: Mapping[str, Path],
    table: Mapping[str, Mapping[str, Any]],
    figure_format: str,
) -> dict[str, Any]:
    """Write tables, figures and report; return the content of result.json."""
    status.say("drawing")
    correlations = report.ranks(rounds)
    report.write_finals(path / "finals.csv", config.seeds, table)
    drawn = figures.draw(path / "figures", rounds, correlations, table, figure_format)
    facts = {
        "searches": ", ".join(config.runs),
        "losses": len(rounds[0].candidates),
        "data set": config.dataset,
        "finals": config.final,
        "seeds of the finals": " ".join(map(str, config.seeds)),
        "seed of the stages": config.seed,
    }
    file = path / "report.md"
    report.write(file, facts, rounds, correlations, table, drawn)
    reports = {"report": str(file), "artifact": str(path / RUN_FILENAME), "dataset": config.dataset}
    return report.result_of(rounds, correlations, artifacts, table, reports)
