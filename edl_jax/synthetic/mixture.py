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

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import command, require
from edl_jax.synthetic import log_gamma

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
            require(0.0 <= weight < math.inf, f"mixture weight {name} is {weight}, expected a finite number, 0 or more")
        require(
            any(getattr(self, name) > 0.0 for name in COMPONENTS),
            f"mixture weights sum to 0: give at least one of {', '.join(COMPONENTS)} a positive weight",
        )
        for name in ("confidence", "flatness", "spread"):
            value = getattr(self, name)
            require(1e-3 <= value <= 1e6, f"mixture {name} is {value}, expected a number from 1e-3 to 1e6")
        require(
            -80.0 <= self.log_p_min < 0.0,
            f"mixture log_p_min is {self.log_p_min}, expected a number from -80 to below 0",
        )
        knots = self.designed_log_p
        require(
            self.designed == 0.0 or len(knots) >= 2,
            f"mixture designed_log_p has {len(knots)} quantiles, expected at least 2: "
            f"`{command('design-mixture --target NAME')}` makes them",
        )
        ascending = all(-80.0 <= low <= high <= 0.0 for low, high in itertools.pairwise(knots))
        require(ascending, "mixture designed_log_p is not ascending within [-80, 0]")

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
    component_key, rival_key, gamma_key, level_key = jax.random.split(key, 4)
    count = labels.shape[0]
    cumulative = jnp.cumsum(jnp.asarray(config.weights, jnp.float32))
    position = jax.random.uniform(component_key, (count,), jnp.float32)
    component = jnp.sum(position[:, None] >= cumulative[None, :-1], axis=1)
    rival = (labels + jax.random.randint(rival_key, (count,), 1, num_classes, jnp.int32)) % num_classes

    classes = jnp.arange(num_classes, dtype=jnp.int32)[None, :]
    is_true, is_rival = labels[:, None] == classes, rival[:, None] == classes
    concentrations, roles = _concentrations(config, num_classes)
    true, against, other = (jnp.asarray(column)[component][:, None] for column in roles)
    which = jnp.where(is_true, true, jnp.where(is_rival, against, other))
    log_gammas = log_gamma.sample(gamma_key, concentrations, which)
    log_p = jax.nn.log_softmax(log_gammas, axis=-1)

    # log_uniform and designed: ln p_t is set, the wrong classes share 1 - p_t in the proportions drawn.
    u = jax.random.uniform(level_key, (count, 1), jnp.float32, minval=1e-6)
    level = config.log_p_min * u
    set_level = component == COMPONENTS.index("log_uniform")
    if config.designed > 0.0:
        quantiles = jnp.asarray(config.designed_log_p, jnp.float32)
        designed = jnp.interp(u, jnp.linspace(0.0, 1.0, quantiles.size, dtype=jnp.float32), quantiles)
        is_designed = component == COMPONENTS.index("designed")
        level = jnp.where(is_designed[:, None], jnp.minimum(designed, -1e-7), level)
        set_level |= is_designed
    rest = jax.nn.log_softmax(jnp.where(is_true, -jnp.inf, log_gammas), axis=-1) + jnp.log(-jnp.expm1(level))
    return jnp.where(set_level[:, None], jnp.where(is_true, level, rest), log_p)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def draw_predictions(
    key: jax.Array, config: MixtureConfig, num_classes: int, count: int
) -> tuple[jax.Array, jax.Array]:
    """Draw labels and one prediction for each; compiled once per (config, num_classes, count).

    Returns:
      (labels `[N]` int32, log_p `[N, C]` float32).

    Raises:
      UserError: num_classes < 2.
    """
    label_key, sample_key = jax.random.split(key)
    labels = sample_labels(label_key, num_classes, count)
    return labels, sample(sample_key, config, num_classes, labels)


def sample_pairs(
    key: jax.Array, config: MixtureConfig, num_classes: int, num_pairs: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draw pairs of predictions that share a label.

    Returns:
      (labels `[N]` int32, log_p_a `[N, C]`, log_p_b `[N, C]`), a and b independent given the label.

    Raises:
      UserError: num_classes < 2.
    """
    label_key, sample_key = jax.random.split(key)
    labels = sample_labels(label_key, num_classes, num_pairs)
    log_p = sample(sample_key, config, num_classes, jnp.concatenate([labels, labels]))
    return labels, log_p[:num_pairs], log_p[num_pairs:]


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
