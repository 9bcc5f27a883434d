"""EvoMAL's rejection protocol for many candidates at once: does descent on the loss alone lower the error?

The outputs of a fresh network on the first training examples are free variables. A candidate that does not classify
more of them rightly, or in regression bring them nearer to their targets, after some steps of descent on them cannot
train a network, and is refused before it costs anything.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from edl_jax.core.errors import require, unknown
from edl_jax.search.students.train import LARGEST_BUCKET, Gradient
from edl_jax.search.tables import doubled, logit_gradient
from edl_jax.search.tasks import CLASSIFICATION, Task

_FEWEST = 8
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
    """Fall of the error rate, or of the mean squared error, up to which a candidate is rejected."""
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
      scores: `[P]` float64, error before the descent minus that after it; NaN where an output is not finite.
      rejected: `[P]` bool.
    """

    scores: np.ndarray
    rejected: np.ndarray


def reject(
    tables: Any,
    logits: np.ndarray,
    labels: np.ndarray,
    config: RejectionConfig | None = None,
    *,
    task: Task = CLASSIFICATION,
    gradient: Gradient = logit_gradient,
    vectorised: bool | None = None,
) -> Rejection:
    """Apply the rejection protocol to candidates: one program for up to 8, 16, 32, ... of them.

    Args:
      tables: `[P, 2, K]` slopes, or what else `gradient` takes, arrays `[P, ...]`.
      logits: `[N, C]` outputs of a fresh network on the training examples in their order, N at least the number used.
      labels: `[N]` integer classes, or numbers.
      config: settings.
      task: of the network.
      gradient: of a candidate's loss, as that of `students.Trainer`.
      vectorised: whether candidates are one `jax.vmap`; None for tables, and for all but CPUs.

    Raises:
      UserError: there are fewer examples than the protocol uses.
    """
    config = config or RejectionConfig()
    count = config.examples
    require(
        len(logits) >= count and len(labels) >= count,
        f"{min(len(logits), len(labels))} examples are given, expected at least the {count} of the rejection protocol",
    )
    if gradient is logit_gradient and task is not CLASSIFICATION:
        raise ValueError(f"{task.name} has no tables: give the gradient of its candidates")
    if vectorised is None:
        vectorised = gradient is logit_gradient or jax.default_backend() != "cpu"
    given = len(jax.tree.leaves(tables)[0])
    # Programs for few sizes; one after another, candidates beyond those given cost nothing.
    padded = np.minimum(np.arange(doubled(given, _FEWEST if vectorised else LARGEST_BUCKET)), given - 1)
    tables = jax.tree.map(lambda x: np.asarray(x)[padded], tables)
    arguments = jax.tree.map(jnp.asarray, (tables, logits[:count], labels[:count]))
    errors, *outcome = _errors(*arguments, jnp.int32(given), config, task, gradient, vectorised)
    after, finite = (np.asarray(x)[:given] for x in outcome)
    # Sums of one order, so that outputs that did not move have a score of 0, and a fall of just the threshold is one.
    with np.errstate(invalid="ignore", over="ignore"):
        fall = np.sum(np.asarray(errors), dtype=np.float64) - np.sum(after, axis=1, dtype=np.float64)
        scores = np.where(finite, fall / count, np.nan)
    return Rejection(scores, np.where(finite, scores <= config.threshold, not config.nan_passes))


@functools.partial(jax.jit, static_argnames=("config", "task", "gradient", "vectorised"))
def _errors(
    tables: Any,
    logits: jax.Array,
    labels: jax.Array,
    count: jax.Array,
    config: RejectionConfig,
    task: Task,
    gradient: Gradient,
    vectorised: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return (errors before `[N]`, after `[P, N]`, whether outputs are finite `[P]`) of the first `count`."""
    logits = logits.astype(jnp.float32)
    optimizer = optax.adam(config.lr) if config.optimizer == "adam" else optax.sgd(config.lr, config.momentum)

    def descend(table: Any) -> tuple[jax.Array, jax.Array]:
        def step(carry: tuple[jax.Array, optax.OptState], _: None) -> tuple[tuple[jax.Array, optax.OptState], None]:
            free, state = carry
            # The loss of the batch is the mean over examples.
            updates, state = optimizer.update(gradient(table, free, labels) / labels.size, state)
            return (optax.apply_updates(free, updates), state), None  # type: ignore[return-value]

        (free, _), _ = jax.lax.scan(step, (logits, optimizer.init(logits)), length=config.steps)
        return task.errors(free, labels), jnp.all(jnp.isfinite(free))

    before = task.errors(logits, labels)
    if vectorised:
        return before, *jax.vmap(descend)(tables)

    def member(p: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        one = descend(jax.tree.map(lambda x: x[p], tables))
        return jax.tree.map(lambda every, x: every.at[p].set(x), found, one)

    size = len(jax.tree.leaves(tables)[0])
    empty = jnp.zeros((size, *before.shape), before.dtype), jnp.zeros(size, bool)
    return before, *jax.lax.fori_loop(0, count, member, empty)
