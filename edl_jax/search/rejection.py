"""EvoMAL's rejection protocol for many candidates at once: does descent on the loss alone lower the error rate?

The outputs of a fresh network on the first training examples are free variables. A candidate that does not classify
more of them rightly after some steps of descent on them cannot train a network, and is refused before it costs
anything.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax.core.errors import require, unknown
from edl_jax.search.tables import logit_gradient

OPTIMIZERS = ("adam", "sgd")


@dataclasses.dataclass(frozen=True)
class RejectionConfig:
    """Settings of the rejection protocol; the defaults are those of EvoMAL's released code (2024)."""

    examples: int = 100
    """Training examples whose outputs are descended on: the first ones."""
    steps: int = 1000
    """Steps of descent; the released code takes 100 on MNIST."""
    optimizer: str = "adam"
    """adam, or sgd with momentum."""
    lr: float = 0.01
    """Learning rate: that of the networks' training."""
    momentum: float = 0.9
    """Momentum of sgd, without Nesterov's step."""
    threshold: float = 0.0
    """Fall of the error rate from which up to which a candidate is rejected."""
    nan_passes: bool = False
    """Whether a candidate whose outputs become NaN passes, as in the released code."""

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown("rejection optimizer", self.optimizer, OPTIMIZERS)
        require(self.examples >= 1, f"rejection examples is {self.examples}, expected at least 1")
        require(self.steps >= 1, f"rejection steps is {self.steps}, expected at least 1")
        require(0.0 < self.lr < np.inf, f"rejection lr is {self.lr}, expected a positive number")
        require(0.0 <= self.momentum < 1.0, f"rejection momentum is {self.momentum}, expected 0 <= momentum < 1")
        require(-1.0 <= self.threshold <= 1.0, f"rejection threshold is {self.threshold}, expected -1 to 1")


PRESETS: dict[str, RejectionConfig] = {
    "paper": RejectionConfig(),
    "mnist": RejectionConfig(steps=100),
    "july_2022": RejectionConfig(optimizer="sgd", threshold=0.6),
}
"""Settings by name: those of the released code, its own for MNIST, and those of its first version."""


class Rejection(NamedTuple):
    """Outcome of the protocol.

    Attributes:
      scores: `[P]` float64, error rate before the descent minus that after it; NaN where an output is not finite.
      rejected: `[P]` bool.
    """

    scores: np.ndarray
    rejected: np.ndarray


def reject(
    tables: np.ndarray, logits: np.ndarray, labels: np.ndarray, config: RejectionConfig | None = None
) -> Rejection:
    """Apply the rejection protocol to candidates: one program for every set of P of them.

    Args:
      tables: `[P, 2, K]` slopes.
      logits: `[N, C]` outputs of a fresh network on the training examples in their order, N at least the number used.
      labels: `[N]` integer classes.
      config: settings.

    Raises:
      UserError: there are fewer examples than the protocol uses.
    """
    config = config or RejectionConfig()
    count = config.examples
    require(
        len(logits) >= count and len(labels) >= count,
        f"{min(len(logits), len(labels))} examples are given, expected at least the {count} of the rejection protocol",
    )
    arguments = (jnp.asarray(x) for x in (np.asarray(tables, np.float32), logits[:count], labels[:count]))
    before, after, finite = (np.asarray(x) for x in _errors(*arguments, config))
    # Counts, so that a fall of just the threshold is one.
    scores = np.where(finite, (before - after) / count, np.nan)
    return Rejection(scores, np.where(finite, scores <= config.threshold, not config.nan_passes))


@functools.partial(jax.jit, static_argnames="config")
def _errors(
    tables: jax.Array, logits: jax.Array, labels: jax.Array, config: RejectionConfig
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (errors before, errors after, whether the outputs are finite), each `[P]`."""
    logits = jnp.broadcast_to(logits.astype(jnp.float32), (len(tables), *logits.shape))
    optimizer = optax.adam(config.lr) if config.optimizer == "adam" else optax.sgd(config.lr, config.momentum)

    def step(carry: tuple[jax.Array, optax.OptState], _: None) -> tuple[tuple[jax.Array, optax.OptState], None]:
        free, state = carry
        # The loss of the batch is the mean over examples.
        gradient = jax.vmap(logit_gradient, in_axes=(0, 0, None))(tables, free, labels) / labels.size
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(free, updates), state), None  # type: ignore[return-value]

    def errors(outputs: jax.Array) -> jax.Array:
        return jnp.sum(jnp.argmax(outputs, axis=-1) != labels[None], axis=-1)

    (free, _), _ = jax.lax.scan(step, (logits, optimizer.init(logits)), length=config.steps)
    return errors(logits), errors(free), jnp.all(jnp.isfinite(free), axis=(1, 2))
