"""Searches that differ in their seed, one after another."""

import dataclasses
import logging
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edl_jax.core import jax_settings
from edl_jax.core.files import read_json
from edl_jax.core.runs import Run
from edl_jax.core.seeds import SeedsConfig
from edl_jax.core.stopping import Stop
from edl_jax.plot.style import check_format
from edl_jax.search.config import SearchConfig
from edl_jax.search.result import summary_lines
from edl_jax.search.run import load, run

_LOGGER = logging.getLogger("edl_jax")
COMMAND = "search-seeds"  # in config.json of the directory that holds the runs


@jax_settings.fixed()
def run_seeds(
    config: SearchConfig,
    seeds: Sequence[int],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Search with each of `seeds`; OUT/seed-K is a run directory as `run` makes it with seed K.

    Args:
      config: what to search for; its seed is not used.
      seeds: of the searches, in their order.
      data_dir: as for `run`, and so the following.
      cache_dir: where decoded images are kept.
      out: directory of the runs (default `runs/search-seeds-<time>`).
      resume: keep the finished searches in `out`, continue the one that was interrupted, and start the others; further
        seeds may follow those that the searches began with.
      overwrite: replace the runs in `out`.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the searches to stop, as in `run`.

    Returns:
      The content of OUT/result.json: `seeds`, `runs` (their results, in that order), `mean` and `std` (sample standard
      deviation, None for a single one) of `fitness` and of the seconds, and `artifact`, the loss of the best fitness.

    Raises:
      UserError: no seeds, a seed twice, or as `run`.
      Stopped: `stop` was asked.
    """
    stop = stop or Stop()
    check_format(figure_format)
    group = SeedsConfig(config, tuple(seeds))
    group = dataclasses.replace(group, settings=dataclasses.replace(config, seed=seeds[0]))
    with Run.preparing(COMMAND, group, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        dataset = load(config.dataset, data_dir, cache_dir, config.image_size)
    directory = open_run()
    stop.path = directory.path
    try:
        found: list[dict[str, Any]] = []
        for seed in group.seeds:
            path = directory.path / f"seed-{seed}"
            result = _finished(path)
            if result is None:
                settings = dataclasses.replace(config, seed=seed)
                result = run(
                    settings,
                    out=path,
                    resume=path.is_dir(),
                    figure_format=figure_format,
                    stop=stop,
                    dataset=dataset,
                )
                stop.path = directory.path
            found.append({"seed": seed, **result})
        summary = summarize(found)
        directory.finish(summary)
        return summary
    finally:
        directory.close()


def summarize(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the content of OUT/result.json, from the results of the searches."""
    best = min(runs, key=lambda result: result["fitness"])
    values = {
        "fitness": [result["fitness"] for result in runs],
        "seconds": [result["seconds"]["total"] for result in runs],
    }
    return {
        **{name: best[name] for name in ("method", "dataset", "arch", "artifact")},
        "seeds": [result["seed"] for result in runs],
        "mean": {name: statistics.fmean(numbers) for name, numbers in values.items()},
        "std": {name: statistics.stdev(numbers) if len(runs) > 1 else None for name, numbers in values.items()},
        "runs": list(runs),
    }


def seeds_lines(result: Mapping[str, Any]) -> list[str]:
    """Return what a person is told of the result of `run_seeds`."""
    lines = []
    for one in result["runs"]:
        lines.append(f"seed {one['seed']}: {summary_lines(one)[0]}")
    if len(result["runs"]) > 1:
        mean, std = (result[name]["fitness"] for name in ("mean", "std"))
        lines.append(f"fitness {mean:.4f} ± {std:.4f} over {len(result['runs'])} searches")
    return lines


def _finished(path: Path) -> dict[str, Any] | None:
    """Return the result of a finished search, or None; a damaged one is made again from the checkpoint."""
    file = path / "result.json"
    if not file.exists():
        return None
    try:
        result = read_json(file)
        for name in ("fitness", "seconds"):
            if name not in result:
                raise ValueError(f"it has no {name}")
    except ValueError as error:
        _LOGGER.warning("%s is damaged (%s): it is made again", file, error)
        return None
    return result
