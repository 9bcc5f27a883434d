"""The losses one can train with: list them, describe one, compare all, draw one, keep one."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from edl_jax import loss
from edl_jax.core import jax_settings, status
from edl_jax.core.config import parse_parameters
from edl_jax.core.errors import UserError, command, local_path, reason, require
from edl_jax.loss import Description, expression
from edl_jax.loss.expression.nlfs import Genome
from edl_jax.loss.threads import Threads
from edl_jax.plot import loss as loss_figure
from edl_jax.plot.style import FORMATS

_WIDTH = 120  # of the list
_SOURCE = 48  # of a source in it
_FIGURES = tuple(f".{name}" for name in FORMATS)


def run(
    name: str | None = None,
    *,
    formula: str | None = None,
    genome: str | None = None,
    parameters: Sequence[str] = (),
    table: bool = False,
    plot: str | Path | None = None,
    save: str | Path | None = None,
    overwrite: bool = False,
) -> str:
    """Return what `python run.py losses` prints.

    Args:
      name: a name or path that `edl_jax.loss.get` takes; None lists all names.
      formula: an expression in y and p, summed over the classes, in place of a name.
      genome: a genome of NLFS as `expression.genome_text` writes it, or a text file that holds one, in place of a name.
      parameters: hyper-parameters of `name` as `name=number` pairs.
      table: compute the properties of the loss, or of every loss, as a Markdown table.
      plot: .png, .pdf or .svg file to draw the loss to, beside cross-entropy.
      save: `.safetensors` file to store the loss in, for `--loss` and `edl_jax.loss.load`.
      overwrite: replace those files.

    Raises:
      UserError: unknown name or hyper-parameter, a formula that does not parse, an artifact that cannot be used, a
        file that may not be written, options that do not go together.
    """
    given_losses = {f"loss {name}": name, "--formula": formula, "--genome": genome}
    several = [what for what, value in given_losses.items() if value is not None]
    require(len(several) <= 1, f"{' and '.join(several)} were given, expected one of them")
    require(formula is None or not parameters, "--parameters does not go with --formula: write its numbers into it")
    require(genome is None or not parameters, "--parameters does not go with --genome, which has none")
    for flag, given in (("--parameters", parameters), ("--plot", plot), ("--save", save)):
        require(
            not given or len(several) > 0,
            f"{flag} needs a loss: give one of the names that `{command('losses')}` lists",
        )
    picture, stored = (None if file is None else local_path(file) for file in (plot, save))
    for flag, file, endings in (("--plot", picture, _FIGURES), ("--save", stored, (".safetensors",))):
        if file is not None:
            _check_file(flag, file, endings, overwrite)
    if not several and not table:
        return _list()
    return _computed(
        name, formula, None if genome is None else _read_genome(genome), parameters, table, picture, stored
    )


@jax_settings.fixed()
def _computed(
    name: str | None,
    formula: str | None,
    genome: Genome | None,
    parameters: Sequence[str],
    table: bool,
    picture: Path | None,
    stored: Path | None,
) -> str:
    """Return what `run` does but for the list of names, which needs no device."""
    if name is None and formula is None and genome is None:
        return _table(_describe_all())
    chosen = parse_parameters(parameters)
    artifact: loss.Artifact | loss.FormulaArtifact | loss.NamedArtifact
    status.say("computing the properties")
    if formula is not None:
        artifact = loss.FormulaArtifact.from_formula(formula)
        description, function, title = loss.describe(artifact), artifact.loss(), "formula"
    elif genome is not None:
        genome.loss()  # says what is missing
        artifact = loss.FormulaArtifact(expression.Record(genome.expression(), None, genome.flip), {})
        description, function, title = loss.describe(artifact), artifact.loss(), "genome"
    else:
        assert name is not None
        artifact = loss.artifact_of(name, **chosen)
        description, function, title = loss.describe(name, **chosen), loss.get(name, **chosen), loss.title(name, chosen)
    if stored is not None:
        with _writing("--save", stored):
            stored.parent.mkdir(parents=True, exist_ok=True)
            loss.save(artifact, stored)
    if picture is not None:  # last: a figure can fail in more ways
        with _writing("--plot", picture):
            sizes = tuple(description.properties.calibrated)
            loss_figure.draw(picture, title, function, sizes[0] if len(sizes) == 1 else 10)
    shown = _table([description]) if table else str(description)
    if table or name is not None or not isinstance(artifact, loss.FormulaArtifact):
        return shown
    checked = "" if genome is None else f"\n{_checked(genome)}"
    return f"{shown}\n{_forms(artifact.record.expression)}{checked}"


def _read_genome(given: str) -> Genome:
    """Return the genome of a text, or of the text file that it names."""
    path = None if "=" in given else local_path(given)
    if path is None:
        return expression.genome_text.from_text(given)
    try:
        return expression.genome_text.from_text(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"--genome is {given}, which is no text file that can be read ({reason(error)}): give a genome, such as "
            "'root = mul(h1, h2); h1 = abs(y); h2 = log_shift(p); loss = -root', or a file that holds one"
        ) from error


def _checked(genome: Genome) -> str:
    """Return the line that says what NLFS's integrity check finds."""
    from edl_jax.search import nlfs  # imports JAX's arrays, which the list of losses does without

    found = nlfs.check(nlfs.stack([genome]))
    line = nlfs.REASONS[found.reason[0]]
    if found.accepted[0] and bool(found.flip[0]) != genome.flip:
        line += f", oriented the other way: write loss = {'-' if found.flip[0] else ''}root"
    return f"  {'NLFS check':<12}{line}"


def _describe_all() -> list[Description]:
    """Describe every loss, a thread a core: most of it is compilation, which holds no lock of Python."""
    names = loss.names()
    bar = tqdm(total=len(names), unit="loss", desc="properties", disable=not sys.stderr.isatty())

    def describe(name: str) -> Description:
        description = loss.describe(name)
        bar.update()
        return description

    with bar, Threads(os.cpu_count()) as threads:
        return list(threads.map(describe, names))


def _forms(tree: expression.Expression) -> str:
    """Return the lines that a formula has beside the properties of every loss."""
    lines = {"LaTeX": expression.to_latex(tree)}
    try:
        lines = {"shorter": expression.to_text(expression.simplify(tree)), **lines}
    except UserError as error:  # too large for sympy: nothing is lost
        lines = {"shorter": f"not tried: {error}", **lines}
    return "\n".join(f"  {label:<12}{text}" for label, text in lines.items())


def _list() -> str:
    """Return a line a loss, cut to the width of a page: the page of one loss has all of it."""
    rows = [(name, *loss.summary(name)) for name in loss.names()]
    first, last = (max(min(len(row[i]), _SOURCE) for row in rows) for i in (0, 2))
    middle = _WIDTH - first - last - 4
    cut = [(name, _cut(formula, middle), _cut(source, last)) for name, formula, source in rows]
    return "\n".join(f"{name:<{first}}  {formula:<{middle}}  {source}" for name, formula, source in cut)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _table(descriptions: Sequence[Description]) -> str:
    rows = [Description.COLUMNS, tuple("---" for _ in Description.COLUMNS), *(each.row() for each in descriptions)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _check_file(flag: str, path: Path, endings: Sequence[str], overwrite: bool) -> None:
    require(path.suffix in endings, f"{flag} is {path}, expected a name ending in {' or '.join(endings)}")
    require(not path.parent.is_file(), f"{path.parent} is a file, expected a folder: give another {flag}")
    require(overwrite or not path.exists(), f"{path} exists: give --overwrite to replace it, or another {flag}")


@contextlib.contextmanager
def _writing(flag: str, path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; give another {flag}") from error
