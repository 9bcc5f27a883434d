"""`predict`: classes of images by a trained classifier."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax import downstream
from edl_jax.cli.flags import parse


@dataclasses.dataclass(frozen=True)
class Flags:
    """Print the most likely classes of images, by the newest checkpoint of a downstream run."""

    run: tyro.conf.Positional[Path]
    """Run directory."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE_OR_FOLDER [...]")]
    """Image files, and folders of them, with the folders below."""
    top: int = 3
    """Number of classes for each image, or all of them where there are fewer."""
    temperature: bool = False
    """Divide the logits by the temperature that evaluate --temperature has fitted."""
    format: str | None = None
    """Format of the output: table or csv (default: csv where --out ends in .csv, else table)."""
    out: Path | None = None
    """File to write in place of the terminal."""
    overwrite: bool = False
    """Replace the file in --out."""
    data_dir: Path | None = None
    """TFDS directory, for runs of earlier releases, which need their data set (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images of such a data set are kept (default: the user's cache folder)."""


def main(args: list[str]) -> None:
    """Run the command."""
    flags = parse(Flags, None, args, "predict")
    names = ("top", "temperature", "data_dir", "cache_dir")
    found = downstream.predict(flags.run, flags.images, **{name: getattr(flags, name) for name in names})
    downstream.write_predictions(found, form=flags.format, out=flags.out, overwrite=flags.overwrite)
