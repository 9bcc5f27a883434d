"""`transfer`: synthetic predictions beside those of networks while they train."""

import dataclasses
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import StudyFlags, load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import transfer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(StudyFlags):
    """Train networks again, and say in OUT/report.md how far synthetic predictions resemble theirs."""

    settings: Annotated[transfer.TransferConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("transfer")] = "default"


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, transfer.TransferConfig, args, "transfer")
    result = transfer.run(flags.settings, **flags.options(signals))
    print("\n".join(transfer.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
