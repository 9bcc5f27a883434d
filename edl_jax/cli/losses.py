"""`losses`: list the losses, describe one, compare them."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from edl_jax.cli.flags import parse
from edl_jax.study import losses


@dataclasses.dataclass(frozen=True)
class Flags:
    """List the losses, or describe one: formula, source, and properties computed from the loss itself."""

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    """Loss to describe: a name, or the path of an artifact (default: list all)."""
    parameters: tuple[str, ...] = ()
    """Hyper-parameters of that loss, such as gamma=2."""
    formula: str | None = None
    """Formula in y and p, in place of NAME, such as '-y * ln(p)': its values are summed over the classes."""
    genome: str | None = None
    """Genome of NLFS in place of NAME, such as 'root = mul(h1, h2); h1 = abs(y); h2 = log_shift(p); loss = -root', or a
    text file that holds one."""
    table: bool = False
    """Compute the properties of every loss, or of NAME, as a Markdown table."""
    plot: Path | None = None
    """File (.png, .pdf or .svg) to draw shape and gradient of NAME to, beside cross-entropy."""
    save: Path | None = None
    """File (.safetensors) to store the loss in, for --loss of downstream."""
    overwrite: bool = False
    """Replace the files in --plot and --save."""


def main(args: list[str]) -> None:
    """Run the command."""
    if "--formula" in args[:-1]:  # a formula may begin with a sign, which would read as a flag
        i = args.index("--formula")
        args = [*args[:i], f"--formula={args[i + 1]}", *args[i + 2 :]]
    flags = parse(Flags, None, args, "losses")
    options = {field.name: getattr(flags, field.name) for field in dataclasses.fields(Flags)}
    print(losses.run(options.pop("name"), **options))
