"""`summarize`: mean and standard deviation over finished downstream runs."""

import dataclasses
from pathlib import Path

import tyro

from edl_jax.cli.flags import parse
from edl_jax.study import summary


@dataclasses.dataclass(frozen=True)
class Flags:
    """Print mean and standard deviation over finished downstream runs that differ only in their seed."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run directories."""


def main(args: list[str]) -> None:
    """Run the command."""
    flags = parse(Flags, None, args, "summarize")
    print(summary.table(summary.read(flags.runs)))
