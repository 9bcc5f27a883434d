"""Runs of stage 2 one after another, of any settings, in one program."""

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from edl_jax import data
from edl_jax.core import jax_settings
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.result import finished_result
from edl_jax.downstream.task import prepare_task
from edl_jax.downstream.train import Extras, run_one
from edl_jax.downstream.trainer import Trainers

# Programs that are kept: each holds the test images.
_KEPT = 8


class RunSequence:
    """Makes runs as `run` does, with the same numbers; data sets and compiled programs are used again where they fit.

    Args:
      data_dir: TFDS directory (default: TFDS's own).
      cache_dir: where decoded images are kept (default: the user's cache folder).
    """

    def __init__(
        self, data_dir: str | os.PathLike[str] | None = None, cache_dir: str | os.PathLike[str] | None = None
    ) -> None:
        self._folders = (data_dir, cache_dir)
        self._datasets: dict[tuple[str, int | None], data.Dataset] = {}
        self._trainers: dict[DownstreamConfig, Trainers] = {}

    def check(self, config: DownstreamConfig) -> data.Dataset:
        """Return the data set of a run, after what can be checked without training.

        Raises:
          UserError: as `run`, but for the run directory.
        """
        dataset = self._dataset(config)
        prepare_task(config, *self._folders, dataset)
        return dataset

    @jax_settings.fixed()
    def run(
        self,
        config: DownstreamConfig,
        out: Path,
        *,
        temperature: bool = False,
        stop: Stop | None = None,
        note: str = "",
    ) -> dict[str, Any]:
        """Make the run in `out`, or go on with the one that is there, without figures; a finished one is left as it is.

        Args:
          config: what to run.
          out: run directory.
          temperature: report temperature scaling as well, in result.json.
          stop: asks the run to stop, as in `run`.
          note: added to what is said when it stops.

        Returns:
          The content of result.json.

        Raises:
          UserError: as `run`.
          DivergedError: likewise.
          Stopped: `stop` was asked.
        """
        start, stop = time.perf_counter(), stop or Stop()
        result = finished_result(out)
        if result is not None:
            return result
        task = prepare_task(config, *self._folders, self._dataset(config))
        directory = Run.open("downstream", config, out=out, resume=out.is_dir(), inputs=task.inputs)
        extras = Extras(figures=False, temperature=temperature)
        return run_one(directory, config, task, self._trainers_of(config), extras, stop, start=start, note=note)

    def _dataset(self, config: DownstreamConfig) -> data.Dataset:
        key = (config.dataset, config.image_size)
        if key not in self._datasets:
            self._datasets[key] = data.load(config.dataset, *self._folders, image_size=config.image_size)
        return self._datasets[key]

    def _trainers_of(self, config: DownstreamConfig) -> Trainers:
        """Return the trainers of all configs that differ in nothing that a program depends on."""
        key = dataclasses.replace(config, seed=0, label_noise=0.0)
        trainers = self._trainers.pop(key, None) or Trainers()
        self._trainers[key] = trainers  # the last one used is the last to go
        if len(self._trainers) > _KEPT:
            del self._trainers[next(iter(self._trainers))]
        return trainers
