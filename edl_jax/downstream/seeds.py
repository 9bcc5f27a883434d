"""Runs of stage 2 that differ in their seed, one after another in one program."""

import dataclasses
import logging
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edl_jax.core import jax_settings
from edl_jax.core.errors import DivergedError
from edl_jax.core.runs import Run
from edl_jax.core.seeds import SeedsConfig
from edl_jax.core.stopping import Stop
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.result import SHOWN, draw, finished_result, number
from edl_jax.downstream.single import title_of
from edl_jax.downstream.task import prepare_task
from edl_jax.downstream.train import Extras, run_one
from edl_jax.downstream.trainer import Trainers
from edl_jax.plot.style import check_format
from edl_jax.training.tensorboard import require_tensorboard

COMMAND = "downstream-seeds"  # in config.json of the directory that holds the runs
_LOGGER = logging.getLogger("edl_jax")


@jax_settings.fixed()
def run_seeds(
    config: DownstreamConfig,
    seeds: Sequence[int],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    figures: bool = True,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Run `config` with each of `seeds`; the second and later runs take the trainers that the first has compiled.

    OUT/seed-K is a run directory as `run` makes it with seed K, with the same numbers. A run that diverges is left as
    it is, the others go on; `resume` gives it another try.

    Args:
      config: what to run; its seed is not used.
      seeds: of the runs, in their order.
      data_dir: as for `run`, and so the following.
      cache_dir: where decoded images are kept.
      out: directory of the runs (default `runs/downstream-seeds-<time>`).
      resume: keep the finished runs in `out`, continue the one that was interrupted, and start the others; further
        seeds may follow those that the runs began with.
      overwrite: replace the runs in `out`.
      tensorboard: write scalars for TensorBoard.
      figures: draw figures.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the runs to stop, as in `run`.

    Returns:
      The content of OUT/result.json: `seeds` that finished, `runs` (their results, in that order), `mean` and `std`
      (sample standard deviation, None for a single one) of every number in them, and `diverged` (seed -> message).

    Raises:
      UserError: no seeds, a seed twice, or as `run`.
      Stopped: `stop` was asked.
    """
    start, stop = time.perf_counter(), stop or Stop()
    check_format(figure_format)
    if tensorboard:
        require_tensorboard()
    group = SeedsConfig(config, tuple(seeds))  # which names --seeds, where the settings would name --seed
    group = dataclasses.replace(group, settings=dataclasses.replace(config, seed=seeds[0]))
    # Before anything is written, so that what cannot run leaves nothing behind.
    with Run.preparing(COMMAND, group, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        first = prepare_task(group.settings, data_dir, cache_dir)
    directory = open_run(inputs=first.inputs)
    stop.path = directory.path
    trainers, extras = Trainers(), Extras(figures, tensorboard, figure_format=figure_format)
    finished: dict[int, dict[str, Any]] = {}
    diverged: dict[str, str] = {}
    try:
        for seed in group.seeds:
            path = directory.path / f"seed-{seed}"
            result = finished_result(path)
            settings = dataclasses.replace(config, seed=seed)
            if result is not None and figures:
                draw(path, settings, first.dataset.label_names, figure_format)
            if result is None:
                task = prepare_task(settings, data_dir, cache_dir, first.dataset)
                run = Run.open("downstream", settings, out=path, resume=path.is_dir(), inputs=task.inputs)
                try:
                    note = f", seed {seed}"
                    result = run_one(run, settings, task, trainers, extras, stop, start=start, note=note)
                except DivergedError as error:
                    _LOGGER.warning("seed %d: %s", seed, error)
                    diverged[str(seed)] = str(error)
                    continue
                finally:
                    start = time.perf_counter()
            finished[seed] = result
        summary = summarize(finished, diverged)
        directory.finish(summary)
        return summary
    finally:
        directory.close()


def summarize(finished: Mapping[int, Mapping[str, Any]], diverged: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of OUT/result.json, from the results by seed and the messages of those that diverged."""
    runs = [{"seed": seed, **result} for seed, result in finished.items()]
    numbers: dict[str, list[Any]] = {}
    for name in runs[0] if runs else ():
        values = [run.get(name) for run in runs]
        if name != "seed" and all(isinstance(value, (int, float)) for value in values):
            numbers[name] = values
    return {
        **{name: runs[0][name] for name in ("loss", "loss_parameters", "arch", "dataset") if runs and name in runs[0]},
        "seeds": list(finished),
        "mean": {name: statistics.fmean(values) for name, values in numbers.items()},
        "std": {name: statistics.stdev(values) if len(runs) > 1 else None for name, values in numbers.items()},
        "runs": runs,
        "diverged": dict(diverged),
    }


def seeds_line(result: Mapping[str, Any]) -> str:
    """Return what a person is told of the result of `run_seeds`: mean and deviation over the seeds that finished."""
    cells = []
    for name, title in SHOWN.items():
        mean, std = (result[statistic].get(name) for statistic in ("mean", "std"))
        cells.append(f"{title} {number(mean)}" + ("" if std is None else f" ± {number(std)}"))
    seeds = " ".join(map(str, result["seeds"]))
    return f"{title_of(result)} on {result['dataset']}, seeds {seeds}: {'   '.join(cells)}"


def require_finite(result: Mapping[str, Any]) -> None:
    """Raise DivergedError where seeds of a result of `run_seeds` diverged."""
    diverged, total = result["diverged"], len(result["seeds"]) + len(result["diverged"])
    if diverged:
        raise DivergedError(f"{len(diverged)} of {total} seeds diverged: {', '.join(diverged)}")
