"""`flatness`: how flat the minima are that losses lead to."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import flatness


@dataclasses.dataclass(frozen=True)
class Flags:
    """Measure Hessian and loss surface of trained networks: eigenvalues, traces and slices in OUT/report.md."""

    settings: Annotated[flatness.FlatnessConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("flatness")] = "default"
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    out: Path | None = None
    """Directory of the comparison (default: runs/flatness-TIME)."""
    resume: bool = False
    """Keep what is measured in --out and measure the rest; settings that are not given are those of the comparison."""
    overwrite: bool = False
    """Replace the comparison in --out."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the comparison as SIGTERM does, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, flatness.FlatnessConfig, args, "flatness")
    names = ("data_dir", "cache_dir", "out", "resume", "overwrite", "figure_format")
    options = {name: getattr(flags, name) for name in names}
    result = flatness.run(flags.settings, stop=signals.also(flags.requeue_signal), **options)
    print("\n".join(flatness.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
