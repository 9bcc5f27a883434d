"""What the tests of stage 2 share."""

import dataclasses
import functools
import json

from edl_jax import downstream
from edl_jax.core import config as presets
from edl_jax.downstream import DownstreamConfig
from edl_jax.downstream.trainer import Trainers, compile_trainer

SMALL = DownstreamConfig(
    arch="mlp", dataset="digits", loss="cross_entropy", epochs=4, warmup_epochs=1.0, train_size=256, batch_size=32
)
TIMINGS = {"seconds", "train_seconds", "images_per_second", "compile_seconds", "wall_seconds", "peak_memory_mib"}
run = functools.partial(downstream.run, figures=False)  # which would take most of the time


class SharedTrainers(Trainers):
    """Trainers that all runs share, as those of several seeds do: what a program depends on is its key."""

    compiled: dict = {}  # noqa: RUF012

    def get(self, config, task):
        data = {"seed": 0, "label_noise": 0.0, "label_noise_kind": "symmetric", "imbalance": 1.0, "val_size": 0}
        program = {"train_size": None, "target_accuracy": None, "checkpoint_every": 1}
        key = (dataclasses.replace(config, **data, **program), task.images.shape, task.loop, task.loss_fn)
        if key not in self.compiled:
            self.compiled[key] = compile_trainer(config, task)
        return self.compiled[key]


def changed(**changes):
    return presets.override(SMALL, changes)


def rows_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def numbers(record):
    """A line or a result without what is measured: what two equal runs share."""
    return {key: value for key, value in record.items() if key not in TIMINGS}
