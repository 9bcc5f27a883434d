"""Learning rates over a training, by name."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from edl_jax.core.errors import choose, require

_ONECYCLE_RISE = 0.3  # share of the steps
_ONECYCLE_START = 25.0
_ONECYCLE_END = 1e4


def schedules() -> tuple[str, ...]:
    """Return the names that `make_schedule` knows, sorted."""
    return tuple(sorted(_SCHEDULES))


def make_schedule(name: str, lr: float, total_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Return step -> learning rate.

    Except with `onecycle`, it rises linearly from 0 to `lr` at step `warmup_steps` (0: it starts at `lr`). Then:

        constant  `lr` to the end
        cosine    half a cosine to 0 at `total_steps` (Loshchilov and Hutter 2017, 1608.03983, without restarts)
        linear    a straight line to 0 at `total_steps`
        onecycle  half a cosine from `lr` / 25 up to `lr` over `warmup_steps`, or 30 % of the steps if that is 0, and
                  half a cosine down to `lr` / 250,000 (Smith and Topin 2019, 1708.07120; constants and cosines of
                  PyTorch's OneCycleLR; momentum is not cycled)
        step      a tenth from 50 % of `total_steps` and a hundredth from 75 % (He et al. 2016, 1512.03385, section 4.2)

    Args:
      name: one of `schedules()`.
      lr: the largest learning rate, positive.
      total_steps: number of steps of the whole training.
      warmup_steps: number of steps of the rise, at most `total_steps`.

    Raises:
      UserError: an unknown name, or a number out of its range.
    """
    name = choose("schedule", name, _SCHEDULES)
    require(0.0 < lr < float("inf"), f"lr is {lr}, expected a positive number")
    require(total_steps >= 1, f"total_steps is {total_steps}, expected at least 1")
    require(
        0 <= warmup_steps <= total_steps,
        f"warmup_steps is {warmup_steps}, expected at least 0 and at most total_steps ({total_steps})",
    )
    return _SCHEDULES[name](lr, total_steps, warmup_steps)


def warmup_cosine(lr: float, total_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """Return step -> learning rate: linear from 0 to `lr`, then half a cosine to 0 at `total_steps`.

    Args:
      lr: the largest learning rate, reached at step `warmup_steps`.
      total_steps: number of steps of the whole training.
      warmup_steps: number of steps of the linear part; 0 starts at `lr`.
    """
    return _after_warmup(optax.cosine_decay_schedule(lr, max(total_steps - warmup_steps, 1)), lr, warmup_steps)


def _constant(lr: float, total_steps: int, warmup_steps: int) -> optax.Schedule:
    del total_steps
    return _after_warmup(optax.constant_schedule(lr), lr, warmup_steps)


def _linear(lr: float, total_steps: int, warmup_steps: int) -> optax.Schedule:
    return _after_warmup(optax.linear_schedule(lr, 0.0, max(total_steps - warmup_steps, 1)), lr, warmup_steps)


def _step(lr: float, total_steps: int, warmup_steps: int) -> optax.Schedule:
    def after(step: optax.ScalarOrSchedule) -> optax.ScalarOrSchedule:
        done = step + warmup_steps  # milestones are counted from the start of training
        return lr * jnp.where(4 * done >= 3 * total_steps, 0.01, jnp.where(2 * done >= total_steps, 0.1, 1.0))

    return _after_warmup(after, lr, warmup_steps)


def _onecycle(lr: float, total_steps: int, warmup_steps: int) -> optax.Schedule:
    rise = min(warmup_steps or max(round(_ONECYCLE_RISE * total_steps), 1), total_steps)
    # A cosine "decay" whose end is 25 times its start is a rise.
    up = optax.cosine_decay_schedule(lr / _ONECYCLE_START, rise, alpha=_ONECYCLE_START)
    down = optax.cosine_decay_schedule(lr, max(total_steps - rise, 1), alpha=1.0 / (_ONECYCLE_START * _ONECYCLE_END))
    return optax.join_schedules([up, down], [rise])


def _after_warmup(schedule: optax.Schedule, lr: float, warmup_steps: int) -> optax.Schedule:
    """Return the linear rise, then `schedule` of the steps after it."""
    if warmup_steps == 0:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, lr, warmup_steps), schedule], [warmup_steps])


_SCHEDULES: dict[str, Callable[[float, int, int], optax.Schedule]] = {
    "constant": _constant,
    "cosine": warmup_cosine,
    "linear": _linear,
    "onecycle": _onecycle,
    "step": _step,
}
