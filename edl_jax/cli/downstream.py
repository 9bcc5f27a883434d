"""`downstream`: train an image classifier with a loss (stage 2)."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax import downstream
from edl_jax.backend import allocator
from edl_jax.cli.flags import load, preset_flag
from edl_jax.core.errors import require
from edl_jax.core.signals import Signals


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train an image classifier with a loss and write its metrics to OUT."""

    settings: Annotated[downstream.DownstreamConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("downstream")] = "default"
    seeds: tuple[int, ...] = ()
    """Seeds of several runs, in OUT/seed-K, in place of --seed, such as 0 1 2."""
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    out: Path | None = None
    """Run directory (default: runs/downstream-TIME)."""
    resume: bool = False
    """Continue the run in --out from its newest checkpoint."""
    overwrite: bool = False
    """Replace the run in --out."""
    tensorboard: bool = False
    """Write the scalars of each epoch to OUT/tensorboard (needs the package tensorboardX)."""
    profile: bool = False
    """Write a trace of the profiler to OUT/profile, and print achieved rates beside the measured peak."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the run as SIGTERM does, with a checkpoint, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, downstream.DownstreamConfig, args, "downstream", downstream.DownstreamConfig.beside)
    names = ("data_dir", "cache_dir", "out", "resume", "overwrite", "tensorboard", "figure_format")
    options = {name: getattr(flags, name) for name in names} | {"stop": signals.also(flags.requeue_signal)}
    given = {arg.split("=")[0] for arg in args}
    if "--seeds" in given:
        require("--seed" not in given, "--seed and --seeds contradict each other: give one of them")
        require(not flags.profile, "--profile looks at one run: give it with --seed, not with --seeds")
        result = downstream.run_seeds(flags.settings, flags.seeds, **options)
        if result["seeds"]:
            print(downstream.seeds_line(result))
        downstream.require_finite(result)
    else:
        print(downstream.summary_line(downstream.run(flags.settings, profile=flags.profile, **options)))
