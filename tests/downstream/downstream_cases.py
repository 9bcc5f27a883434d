"""What the tests of stage 2 share."""

import functools
import json

from edl_jax import downstream
from edl_jax.core import config as presets
from edl_jax.downstream import DownstreamConfig

SMALL = DownstreamConfig(
    arch="mlp", dataset="digits", loss="cross_entropy", epochs=4, warmup_epochs=1.0, train_size=256, batch_size=32
)
TIMINGS = {"seconds", "train_seconds", "images_per_second", "compile_seconds", "wall_seconds", "peak_memory_mib"}
run = functools.partial(downstream.run, figures=False)  # which would take most of the time


def changed(**changes):
    return presets.override(SMALL, changes)


def rows_of(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def numbers(record):
    """A line or a result without what is measured: what two equal runs share."""
    return {key: value for key, value in record.items() if key not in TIMINGS}
