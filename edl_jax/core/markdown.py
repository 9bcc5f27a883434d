"""Parts of reports in Markdown: text to the letter, code, tables, images."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def escaped(text: object) -> str:
    """Return text as Markdown shows it to the letter, in a table too: one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(str(text).split()))


def code(text: str, longest: int | None = None) -> str:
    """Return text as inline code that may stand in a table: one line, with an ellipsis beyond `longest` characters."""
    line = " ".join(text.replace("`", "'").split())
    line = line if longest is None or len(line) <= longest else line[: longest - 1] + "…"
    return f"`{line}`".replace("|", r"\|")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; cells are Markdown already."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def settings(facts: Mapping[str, Any]) -> str:
    """Return the table of what there is to know of a run, in words: name -> value."""
    return table(("setting", "value"), [(escaped(name), escaped(value)) for name, value in facts.items()])


def images(figures: Sequence[Path], folder: Path) -> list[str]:
    """Return a paragraph for each figure, embedded in a report that lies in `folder`."""
    places = [Path(os.path.relpath(figure, folder)).as_posix() for figure in figures]
    return [f"![{figure.stem.replace('_', ' ')}](<{place}>)" for figure, place in zip(figures, places, strict=True)]
