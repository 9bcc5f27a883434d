"""What a person sees while training runs: one line with the estimated time, and a bar on a terminal."""

import sys
import time

from tqdm import tqdm

from edl_jax.core import status
from edl_jax.core.stopping import Stop

_FIRST_STEPS = 5  # timed for the estimate ...
_FIRST_SECONDS = 2.0  # ... or as many as fit in this time
_SYNC_SECONDS = 2.0  # work between two looks at the device ...
_SYNC_STEPS = 50  # ... and at most this many steps
# An evaluated image costs about a third of a trained one: no gradients of activations and parameters.
_EVAL_COST = 1 / 3


def format_duration(seconds: float) -> str:
    """Return a duration in the unit that a person would choose, e.g. `45 s`, `3.2 min`, `8.1 days`."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size or (unit == "min" and seconds >= 90):
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


class Progress:
    """Times the first steps, prints the estimate once, and keeps the bar; nothing of that inside `status.quiet`.

    Args:
      description: of what is trained, starts the line.
      steps: steps of an epoch.
      epochs: epochs of the whole training.
      done_steps: steps that were done before, of all epochs.
      eval_share: evaluated images of an epoch as a share of its trained images.
      stop: ends an epoch early.
    """

    def __init__(
        self, description: str, *, steps: int, epochs: int, done_steps: int, eval_share: float, stop: Stop
    ) -> None:
        self._description = description
        self._steps = steps
        self._stop = stop
        self._left = epochs - done_steps / steps
        self._epoch_cost = steps * (1.0 + _EVAL_COST * eval_share)  # in training steps
        self._every = 1
        self._estimated = False
        self._timed_from: tuple[int, float] = (0, time.perf_counter())
        self._quiet = status.is_quiet()
        hidden = self._quiet or not sys.stderr.isatty()
        self._bar = tqdm(total=steps * epochs, initial=done_steps, unit="step", desc=description, disable=hidden)
        self._counted = self._begun = 0

    def start_epoch(self, done: int = 0) -> None:
        """Take note that an epoch starts, or goes on after `done` steps."""
        self._counted = self._begun = done
        if not self._estimated:
            self._timed_from = (done, time.perf_counter())

    def due(self, done: int) -> bool:
        """Return whether to wait for the device after `done` steps of the epoch."""
        return done % self._every == 0

    def report(self, done: int) -> None:
        """Take note that `done` steps of the epoch are finished; estimate once enough are."""
        self._bar.update(done - self._counted)
        self._counted = done
        if self._estimated:
            return
        start, since = self._timed_from
        seconds = time.perf_counter() - since
        if done == self._begun + 1 and seconds < _FIRST_SECONDS:
            self._timed_from = (done, time.perf_counter())  # the first step also allocates: leave it out
        elif done - start >= _FIRST_STEPS or seconds >= _FIRST_SECONDS or done == self._steps:
            per_step = seconds / (done - start)
            self._estimate(per_step * self._epoch_cost, f"{per_step * 1e3:,.0f} ms a step")
            self._every = max(1, min(_SYNC_STEPS, int(_SYNC_SECONDS / max(per_step, 1e-6))))

    def enough(self, done: int) -> bool:
        """Return whether to end the epoch after `done` steps."""
        return self._stop.requested

    def finish_epoch(self, seconds: float, metrics: dict[str, float]) -> None:
        """Take note of an epoch's seconds (training and evaluation) and of the metrics to show."""
        self._bar.update(self._steps - self._counted)
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in metrics.items()})
        if not self._estimated:
            self._estimate(seconds, f"{seconds:.2g} s an epoch")

    def note(self, text: str) -> None:
        """Print lines on stdout, above the bar."""
        tqdm.write(text, file=sys.stdout)

    def close(self) -> None:
        """Close the bar."""
        self._bar.close()

    def _estimate(self, epoch_seconds: float, detail: str) -> None:
        self._estimated = True
        if self._left <= 0 or self._quiet:  # an evaluation alone
            return
        total = epoch_seconds * self._left
        text = f"about {format_duration(total)}" if total >= 1.0 else "less than 1 s"
        left = f"{round(self._left, 1):g}"  # an epoch that was stopped is left in part
        tqdm.write(f"{self._description}: {left} epochs take {text} ({detail})", file=sys.stderr)
