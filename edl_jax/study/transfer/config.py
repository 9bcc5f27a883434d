"""Settings of a comparison of synthetic predictions with real ones."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from edl_jax.core.config import GROWS
from edl_jax.core.errors import require

FEWEST = 100
"""Examples of a comparison at least."""


@dataclasses.dataclass(frozen=True)
class TransferConfig:
    """Whether synthetic predictions resemble those of networks while they train."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = dataclasses.field(default=(), metadata=GROWS)
    """Finished downstream runs, or presets of downstream, whose training is made again; --resume may add more."""
    mixture: str = "default"
    """Where the synthetic predictions come from: a preset of pretrain, a YAML file, or the directory of its run."""
    examples: int = 2000
    """Training images and test images whose predictions are recorded, as far as there are so many."""
    epochs: tuple[int, ...] = ()
    """Epochs after which they are (default: 0, 1, 2, 4, 8, ... and the last)."""
    seed: int = 0
    """Seed of the images, of what is drawn from the mixture, and of the two-sample test."""

    def __post_init__(self) -> None:
        require(
            self.examples >= FEWEST,
            f"examples is {self.examples}, expected at least {FEWEST}: fewer say little about a law",
        )
        require(0 <= self.seed < 2**31, f"seed is {self.seed}, expected 0 to 2^31 - 1")
        given = " ".join(map(str, self.epochs))
        require(
            all(epoch >= 0 for epoch in self.epochs) and len(set(self.epochs)) == len(self.epochs),
            f"epochs is {given}, expected different numbers, 0 or more",
        )
        object.__setattr__(self, "epochs", tuple(sorted(self.epochs)))


def recorded_epochs(chosen: Sequence[int], last: int, run: str) -> tuple[int, ...]:
    """Return the epochs of a training of `last` epochs after which predictions are recorded, ascending.

    Args:
      chosen: the epochs asked for; none for 0, the powers of two, and the last.
      last: number of epochs.
      run: what messages call the training.

    Raises:
      UserError: an epoch that the training does not have.
    """
    if chosen:
        require(max(chosen) <= last, f"epochs is {max(chosen)}, expected at most {last}: {run} has no more")
        return tuple(chosen)
    return tuple(sorted({0, last, *(2**i for i in range(last.bit_length()) if 2**i <= last)}))
