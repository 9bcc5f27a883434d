"""What is measured of a minimum: eigenvalues, traces, slices."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from edl_jax.study.flatness.config import FlatnessConfig
from edl_jax.study.flatness.directions import filter_normalised, rademacher
from edl_jax.study.flatness.ledger import Ledger, Vectors
from edl_jax.study.flatness.network import OWN, REFERENCE, Surface, Trained

# Numbers that are folded into the seed's key.
_START, _TRACE, _CURVATURE, _SLICE = range(4)

Report = Callable[[str], None]


class Mean(NamedTuple):
    """A mean over random vectors, with its standard error."""

    value: float
    error: float


class Curvature(NamedTuple):
    """The Hessian of the mean of a loss over the training images.

    Attributes:
      loss: `own` or `cross_entropy`.
      scale: of the loss: its mean gradient norm over cross-entropy's.
      eigenvalues: the largest, in descending order; a Ritz value is never above the eigenvalue that it stands for.
      errors: how far each is from an eigenvalue at the most.
      products: that were spent on them.
      trace: sum of all eigenvalues, by Hutchinson's method.
      normalised: mean second derivative along filter-normalised directions.
    """

    loss: str
    scale: float
    eigenvalues: tuple[float, ...]
    errors: tuple[float, ...]
    products: int
    trace: Mean
    normalised: Mean

    def known(self, tolerance: float) -> list[bool]:
        """Return which of the eigenvalues are known up to that share of the largest."""
        return [error <= tolerance * abs(self.eigenvalues[0]) for error in self.errors]


class Slices(NamedTuple):
    """Losses along lines and in a plane through the weights; NaN where one is not finite.

    Attributes:
      at: `[S]` positions along a line, in units of the filters' lengths.
      lines: loss -> `[D, S]`.
      accuracy: `[D, S]`.
      grid: `[G]` positions along a side of the plane.
      plane: loss -> `[G, G]`, the second direction in the rows.
    """

    at: np.ndarray
    lines: dict[str, np.ndarray]
    accuracy: np.ndarray
    grid: np.ndarray
    plane: dict[str, np.ndarray]


class Measured(NamedTuple):
    """What is measured of a network.

    Attributes:
      network: the network.
      parameters: number of weights.
      losses: loss -> its mean over the images.
      accuracy: on the images.
      curvatures: a Hessian a loss.
      slices: of the surface.
    """

    network: Trained
    parameters: int
    losses: dict[str, float]
    accuracy: float
    curvatures: list[Curvature]
    slices: Slices

    @property
    def reference(self) -> Curvature:
        """The Hessian of cross-entropy."""
        return next(each for each in self.curvatures if each.loss == REFERENCE)

    @property
    def own(self) -> Curvature:
        """The Hessian of the loss of the run, which may be cross-entropy."""
        return next((each for each in self.curvatures if each.loss == OWN), self.reference)


def measure(network: Trained, config: FlatnessConfig, folder: Path, say: Report, check: Callable[[], None]) -> Measured:
    """Measure a network; what is computed is kept in `folder`.

    Args:
      network: the network.
      config: how exactly.
      folder: of this network alone.
      say: called with what is being done.
      check: called after each batch; where it raises, at most a few seconds of work are lost.
    """
    surface = Surface(network, config.batch_size, check)
    ledger = Ledger(folder / "numbers.json")
    key = jax.random.key(config.seed)
    try:
        say("losses")

        def values(params: np.ndarray) -> list[float]:
            found = surface.values(params)
            return [*found.losses.values(), found.accuracy]

        *means, accuracy = ledger.get("minimum", lambda: values(surface.params))
        curvatures = [_curvature(surface, network, name, config, key, ledger, folder, say) for name in network.losses]
        slices = _slices(surface, list(network.losses), values, config, key, ledger, say)
    finally:
        ledger.write()
    losses = dict(zip(network.losses, means, strict=True))
    return Measured(network, len(surface.params), losses, accuracy, curvatures, slices)


def _curvature(
    surface: Surface,
    network: Trained,
    name: str,
    config: FlatnessConfig,
    key: jax.Array,
    ledger: Ledger,
    folder: Path,
    say: Report,
) -> Curvature:
    """Return eigenvalues and traces of a loss."""

    def product(vector: np.ndarray) -> np.ndarray:
        return surface.product(name, vector)

    def eigenvalues() -> list[float]:
        vectors = Vectors(folder / f"lanczos-{name}")
        start = jax.random.normal(jax.random.fold_in(key, _START), surface.params.shape)
        state = vectors.read(lambda: np.asarray(start))
        try:
            while len(state.diagonal) < config.iterations and not state.ended:
                if state.converged(config.eigenvalues, config.tolerance):
                    break
                say(f"{name}: eigenvalues, product {len(state.diagonal) + 1}")
                state.step(product)
                vectors.keep(state)
        except BaseException:
            vectors.keep(state, now=True)
            raise
        found, errors = (each[: config.eigenvalues] for each in state.ritz())
        return [len(state.diagonal), *found, *errors]

    count, *rest = ledger.get(f"{name} eigenvalues", eigenvalues)
    ledger.write()
    Vectors(folder / f"lanczos-{name}").remove()
    half = len(rest) // 2

    def quadratic(draw: Callable[[jax.Array, Any], Any], key: jax.Array) -> list[float]:
        flat = np.asarray(ravel_pytree(draw(key, surface.tree(surface.params)))[0])
        return [float(np.sum(flat * product(flat), dtype=np.float64))]

    def mean(what: str, number: int, draw: Callable[[jax.Array, Any], Any]) -> Mean:
        keys = jax.random.split(jax.random.fold_in(key, number), config.probes)
        samples = []
        for i, each in enumerate(keys):
            say(f"{name}: {what}, product {i + 1} of {config.probes}")
            samples += ledger.get(f"{name} {what} {i}", partial(quadratic, draw, each))
        return Mean(float(np.mean(samples)), float(np.std(samples, ddof=1) / math.sqrt(len(samples))))

    return Curvature(
        name,
        network.scales[name],
        tuple(rest[:half]),
        tuple(rest[half:]),
        int(count),
        mean("trace", _TRACE, rademacher),
        mean("normalised trace", _CURVATURE, filter_normalised),
    )


def _slices(
    surface: Surface,
    names: Sequence[str],
    values: Callable[[np.ndarray], list[float]],
    config: FlatnessConfig,
    key: jax.Array,
    ledger: Ledger,
    say: Report,
) -> Slices:
    """Return the slices along lines, and along the plane of the first two of them."""
    keys = jax.random.split(jax.random.fold_in(key, _SLICE), config.directions)
    tree = surface.tree(surface.params)
    directions = [np.asarray(ravel_pytree(filter_normalised(each, tree))[0]) for each in keys]
    at = _positions(config.points, config.span)
    lines = np.empty((config.directions, config.points, len(names) + 1))
    for d, direction in enumerate(directions):
        for i, step in enumerate(at):
            say(f"slice {d + 1} of {config.directions}, point {i + 1} of {config.points}")
            lines[d, i] = _at(ledger, f"line {d} {i}", values, surface.params + np.float32(step) * direction)
    grid = _positions(config.grid, config.span)
    plane = np.empty((config.grid, config.grid, len(names) + 1))
    for i, down in enumerate(grid):
        for j, across in enumerate(grid):
            say(f"plane, point {i * config.grid + j + 1} of {config.grid**2}")
            params = surface.params + np.float32(across) * directions[0] + np.float32(down) * directions[1]
            plane[i, j] = _at(ledger, f"plane {i} {j}", values, params)
    return Slices(
        at,
        {name: lines[..., i] for i, name in enumerate(names)},
        lines[..., -1],
        grid,
        {name: plane[..., i] for i, name in enumerate(names)} if config.grid else {},
    )


def _at(ledger: Ledger, name: str, values: Callable[[np.ndarray], list[float]], params: np.ndarray) -> list[float]:
    return ledger.get(name, lambda: values(params))


def _positions(count: int, span: float) -> np.ndarray:
    """Return positions from -span to span, 0 exactly in the middle."""
    half = count // 2
    return span * np.arange(-half, count - half) / max(half, 1)
