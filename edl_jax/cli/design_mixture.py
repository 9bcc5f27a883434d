"""`design-mixture`: the mixture of synthetic pairs whose optimum is a given loss."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.cli.flags import parse, show_path
from edl_jax.core.errors import command
from edl_jax.pretrain import design_mixture


@dataclasses.dataclass(frozen=True)
class Flags:
    """Write a preset for pretrain whose mixture has a given loss as its optimum."""

    settings: Annotated[design_mixture.DesignConfig, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=design_mixture.DesignConfig
    )
    out: Path | None = None
    """YAML file to write (default: runs/designed-TARGET.yaml)."""
    overwrite: bool = False
    """Replace the file in --out."""


def main(args: list[str]) -> None:
    """Run the command."""
    flags = parse(Flags, Flags(), args, "design-mixture")
    result = design_mixture.run(flags.settings, out=flags.out, overwrite=flags.overwrite)
    print(f"R^2 of {flags.settings.target} with the optimum of this mixture: {result['r_squared']:.5f}")
    print(f"preset: {show_path(result['preset'])}   figure: {show_path(result['figure'])}")
    print(f"evolve it: {command('pretrain')} --config {show_path(result['preset'])}")
