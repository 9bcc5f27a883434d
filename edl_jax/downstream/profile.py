"""Where the time of training goes: `downstream --profile`."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp

from edl_jax import training
from edl_jax.backend import roofline
from edl_jax.training.epoch import TrainEpoch

_STEPS = 10


class _FirstSteps:
    """Watches an epoch of steps, and ends it after the first ones."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def due(self, done: int) -> bool:
        return False

    def report(self, done: int) -> None:
        pass

    def enough(self, done: int) -> bool:
        return done == self._steps


def trace(
    folder: Path, train_epoch: TrainEpoch, state: training.TrainState, *, loop: str, steps: int
) -> tuple[int, float]:
    """Write a trace of the profiler: of some steps, or of a whole epoch where that is one program.

    Copies of the state are trained, so that training itself goes on as if nothing had been traced: one to measure the
    time, the other to trace, which takes longer.

    Args:
      folder: the trace is written to `folder/plugins/profile/<time>`.
      train_epoch: that has run before, so that nothing of the first time is traced.
      state: at the beginning of an epoch.
      loop: `scan`, `steps` or `stream`.
      steps: of an epoch.

    Returns:
      The number of steps in the trace, and the seconds that as many take without it.
    """
    traced = steps if loop == "scan" else min(_STEPS, steps)
    copies = [jax.block_until_ready(jax.tree.map(jnp.copy, state)) for _ in range(2)]

    def train(copy: training.TrainState) -> None:
        jax.block_until_ready(train_epoch(copy, 0, _FirstSteps(traced)))

    start = time.perf_counter()
    train(copies.pop())
    seconds = time.perf_counter() - start
    with jax.profiler.trace(str(folder)):
        train(copies.pop())
    return traced, seconds


def lines(
    folder: Path, traced: int, *, images_per_second: float, batch_size: int, step_flops: float, precision: str
) -> list[str]:
    """Return the report: achieved rates beside the machine's measured peak, and how to open the trace.

    Args:
      folder: of the trace.
      traced: steps in it.
      images_per_second: of training.
      batch_size: images of a step.
      step_flops: floating-point operations of a step, as XLA counts them.
      precision: dtype of the computation, in which the peak is measured.
    """
    rate = images_per_second / batch_size * step_flops
    peak, _ = roofline.ceilings(jnp.dtype(precision))
    side = roofline.matrix_size()
    traces = sorted(folder.rglob("*.trace.json.gz"))
    shown = [
        f"profile: {images_per_second:,.1f} images/s, {batch_size} images a step",
        f"  one step: {step_flops / 1e9:.3g} GFLOP (XLA's count of the program as written)",
        f"  arithmetic: {rate / 1e9:.3g} GFLOP/s, {100 * rate / peak:.1f} % of a measured {peak / 1e9:,.1f} GFLOP/s "
        f"({side} x {side} {precision} product)",
        f"  trace of {traced} steps: tensorboard --logdir {folder} (pip install tensorboard xprof)",
    ]
    if traces:
        shown.append(f"  or in a browser, at https://ui.perfetto.dev: open {traces[-1]}")
    return shown
