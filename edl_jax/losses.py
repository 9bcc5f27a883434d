"""The losses one can train with: list them, describe one, compare all, draw one, keep one."""

from collections.abc import Sequence
from pathlib import Path

from edl_jax import loss, loss_figure
from edl_jax.config import parse_parameters
from edl_jax.errors import UserError, require
from edl_jax.loss import Description


def run(
    name: str | None = None,
    *,
    parameters: Sequence[str] = (),
    table: bool = False,
    plot: str | Path | None = None,
    overwrite: bool = False,
) -> str:
    """Return what `python run.py losses` prints.

    Args:
      name: a name or path that `edl_jax.loss.get` takes; None lists all names.
      parameters: its hyper-parameters as `name=number` pairs.
      table: compute the properties of `name`, or of every loss, as a Markdown table.
      plot: PNG file to draw the loss to, beside cross-entropy.
      overwrite: replace that file.

    Raises:
      UserError: unknown name or hyper-parameter, an artifact that cannot be used, a file that may not be written,
        parameters or a plot without a name.
    """
    if name is None:
        for flag, given in (("--parameters", parameters), ("--plot", plot)):
            require(not given, f"{flag} needs a loss: give one of the names that `run.py losses` lists")
        return _table([loss.describe(each) for each in loss.names()]) if table else _list()
    if plot is not None:
        _check_file(Path(plot), overwrite)
    description = loss.describe(name, **parse_parameters(parameters))
    if plot is not None:
        try:
            loss_figure.draw(Path(plot), description.name, loss.get(name, **parse_parameters(parameters)))
        except OSError as error:
            raise UserError(f"cannot write {plot}: {error.strerror}; give another --plot") from error
    return _table([description]) if table else str(description)


def _list() -> str:
    rows = [(name, *loss.summary(name)) for name in loss.names()]
    width = max(len(name) for name, _, _ in rows)
    middle = max(len(formula) for _, formula, _ in rows)
    return "\n".join(f"{name:<{width}}  {formula:<{middle}}  {source}" for name, formula, source in rows)


def _table(descriptions: Sequence[Description]) -> str:
    rows = [Description.COLUMNS, tuple("---" for _ in Description.COLUMNS), *(each.row() for each in descriptions)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _check_file(path: Path, overwrite: bool) -> None:
    require(path.suffix == ".png", f"--plot is {path}, expected a name ending in .png")
    require(not path.parent.is_file(), f"{path.parent} is a file, expected a folder: give another --plot")
    require(overwrite or not path.exists(), f"{path} exists: give --overwrite to replace it, or another --plot")
