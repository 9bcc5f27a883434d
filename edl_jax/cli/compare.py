"""`compare`: losses on a grid of models, data sets, wrong labels and seeds, with statistics."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import load_grid, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import compare


@dataclasses.dataclass(frozen=True)
class Flags:
    """Compare losses: runs of `downstream` on a grid, with tests in OUT/report.md and figures in OUT/figures."""

    settings: Annotated[compare.CompareConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("downstream")] = "cpu"
    seeds: tuple[str, ...] = ()
    """Seeds, such as 0-9 or 0 1 2 (default: 0-9)."""
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    out: Path | None = None
    """Directory of the grid (default: runs/compare-TIME)."""
    resume: bool = False
    """Go on with the grid in --out; losses, models, data sets, noises and seeds that are new to it are added."""
    join: bool = False
    """The same, and make the grid where there is none yet: for processes that start at the same time."""
    overwrite: bool = False
    """Replace the grid in --out."""
    retry: bool = False
    """Try failed cells again."""
    report_only: bool = False
    """Write tables and figures of what has finished in --out, and run nothing."""
    workers: int = 1
    """Processes that take cells."""
    lease_seconds: float = 60.0
    """Seconds without a sign of life after which the cell of a worker is taken over by another one."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the grid as SIGTERM does, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load_grid(Flags, compare.CompareConfig, compare.TrainingConfig, args)
    options = {field.name: getattr(flags, field.name) for field in dataclasses.fields(Flags)}
    settings, seeds, _, stop = (options.pop(name) for name in ("settings", "seeds", "config", "requeue_signal"))
    if "--seeds" in {arg.split("=")[0] for arg in args}:
        settings = dataclasses.replace(settings, seeds=compare.parse_seeds(seeds))
    result = compare.run(settings, stop=signals.also(stop), **options)
    print(*compare.summary_lines(result), f"report: {show_path(Path(result['path']) / 'report.md')}", sep="\n")
    compare.require_finished(result)
