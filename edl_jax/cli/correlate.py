"""`correlate`: which pretraining number predicts the accuracy of networks."""

import dataclasses
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import StudyFlags, load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import correlate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(StudyFlags):
    """Train networks with losses of every quality, and say in OUT/report.md which pretraining number predicts them."""

    settings: Annotated[correlate.CorrelateConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("correlate")] = "default"


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, correlate.CorrelateConfig, args, "correlate")
    result = correlate.run(flags.settings, **flags.options(signals))
    print("\n".join(correlate.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
