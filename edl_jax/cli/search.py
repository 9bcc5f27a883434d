"""`search`: search for a loss by training networks with its candidates."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax import search
from edl_jax.backend import allocator
from edl_jax.cli.flags import load, preset_flag, show_path
from edl_jax.core.errors import require
from edl_jax.core.signals import Signals


@dataclasses.dataclass(frozen=True)
class Flags:
    """Search for a loss by training students with its candidates, and write the best to OUT/loss.safetensors."""

    settings: Annotated[search.SearchConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("search")] = "default"
    seeds: tuple[int, ...] = ()
    """Seeds of several searches, in OUT/seed-K, in place of --seed, such as 0 1 2."""
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    out: Path | None = None
    """Run directory (default: runs/search-TIME)."""
    resume: bool = False
    """Continue the search in --out from its newest checkpoint."""
    overwrite: bool = False
    """Replace the run in --out."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the search as SIGTERM does, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, search.SearchConfig, args, "search")
    names = ("data_dir", "cache_dir", "out", "resume", "overwrite", "figure_format")
    options = {name: getattr(flags, name) for name in names} | {"stop": signals.also(flags.requeue_signal)}
    given = {arg.split("=")[0] for arg in args}
    if "--seeds" in given:
        require("--seed" not in given, "--seed and --seeds contradict each other: give one of them")
        result = search.run_seeds(flags.settings, flags.seeds, **options)
        print("\n".join(search.seeds_lines(result)))
    else:
        result = search.run(flags.settings, **options)
        print("\n".join(search.summary_lines(result)))
    print(f"loss artifact: {show_path(result['artifact'])}")
