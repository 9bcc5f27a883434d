"""`transfer`: synthetic predictions beside those of networks while they train."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import transfer


@dataclasses.dataclass(frozen=True)
class Flags:
    """Train networks again, and say in OUT/report.md how far synthetic predictions resemble theirs."""

    settings: Annotated[transfer.TransferConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("transfer")] = "default"
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    out: Path | None = None
    """Directory of the comparison (default: runs/transfer-TIME)."""
    resume: bool = False
    """Keep what is trained in --out and train the rest; settings that are not given are those of the comparison."""
    overwrite: bool = False
    """Replace the comparison in --out."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the comparison as SIGTERM does, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, transfer.TransferConfig, args, "transfer")
    names = ("data_dir", "cache_dir", "out", "resume", "overwrite", "figure_format")
    options = {name: getattr(flags, name) for name in names}
    result = transfer.run(flags.settings, stop=signals.also(flags.requeue_signal), **options)
    print("\n".join(transfer.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
