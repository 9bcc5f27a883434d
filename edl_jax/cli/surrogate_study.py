"""`surrogate-study`: how far small networks rank losses as larger ones do."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import surrogates


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train networks of several sizes with the same losses, and say how far they rank them alike in OUT/report.md."""

    settings: Annotated[surrogates.SurrogateConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("surrogate-study")] = "default"
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    out: Path | None = None
    """Directory of the study (default: runs/surrogate-study-TIME)."""
    resume: bool = False
    """Keep what is trained in --out and train the rest; the settings are the study's, where no others are given."""
    overwrite: bool = False
    """Replace the study in --out."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the study as SIGTERM does, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, surrogates.SurrogateConfig, args, "surrogate-study")
    names = ("data_dir", "cache_dir", "out", "resume", "overwrite", "figure_format")
    options = {name: getattr(flags, name) for name in names}
    result = surrogates.run(flags.settings, stop=signals.also(flags.requeue_signal), **options)
    print("\n".join(surrogates.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
