"""One run of stage 2."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edl_jax import loss
from edl_jax.core import jax_settings
from edl_jax.core.config import parse_parameters
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.result import SHOWN, number
from edl_jax.downstream.task import prepare_task
from edl_jax.downstream.train import Extras, run_one
from edl_jax.downstream.trainer import Trainers
from edl_jax.plot.style import check_format
from edl_jax.training.tensorboard import require_tensorboard


@jax_settings.fixed()
def run(
    config: DownstreamConfig,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    profile: bool = False,
    figures: bool = True,
    figure_format: str = "png",
    stop: Stop | None = None,
) -> dict[str, Any]:
    """Train, evaluate after every epoch, and write the run directory.

    Args:
      config: what to run.
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
      out: run directory (default `runs/downstream-<time>`).
      resume: continue the run in `out` from its newest checkpoint; a finished run returns its result.
      overwrite: replace the run in `out`.
      tensorboard: write the scalars of each epoch to OUT/tensorboard (needs tensorboardX).
      profile: write a trace of the profiler to OUT/profile, and print where the time goes.
      figures: draw OUT/figures at the end.
      figure_format: of the figures: png, pdf or svg.
      stop: asks the run to stop, after the next step; the loop `scan` stops after an epoch.

    Returns:
      The content of result.json.

    Raises:
      UserError: a setting that cannot be used, absent data, or a run directory that may not be written.
      DivergedError: the loss or the parameters became non-finite.
      Stopped: `stop` was asked.
    """
    start, stop = time.perf_counter(), stop or Stop()
    check_format(figure_format)
    if tensorboard:
        require_tensorboard()
    with Run.preparing("downstream", config, out=out, resume=resume, overwrite=overwrite, stop=stop) as open_run:
        task = prepare_task(config, data_dir, cache_dir)
    directory = open_run(inputs=task.inputs)
    stop.path = directory.path
    return run_one(
        directory,
        config,
        task,
        Trainers(),
        Extras(figures, tensorboard, profile, figure_format=figure_format),
        stop,
        start=start,
    )


def title_of(result: Mapping[str, Any]) -> str:
    """Return what to call the loss of a result; those of earlier releases have no `loss_parameters`."""
    return loss.title(result["loss"], parse_parameters(result.get("loss_parameters", ())))


def summary_line(result: Mapping[str, Any]) -> str:
    """Return what a person is told of the result of `run`."""
    shown = "   ".join(f"{title} {number(result[name])}" for name, title in SHOWN.items())
    return f"{title_of(result)} on {result['dataset']}: {shown}"
