"""Synthetic predictions: a mixture of distributions over the probability simplex, for a given true class.

Every component but one is a Dirichlet distribution whose concentration differs between the true class, one
rival class and the others:

    component         true       rival      each other        what it imitates
    uniform           1          1          1                 any prediction
    confident_right   k          1/(C-1)    1/(C-1)           late training
    confident_wrong   1          k          1/(C-2)           mislabelled or hard examples
    boundary          k          k          1/(C-2)           the top two classes nearly tied
    near_uniform      f          f          f                 early training

with k = `confidence` and f = `flatness`. `log_uniform` draws ln p_t uniformly from [log_p_min, 0]; `designed` draws it
from a table of quantiles (`design-mixture` computes one for a wanted loss). Both spread the rest by a Dirichlet of
concentration `spread`. Samples are log-probabilities made from log-gamma variates, so that tiny probabilities keep
their relative precision.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import command, require
from edl_jax.synthetic import host_random, log_gamma

# The smallest probability of a set ln p_t that is drawn.
_LEVEL_LEAST = 1e-6
COMPONENTS = ("uniform", "confident_right", "confident_wrong", "boundary", "near_uniform", "log_uniform", "designed")


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """Weights and concentrations of the mixture; weights need not sum to 1.

    The defaults were chosen on synthetic tasks only: docs/results.md, "How the mixture was chosen".
    """

    uniform: float = 0.0
    """Weight: Dirichlet 1, any prediction."""
    confident_right: float = 0.08
    """Weight: confident and right."""
    confident_wrong: float = 0.0
    """Weight: confident and wrong."""
    boundary: float = 0.05
    """Weight: the top two classes nearly tied."""
    near_uniform: float = 0.0
    """Weight: close to equal probabilities."""
    log_uniform: float = 0.87
    """Weight: ln p_t uniform."""
    designed: float = 0.0
    """Weight: ln p_t with the quantiles designed_log_p."""
    confidence: float = 4.0
    """Concentration of the favoured class in confident_right, confident_wrong and boundary."""
    flatness: float = 10.0
    """Concentration of each class in near_uniform."""
    spread: float = 1.0
    """Concentration of the wrong classes in log_uniform and designed."""
    log_p_min: float = -9.0
    """Smallest ln p_t in log_uniform."""
    designed_log_p: tuple[float, ...] = ()
    """Quantiles of ln p_t in designed, at equal steps of probability, ascending (design-mixture makes them)."""

    def __post_init__(self) -> None:
        for name in COMPONENTS:
            weight = getattr(self, name)
            require(0.0 <= weight < math.inf, f"mixture.{name} is {weight}, expected a finite number, 0 or more")
        names = ", ".join(f"mixture.{name}" for name in COMPONENTS)
        require(
            any(getattr(self, name) > 0.0 for name in COMPONENTS),
            f"the weights of the mixture sum to 0: give at least one of {names} a positive one",
        )
        for name in ("confidence", "flatness", "spread"):
            value = getattr(self, name)
            require(1e-3 <= value <= 1e6, f"mixture.{name} is {value}, expected a number from 1e-3 to 1e6")
        require(
            -80.0 <= self.log_p_min < 0.0,
            f"mixture.log_p_min is {self.log_p_min}, expected a number from -80 to below 0",
        )
        knots = self.designed_log_p
        require(
            self.designed == 0.0 or len(knots) >= 2,
            f"mixture.designed_log_p has {len(knots)} quantiles, expected at least 2: "
            f"`{command('design-mixture --target NAME')}` makes them",
        )
        ascending = all(-80.0 <= low <= high <= 0.0 for low, high in itertools.pairwise(knots))
        require(ascending, "mixture.designed_log_p is not ascending within [-80, 0]")

    @property
    def weights(self) -> tuple[float, ...]:
        """Return the weights of `COMPONENTS`, normalised to sum to 1."""
        raw = [getattr(self, name) for name in COMPONENTS]
        return tuple(weight / sum(raw) for weight in raw)


def sample_labels(key: jax.Array, num_classes: int, count: int) -> jax.Array:
    """Return `[count]` int32 labels, uniform over the classes."""
    return jax.random.randint(key, (count,), 0, num_classes, jnp.int32)


def sample(key: jax.Array, config: MixtureConfig, num_classes: int, labels: jax.Array) -> jax.Array:
    """Draw one prediction per label.

    Args:
      key: PRNG key.
      config: mixture.
      num_classes: C, at least 2.
      labels: `[N]` int32 true classes.

    Returns:
      `[N, C]` float32 log-probabilities.

    Raises:
      UserError: num_classes < 2.
    """
    require(num_classes >= 2, f"num_classes is {num_classes}, expected at least 2")
    labels = jnp.asarray(labels)
    component_key, rival_key, gamma_key, level_key = jax.random.split(key, 4)
    count = labels.shape[0]
    return _assemble(
        jax.nn.log_softmax,
        config,
        num_classes,
        labels,
        position=jax.random.uniform(component_key, (count,), jnp.float32),
        shift=jax.random.randint(rival_key, (count,), 1, num_classes, jnp.int32),
        gamma=lambda shape: jax.random.uniform(
            gamma_key, (shape[0] * shape[1],), jnp.float32, minval=log_gamma.LEAST
        ).reshape(shape),
        u=jax.random.uniform(level_key, (count, 1), jnp.float32, minval=_LEVEL_LEAST),
    )


def draw_predictions(
    key: jax.Array, config: MixtureConfig, num_classes: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels and one prediction for each on the host, where nothing has to be compiled for their number.

    The numbers are those of `sample_labels` and `sample` for the halves of `key`, up to rounding.

    Returns:
      (labels `[N]` int32, log_p `[N, C]` float32), NumPy arrays.

    Raises:
      UserError: num_classes < 2.
    """
    require(num_classes >= 2, f"num_classes is {num_classes}, expected at least 2")
    if not host_random.supports(key):
        labels, log_p = _draw_on_device(key, config, num_classes, count)
        return np.asarray(labels), np.asarray(log_p)
    label_key, sample_key = host_random.split(host_random.key_of(key), 2)
    labels = host_random.integers(label_key, count, 0, num_classes)
    component_key, rival_key, gamma_key, level_key = host_random.split(sample_key, 4)
    with np.errstate(divide="ignore"):  # ln 0 of an absent class is -inf
        return labels, _assemble(
            _log_softmax,
            config,
            num_classes,
            labels,
            position=host_random.uniform(component_key, count),
            shift=host_random.integers(rival_key, count, 1, num_classes),
            gamma=lambda shape: host_random.uniform(gamma_key, shape[0] * shape[1], log_gamma.LEAST).reshape(shape),
            u=host_random.uniform(level_key, count, _LEVEL_LEAST)[:, None],
        )


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _draw_on_device(key: jax.Array, config: MixtureConfig, num_classes: int, count: int) -> tuple[jax.Array, jax.Array]:
    label_key, sample_key = jax.random.split(key)
    labels = sample_labels(label_key, num_classes, count)
    return labels, sample(sample_key, config, num_classes, labels)


def _assemble(
    log_softmax: Callable[..., Any],
    config: MixtureConfig,
    num_classes: int,
    labels: Any,
    *,
    position: Any,
    shift: Any,
    gamma: Callable[[tuple[int, int]], Any],
    u: Any,
) -> Any:
    """Return the predictions `[N, C]` that random numbers make, arrays of NumPy or JAX as these are.

    Args:
      log_softmax: over the last axis.
      config: mixture.
      num_classes: C.
      labels: `[N]` int32.
      position: `[N]` uniform, chooses the component.
      shift: `[N]` int32 in [1, C), from the label to its rival.
      gamma: (N, C) -> `[N, C]` uniform, the probabilities of the gamma variates.
      u: `[N, 1]` uniform, the probability of a set ln p_t.
    """
    xp = labels.__array_namespace__()
    cumulative = xp.cumsum(xp.asarray(config.weights, xp.float32))
    component = xp.sum(position[:, None] >= cumulative[None, :-1], axis=1)
    rival = (labels + shift) % num_classes

    classes = xp.arange(num_classes, dtype=xp.int32)[None, :]
    is_true, is_rival = labels[:, None] == classes, rival[:, None] == classes
    concentrations, roles = _concentrations(config, num_classes)
    true, against, other = (xp.asarray(column)[component][:, None] for column in roles)
    which = xp.where(is_true, true, xp.where(is_rival, against, other))
    log_gammas = log_gamma.from_uniform(gamma(which.shape), concentrations, which)
    log_p = log_softmax(log_gammas, axis=-1)

    # log_uniform and designed: ln p_t is set, the wrong classes share 1 - p_t in the proportions drawn.
    level = xp.float32(config.log_p_min) * u
    set_level = component == COMPONENTS.index("log_uniform")
    if config.designed > 0.0:
        quantiles = xp.asarray(config.designed_log_p, xp.float32)
        knots = xp.linspace(0.0, 1.0, quantiles.size, dtype=xp.float32)
        designed = xp.interp(u, knots, quantiles).astype(xp.float32)
        is_designed = component == COMPONENTS.index("designed")
        level = xp.where(is_designed[:, None], xp.minimum(designed, xp.float32(-1e-7)), level)
        set_level |= is_designed
    rest = log_softmax(xp.where(is_true, -xp.inf, log_gammas), axis=-1) + xp.log(-xp.expm1(level))
    return xp.where(set_level[:, None], xp.where(is_true, level, rest), log_p)


def _log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def concentrations_of(config: MixtureConfig, num_classes: int) -> dict[str, tuple[float, float, float]]:
    """Return the concentrations of the true class, the rival and each other class, by component."""
    k, f = config.confidence, config.flatness
    share, rest = 1.0 / (num_classes - 1), 1.0 / max(num_classes - 2, 1)
    return {
        "uniform": (1.0, 1.0, 1.0),
        "confident_right": (k, share, share),
        "confident_wrong": (1.0, k, rest),
        "boundary": (k, k, rest),
        "near_uniform": (f, f, f),
        "log_uniform": (1.0, config.spread, config.spread),
        "designed": (1.0, config.spread, config.spread),
    }


def _concentrations(config: MixtureConfig, num_classes: int) -> tuple[tuple[float, ...], np.ndarray]:
    """Return (distinct concentrations, `[3, len(COMPONENTS)]` int32 index of those of true, rival and each other)."""
    table = concentrations_of(config, num_classes)
    distinct = tuple(sorted({value for row in table.values() for value in row}))
    roles = [[distinct.index(value) for value in table[name]] for name in COMPONENTS]
    return distinct, np.asarray(roles, np.int32).T
