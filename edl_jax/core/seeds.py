"""Runs that differ in their seed: what config.json of the directory that holds them says."""

import dataclasses
from typing import Any

from edl_jax.core.config import GROWS
from edl_jax.core.errors import require


@dataclasses.dataclass(frozen=True)
class SeedsConfig:
    """Several runs of one config.

    Attributes:
      settings: the config of every run; its seed is the first one.
      seeds: of the runs; a resumed directory may have further ones at the end.
    """

    settings: Any
    seeds: tuple[int, ...] = dataclasses.field(metadata=GROWS)

    def __post_init__(self) -> None:
        require(len(self.seeds) > 0, "--seeds is empty, expected some numbers, such as 0 1 2")
        for seed in self.seeds:
            require(0 <= seed < 2**31, f"{seed} is among --seeds, expected numbers from 0 to 2^31 - 1")
            require(self.seeds.count(seed) == 1, f"seed {seed} is given twice in --seeds, expected each once")
