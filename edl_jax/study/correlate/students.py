"""Accuracy of students on synthetic tasks, trained with each loss on the same tasks from the same first weights."""

import functools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from edl_jax.core.files import read_json, write_json
from edl_jax.core.stopping import Stop
from edl_jax.loss.quick import quick_options
from edl_jax.search.synthetic_tasks import KINDS, Regime, Tasks, make_tasks, train_with
from edl_jax.search.tables import logit_gradient, signatures
from edl_jax.study.candidates import Candidate

REGIME = Regime(examples=2000, epochs=8)
LR = 0.05
"""Learning rate: of 0.01, 0.02, 0.05, 0.1 and 0.2 the one at which cross-entropy does best in the mean of all tasks."""
NOISES = {"students_clean": 0.0, "students_noisy": 0.3}
_AT_ONCE = 4  # losses of a call
_LITTLE = 64  # students of a kind and noise that take less time than to compile well
_KEY = 9
_LOGGER = logging.getLogger("edl_jax")


class _Setting(NamedTuple):
    """Tasks of a kind and noise; `number` is what their accuracy counts for."""

    number: str
    kind: str
    tasks: Tasks


def train(
    candidates: Sequence[Candidate], tasks: int, seed: int, file: Path, stop: Stop, regime: Regime = REGIME
) -> list[dict[str, float]]:
    """Return the mean test accuracy of each loss's students on clean and on noisy labels, by the keys of `NOISES`.

    Args:
      candidates: losses.
      tasks: of each kind and noise.
      seed: of tasks, first weights and batches.
      file: where the accuracies are kept; those that are there are not computed again.
      stop: looked at every second or so.
      regime: how students are trained.
    """
    keys = signatures(np.stack([candidate.table for candidate in candidates]))
    done = _read(file)
    left = [i for i, key in enumerate(keys) if key not in done]
    # The same for a study that is resumed: code that is compiled quickly differs by rounding.
    program = _training(quick=len(candidates) * tasks <= _LITTLE)
    with tqdm(total=len(candidates), unit="loss", desc="students", disable=not sys.stderr.isatty()) as bar:
        bar.update(len(candidates) - len(left))
        if left:
            bar.set_postfix_str("compiling")
            key = jax.random.fold_in(jax.random.key(seed), _KEY)
            settings = _settings(key, tasks, regime)
        for start in range(0, len(left), _AT_ONCE):
            part = left[start : start + _AT_ONCE]
            tables = np.stack([candidates[i].table for i in part])
            padded = np.concatenate([tables, np.repeat(tables[-1:], _AT_ONCE - len(part), axis=0)])
            sums: dict[str, list[Any]] = {number: [] for number in NOISES}
            for setting in settings:
                stop.check(f"{bar.n} of {bar.total} losses of synthetic tasks")
                found = np.asarray(program(jnp.asarray(padded), np.float32(LR), setting.tasks, key, regime))
                sums[setting.number].append(found)
                bar.set_postfix_str(setting.kind)
            for row, i in enumerate(part):
                done[keys[i]] = {number: float(np.mean([x[row] for x in sums[number]])) for number in NOISES}
            write_json(file, done)
            bar.update(len(part))
    return [done[key] for key in keys]


def _settings(key: jax.Array, tasks: int, regime: Regime) -> list[_Setting]:
    drawn = _drawing(regime)(jax.random.split(jax.random.fold_in(key, 1), tasks))
    names = [(number, kind) for number in NOISES for kind in KINDS]
    return [_Setting(*name, found) for name, found in zip(names, drawn, strict=True)]


@functools.cache
def _drawing(regime: Regime) -> "jax.stages.Wrapped":
    """Return keys `[T]` -> the tasks of each noise and kind, in one program, which runs once."""

    def draw(keys: jax.Array) -> list[Tasks]:
        return [make_tasks(keys, kind, np.float32(noise), regime) for noise in NOISES.values() for kind in KINDS]

    return jax.jit(draw, compiler_options=quick_options())


@functools.cache
def _training(quick: bool) -> "jax.stages.Wrapped":
    """Return `_train` as a program."""
    return jax.jit(_train, static_argnums=4, compiler_options=quick_options() if quick else None)


def _train(tables: jax.Array, lr: jax.Array, tasks: Tasks, key: jax.Array, regime: Regime) -> jax.Array:
    """Return the test accuracy `[P, T]` of a student for each table `[P, 2, K]` and task."""

    def one(table: jax.Array) -> jax.Array:
        def values(logits: jax.Array, labels: jax.Array) -> jax.Array:
            # A function with the gradient of the loss at these logits.
            return jnp.sum(jax.lax.stop_gradient(logit_gradient(table, logits, labels)) * logits, axis=-1)

        return train_with(values, lr, tasks, key, regime).accuracy

    return jax.lax.map(one, tables)


def _read(file: Path) -> dict[str, dict[str, float]]:
    """Return what a file holds: key of a loss -> accuracies; nothing of a damaged one."""
    if not file.is_file():
        return {}
    try:
        return {
            key: {number: float(found[number]) for number in NOISES}
            for key, found in read_json(file).items()  # others may be of losses that were given before
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        _LOGGER.warning("%s is unreadable, training its students again: %s", file, error)
        return {}
