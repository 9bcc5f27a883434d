"""`eliminate`: eliminate losses of searches on larger networks, stage by stage."""

import dataclasses
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import StudyFlags, load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import eliminate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(StudyFlags):
    """Eliminate the losses of finished searches on larger networks, and train those that are left beside known ones."""

    settings: Annotated[eliminate.EliminateConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("eliminate")] = "default"


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, eliminate.EliminateConfig, args, "eliminate")
    result = eliminate.run(flags.settings, **flags.options(signals))
    print("\n".join(eliminate.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
    print(f"loss artifact: {show_path(result['artifact'])}")
