"""`report`: one page of what commands have left in their directories."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.cli.flags import parse, show_path
from edl_jax.study import report


@dataclasses.dataclass(frozen=True)
class Flags:
    """Write one HTML file of the results in some directories, and the same as Markdown and CSV."""

    directories: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DIR [DIR ...]")] = ()
    """Directories that commands have made, such as those of compare and transfer, or folders of such."""
    out: Path = Path("runs/report.html")
    """File to write; the same as Markdown is beside it, and tables and figures are in a folder of its name."""
    title: str = "Results"
    """Title of the page."""
    overwrite: bool = False
    """Replace an earlier report in --out."""


def main(args: list[str]) -> None:
    """Run the command."""
    flags = parse(Flags, None, args, "report")
    result = report.run(flags.directories, out=flags.out, title=flags.title, overwrite=flags.overwrite)
    print("\n".join(result["lines"]))
    print(f"page: {show_path(result['page'])}   Markdown: {show_path(result['markdown'])}")
    print(f"{result['tables']} tables and {result['figures']} figures: {show_path(result['folder'])}")
