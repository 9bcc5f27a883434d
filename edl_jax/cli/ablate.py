"""`ablate`: vary one factor of pretraining at a time."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.cli.flags import load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import ablate


@dataclasses.dataclass(frozen=True)
class Flags:
    """Vary one factor of pretraining at a time, with tests and figures in OUT/report.md and OUT/figures."""

    settings: Annotated[ablate.AblateConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("ablate")] = "default"
    out: Path | None = None
    """Directory of the study (default: runs/ablate-TIME)."""
    resume: bool = False
    """Keep the finished cells in --out and run the others."""
    overwrite: bool = False
    """Replace the study in --out."""
    retime: bool = False
    """Measure every cell's time a generation again, between runs of the base (for a machine that was shared)."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the run as SIGTERM does, with a checkpoint, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    flags = load(Flags, ablate.AblateConfig, args, "ablate")
    names = ("out", "resume", "overwrite", "retime", "figure_format")
    options = {name: getattr(flags, name) for name in names}
    result = ablate.run(flags.settings, stop=signals.also(flags.requeue_signal), **options)
    print(f"report: {show_path(result['report'])}")
