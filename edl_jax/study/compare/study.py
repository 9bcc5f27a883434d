"""Losses compared on a grid: `python run.py compare`.

Cells are ordinary runs of stage 2, which any number of workers take.
"""

import os
from pathlib import Path
from typing import Any

from edl_jax import loss
from edl_jax.core import jax_settings, status
from edl_jax.core.errors import DivergedError, UserError, require
from edl_jax.core.inputs import Input
from edl_jax.core.stopping import Stop
from edl_jax.downstream import RunSequence
from edl_jax.loss.registry import digest
from edl_jax.plot.style import check_format
from edl_jax.study.compare import directory, report
from edl_jax.study.compare.cells import make_cell, settings
from edl_jax.study.compare.config import CompareConfig
from edl_jax.study.compare.leases import LeaseTimes
from edl_jax.study.compare.ledger import DIVERGED, Ledger
from edl_jax.study.compare.monitor import Monitor
from edl_jax.study.compare.plan import make_plan
from edl_jax.study.compare.processes import work_in_processes
from edl_jax.study.compare.worker import WorkOptions, work

_RENEWALS = 12  # of a lease, before it expires
_MOST_WORKERS = 1024


def run(
    config: CompareConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    join: bool = False,
    retry: bool = False,
    report_only: bool = False,
    workers: int = 1,
    lease_seconds: float = 60.0,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Run the cells of a grid that are left, then write its tables and figures.

    Args:
      config: the grid.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: directory of the grid (default `runs/compare-<time>`).
      resume: go on with the grid in `out`, extended by what `config` has beside; other processes may work in it.
      overwrite: replace the grid in `out`.
      join: as `resume`, and make the grid where there is none yet: for processes that start at the same time.
      retry: try failed cells again.
      report_only: write the tables of what has finished, and run nothing.
      workers: processes that take cells; a single worker is this process.
      lease_seconds: time without a sign of life after which the cell of a worker is taken over.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the grid to stop, after the next step of the cells in work.

    Returns:
      The content of OUT/result.json, with `path`, the directory.

    Raises:
      UserError: a setting that cannot be used, absent data, or a directory that may not be had.
      Stopped: `stop` was asked.
    """
    if workers > 1:  # several on one accelerator: none may reserve most of its memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    options = WorkOptions(data_dir, cache_dir, LeaseTimes(lease_seconds / _RENEWALS, lease_seconds))
    resume = resume or report_only
    with jax_settings.fixed():
        check_format(figure_format)
        require(1 <= workers <= _MOST_WORKERS, f"workers is {workers}, expected a number of processes, at least 1")
        require(lease_seconds > 0.0, f"lease_seconds is {lease_seconds}, expected a positive number")
        options.times.check()
        stop = stop or Stop()
        path = directory.find(out, resume=resume, overwrite=overwrite, join=join)
        resumed = directory.is_resumed(path, resume=resume, join=join)
        config = directory.wanted(path, config, resume=resumed, overwrite=overwrite)
        config.baseline_loss  # noqa: B018 - which says that it is none of the losses
        if not report_only:
            inputs = _check_cells(config, options)
            flags = {"resume": resume, "join": join, "overwrite": overwrite, "unused": out is None}
            path = directory.open_grid(path, config, inputs, stop=stop, **flags)
            stop.path = path
            config = directory.read_config(path)
            if retry:
                _forgive(path, config)
            with Monitor(path, workers):
                if workers == 1:
                    work(path, options, stop)
                else:
                    work_in_processes(path, options, workers, stop)
        stop.path = path
        status.say("writing the tables")
        return {**report.write(path, config if report_only else None, figure_format, stop), "path": str(path)}


def require_finished(result: dict[str, Any]) -> None:
    """Raise where cells of the tables have failed.

    Raises:
      DivergedError: all of them have diverged.
      UserError: another one has failed.
    """
    failed = [cell for cell in result["cells"] if cell["state"] not in ("done", "open") and cell["role"] != "tuning"]
    if failed:
        first = failed[0]
        message = (
            f"{len(failed)} of {len(result['cells'])} cells have failed, such as {first['name']} ({first['error']}): "
            "--resume --retry tries them again"
        )
        raise (DivergedError if all(cell["state"] == DIVERGED for cell in failed) else UserError)(message)


def _check_cells(config: CompareConfig, options: WorkOptions) -> dict[str, Input]:
    """Return what the cells read from files, after all that can be checked without training.

    Raises:
      UserError: an unknown name, absent data, or a loss, a model and a data set that do not fit each other.
    """
    status.say("checking losses, models and data sets")
    for spec in config.specs:  # which takes no time
        loss.get(spec.name, **spec.hyper_parameters)
    sequence = RunSequence(options.data_dir, options.cache_dir)
    inputs: dict[str, Input] = {}
    checked: set[tuple[str, str]] = set()
    for setting in settings(config):
        for text in config.losses:
            # Every loss with every data set, and every model with every data set: not all triples.
            pairs = {(setting.dataset, text), (setting.dataset, setting.arch)}
            if pairs <= checked:
                continue
            checked |= pairs
            dataset = sequence.check(make_cell(config, setting, text, 1.0, config.seeds[0]).config)
            inputs[f"dataset {setting.dataset}"] = Input(f"data set {setting.dataset}", dataset.digest)
    for spec in config.specs:
        found = digest(spec.name)
        if found is not None:
            inputs[f"loss {spec.name}"] = Input(f"loss {spec.name}", found)
    return inputs


def _forgive(path: Path, config: CompareConfig) -> None:
    ledger = Ledger(path)
    for cell in make_plan(config, ledger).cells:
        if ledger.failure(cell) is not None:
            ledger.forgive(cell)
