"""`surrogate-study`: how far small networks rank losses as larger ones do."""

import dataclasses
from typing import Annotated

import tyro

from edl_jax.backend import allocator
from edl_jax.cli.flags import StudyFlags, load, preset_flag, show_path
from edl_jax.core.signals import Signals
from edl_jax.study import surrogates


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(StudyFlags):
    """Train networks of several sizes with the same losses, and say how far they rank them alike in OUT/report.md."""

    settings: Annotated[surrogates.SurrogateConfig, tyro.conf.arg(name="")]
    config: Annotated[str, preset_flag("surrogate-study")] = "default"


def main(args: list[str], signals: Signals) -> None:
    """Run the command."""
    allocator.keep_freed_memory()
    flags = load(Flags, surrogates.SurrogateConfig, args, "surrogate-study")
    result = surrogates.run(flags.settings, **flags.options(signals))
    print("\n".join(surrogates.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
