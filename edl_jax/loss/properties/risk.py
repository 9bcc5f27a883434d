"""The risk of a loss over label distributions: is it least where it should be?

A loss is *classification calibrated* when, for every distribution of the label given the input, no prediction with a
wrong class on top comes near the least risk (Bartlett et al., 2006; Tewari and Bartlett, 2007), and *proper* when the
least risk is reached at softmax(logits) = that distribution (Gneiting and Raftery, 2007).
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.loss.contract import Loss
from edl_jax.loss.quick import quick_options

_BOUND = 40.0  # the largest logit of a risk minimiser
_FIRST, _SMALLEST, _ROUNDS = 4.0, 1e-7, 80  # the step of the pattern search, where it ends, and its rounds at the most
_SOME = 64  # predictions whose values of all labels are added
_EQUAL = 1e-6  # of what the best prediction gains over no opinion: risks closer than that are equal

# Label distributions with one largest class; beyond the numbers given the other classes share the rest.
_DISTRIBUTIONS: dict[int, tuple[tuple[float, ...], ...]] = {
    2: ((0.55, 0.45), (0.65, 0.35), (0.8, 0.2), (0.95, 0.05)),
    3: (
        (0.36, 0.33, 0.31),
        (0.4, 0.3, 0.3),
        (0.4, 0.35, 0.25),
        (0.45, 0.4, 0.15),
        (0.48, 0.26, 0.26),
        (0.49, 0.48, 0.03),
        (0.55, 0.4, 0.05),
        (0.6, 0.2, 0.2),
        (0.8, 0.15, 0.05),
        (0.95, 0.025, 0.025),
    ),
    10: (
        (0.13, 0.1, 0.0966667),
        (0.2, 0.15, 0.1),
        (0.2, 0.0888889, 0.0888889),
        (0.3, 0.25, 0.1),
        (0.4, 0.3, 0.15),
        (0.45, 0.44, 0.04),
        (0.46, 0.06, 0.06),
        (0.6, 0.1, 0.1),
        (0.64, 0.04, 0.04),
        (0.9, 0.03, 0.03),
    ),
}


class _Search(NamedTuple):
    """State of a pattern search: where it is, the width of its step, the risk there at first and now, its rounds."""

    here: jax.Array
    width: jax.Array
    first: jax.Array
    least: jax.Array
    rounds: jax.Array


class Risks(NamedTuple):
    """Risks for each of D label distributions, float64.

    Attributes:
      least: `[D]` the least risk.
      wrong: `[D]` the least risk of a prediction with a wrong class on top, or level with the right one.
      honest: `[D]` the risk at the logits ln(label distribution).
      equal: risks closer than this are equal.
    """

    least: np.ndarray
    wrong: np.ndarray
    honest: np.ndarray
    equal: float

    @property
    def is_calibrated(self) -> bool:
        """Return whether a wrong top class costs something under each distribution."""
        return bool(np.all(self.wrong > self.least + self.equal))

    @property
    def is_proper(self) -> bool:
        """Return whether the honest prediction has the least risk under each distribution."""
        return bool(np.all(self.honest < self.least + self.equal))


def least_risks(loss: Loss, num_classes: int, *, interchangeable: bool = True) -> tuple[Risks, bool]:
    """Return the risks of `loss` with `num_classes`, from 2, classes, and whether it is symmetric.

    Call it with 64-bit types enabled. Searched over logits that are equal from the fourth class on, as the label
    distributions are. All of it is one program.

    Args:
      loss: the loss.
      num_classes: C.
      interchangeable: whether the loss does not tell classes apart, as the contract says: labels whose logits are
        equal are then evaluated once.
    """
    free = min(num_classes, 4)
    spread = np.zeros((free, num_classes))
    spread[np.minimum(np.arange(num_classes), free - 1), np.arange(num_classes)] = 1.0
    chances = _label_distributions(num_classes)
    labels = free if interchangeable else num_classes
    of_labels, of_all = of_every_label(loss, labels), of_every_label(loss, num_classes)
    shares = chances @ spread.T if interchangeable else chances

    def risk(points: jax.Array) -> jax.Array:
        """Return `[D, R, P]` for logits `[D, R, P, free]`."""
        return jnp.einsum("drpc,dc->drp", of_labels(points @ spread), shares)

    steps = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=free)))[None, None]

    def search(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return (the least risks `[D, R]` by pattern search from `start` `[D, R, free]`, the risks at `start`)."""

        def step(state: _Search) -> _Search:
            here, width, first, _, rounds = state
            points = jnp.clip(here[:, :, None] + width[..., None, None] * steps, -_BOUND, _BOUND)
            wrong = jnp.max(points[..., 1:], axis=-1) >= points[..., 0]
            # Region 0 is all predictions, region 1 those with a wrong class on top or level with the right one.
            allowed = wrong | (np.arange(2)[None, :, None] == 0)
            values = risk(points)
            first = jnp.where(rounds == 0, values[..., steps.shape[2] // 2], first)
            values = jnp.where(allowed & ~jnp.isnan(values), values, jnp.inf)
            best = jnp.argmin(values, axis=-1)[..., None]
            moved = jnp.take_along_axis(points, best[..., None], axis=2)[:, :, 0]
            stayed = jnp.all(moved == here, axis=-1)
            least = jnp.take_along_axis(values, best, axis=2)[..., 0]
            return _Search(moved, jnp.where(stayed, 0.5 * width, width), first, least, rounds + 1)

        def goes_on(state: _Search) -> jax.Array:
            return (state.rounds < _ROUNDS) & jnp.any(state.width > _SMALLEST)

        zeros = jnp.zeros(start.shape[:2])
        state = _Search(start, zeros + _FIRST, zeros, zeros, jnp.zeros((), jnp.int32))
        final = jax.lax.while_loop(goes_on, step, state)
        return final.least, final.first

    # Two classes are little work: a quarter of the compilation is worth more than fast code.
    @functools.partial(jax.jit, compiler_options=quick_options() if num_classes < 3 else None)
    def program(starts: jax.Array, some: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return *jax.lax.map(search, starts), of_all(some)

    honest = np.log(chances[:, :free])
    honest = honest - (np.log(chances) @ np.full(num_classes, 1.0 / num_classes))[:, None]
    # From no opinion, from the honest one, and from a confident one: a loss may have several valleys.
    starts = [np.zeros_like(honest), honest, np.where(np.arange(free) == 0, 8.0, np.zeros_like(honest))]
    starts += [np.where(np.arange(free) == 1, 8.0, np.zeros_like(honest))]
    # A start with the right class on top is moved to the border of the wrong region.
    pairs = [np.stack([start, np.where(np.arange(free) == 0, start[:, 1:2], start)], axis=1) for start in starts]
    some = 3.0 * np.random.default_rng(0).standard_normal((_SOME, num_classes))
    found, at_starts, of_each = (np.asarray(x) for x in program(np.stack(pairs), some))
    at_none, at_honest = at_starts[0, :, 0], at_starts[1, :, 0]
    found = found.min(axis=0)
    least = found.min(axis=1)
    total = of_each.sum(axis=-1)
    is_symmetric = bool(np.ptp(total) <= 1e-6 * np.abs(total).max())
    return Risks(least, found[:, 1], at_honest, _EQUAL * float(np.max(at_none - least))), is_symmetric


def _label_distributions(num_classes: int) -> np.ndarray:
    """Return `[D, C]`: those of `_DISTRIBUTIONS`; beyond three classes the tail is shared equally."""
    heads = np.array(_DISTRIBUTIONS[min(num_classes, 10) if num_classes < 4 else 10])
    tail = num_classes - heads.shape[1]
    shares = (1.0 - heads.sum(axis=1, keepdims=True)) / max(tail, 1)
    # With fewer than ten classes some tails would come out on top.
    return np.hstack([heads, np.repeat(shares, tail, axis=1)])[shares[:, 0] < 0.8 * heads[:, 0]]


def of_every_label(loss: Loss, count: int) -> Callable[[jax.Array], jax.Array]:
    """Return logits `[..., C]` -> values `[..., count]`, one for each of the first `count` classes as the label."""

    def values(logits: jax.Array) -> jax.Array:
        labels = jnp.broadcast_to(jnp.arange(count), (*logits.shape[:-1], count))
        return jax.vmap(loss, in_axes=(None, -1), out_axes=-1)(logits, labels)

    return values
