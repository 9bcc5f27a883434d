"""`export`: a trained classifier as files that JAX alone can load."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax import downstream
from edl_jax.cli.flags import parse, show_path


@dataclasses.dataclass(frozen=True)
class Flags:
    """Write the newest checkpoint of a downstream run as StableHLO, weights and labels, which JAX alone can load."""

    run: tyro.conf.Positional[Path]
    """Run directory."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder to write."""
    batch_size: int | None = None
    """Images of a call (default: any number)."""
    overwrite: bool = False
    """Replace an earlier export in --out."""
    data_dir: Path | None = None
    """TFDS directory, for runs of earlier releases, which need their data set (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images of such a data set are kept (default: the user's cache folder)."""


def main(args: list[str]) -> None:
    """Run the command."""
    flags = parse(Flags, None, args, "export")
    options = {field.name: getattr(flags, field.name) for field in dataclasses.fields(Flags)}
    result = downstream.export(options.pop("run"), options.pop("out"), **options)
    print(f"epoch {result['epoch']}, {result['num_params']:,} parameters")
    print(f"logits differ from the run's by at most {result['difference']:.2g}")
    print(f"classifier: {show_path(result['out'])}")
