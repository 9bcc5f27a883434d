"""`flatness`: how flat the minima are that losses lead to."""

import dataclasses
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import StudyFlags, load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import flatness


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(StudyFlags):
    """Measure Hessian and loss surface of trained networks: eigenvalues, traces and slices in OUT/report.md."""

    settings: Annotated[flatness.FlatnessConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("flatness")] = "default"


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, flatness.FlatnessConfig, args, "flatness")
    result = flatness.run(flags.settings, **flags.options(signals))
    print("\n".join(flatness.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
