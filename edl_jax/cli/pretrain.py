"""`pretrain`: evolve a loss on synthetic pairs (stage 1)."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax import pretrain
from edl_jax.cli.flags import load, preset_flag, show_path
from edl_jax.core.signals import Signals


@dataclasses.dataclass(frozen=True)
class Flags:
    """Evolve a loss on synthetic pairs, fit its scale to cross-entropy's and write it to OUT/loss.safetensors."""

    settings: Annotated[pretrain.PretrainConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("pretrain")] = "default"
    out: Path | None = None
    """Run directory (default: runs/pretrain-TIME)."""
    resume: bool = False
    """Continue the run in --out from its newest checkpoint."""
    overwrite: bool = False
    """Replace the run in --out."""
    profile: bool = False
    """Print achieved rates beside the machine's measured ceilings."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""
    requeue_signal: str | None = None
    """Signal that stops the run as SIGTERM does, with a checkpoint, such as USR1 of SLURM's --signal=USR1@120."""


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    flags = load(Flags, pretrain.PretrainConfig, args, "pretrain")
    names = ("out", "resume", "overwrite", "profile", "figure_format")
    options = {name: getattr(flags, name) for name in names}
    result = pretrain.run(flags.settings, stop=signals.also(flags.requeue_signal), **options)
    print("\n".join(pretrain.summary_lines(result)))
    print(f"loss artifact: {show_path(result['artifact'])}")
