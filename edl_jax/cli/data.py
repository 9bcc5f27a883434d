"""`data prepare`: write a TFDS directory for a data set."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax import data
from edl_jax.cli.flags import parse
from edl_jax.core.errors import UserError, command, unknown


@dataclasses.dataclass(frozen=True)
class Flags:
    """Write a TFDS directory for a data set, without TensorFlow."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """cifar10, cifar100, fashion_mnist or mnist."""
    archive: Path | None = None
    """Published archive on disk (default: download it); for the MNIST sets the folder of its four files."""
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""


def main(args: list[str]) -> None:
    """Run the command."""
    usage = f"{command('data prepare')} NAME [--archive PATH] [--data-dir DIR]"
    if args and args[0] in ("-h", "--help"):
        print(f"usage: {usage}")
        return
    if not args:
        raise UserError(f"no data command given, expected {usage}")
    if args[0] != "prepare":
        raise unknown("data command", args[0], ["prepare"])
    flags = parse(Flags, None, args[1:], "data prepare")
    path = data.prepare(flags.name, archive=flags.archive, data_dir=flags.data_dir)
    print(f"{data.canonical_name(flags.name)} is ready in {path}")
