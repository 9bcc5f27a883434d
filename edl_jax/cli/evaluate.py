"""`evaluate`: metrics and figures of a trained classifier."""

import dataclasses
from pathlib import Path

import tyro

from edl_jax.cli.flags import parse, show_path
from edl_jax.downstream import evaluate


@dataclasses.dataclass(frozen=True)
class Flags:
    """Evaluate the newest checkpoint of a downstream run: metrics and figures in RUN/evaluation."""

    run: tyro.conf.Positional[Path]
    """Run directory."""
    dataset: str | None = None
    """Data set whose test images are used (default: that of the run)."""
    temperature: bool = False
    """Report temperature scaling as well, fitted on one half of the test images and applied to the other."""
    data_dir: Path | None = None
    """TFDS directory (default: TFDS's own)."""
    cache_dir: Path | None = None
    """Where decoded images are kept (default: the user's cache folder)."""
    overwrite: bool = False
    """Replace an earlier evaluation on that data set."""
    figure_format: str = "png"
    """Format of the figures: png, pdf or svg."""


def main(args: list[str]) -> None:
    """Run the command."""
    flags = parse(Flags, None, args, "evaluate")
    options = {field.name: getattr(flags, field.name) for field in dataclasses.fields(Flags)}
    result = evaluate.run(options.pop("run"), **options)
    print("\n".join(evaluate.summary_lines(result)))
    print(f"report: {show_path(result['report'])}")
