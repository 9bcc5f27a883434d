"""What a directory says of itself, for a report: its own report.md, its tables as CSV, its figures, its numbers."""

import csv
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from edl_jax.core.errors import UserError
from edl_jax.study.report.page import NONE, Block, Cell, Column, Figure, Items, Section, Table, Text, cell, figure_of

_NUMBER = re.compile(r"(?:≥ |median )?([+\-−]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?)(?=$|[\s%,(×])")
_UNKNOWN = ("", NONE, "-", "baseline")
_MOST_FACTS = 60
_PNG = b"\x89PNG\r\n\x1a\n"


def report_of(folder: Path) -> Section | None:
    """Return the report.md of a directory, with the figures that it shows; None where there is none.

    Raises:
      UserError: it cannot be read.
    """
    file = folder / "report.md"
    if not file.is_file():
        return None
    try:
        tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): put back a copy, or leave {folder} out") from error
    root: list[tuple[int, str, list[Block], list[Any]]] = [(0, file.parent.name, [], [])]
    for level, item in _blocks(tokens, folder):
        if isinstance(item, str):
            _close(root, level)
            root.append((level, item, [], []))
        else:
            root[-1][2].append(item)
    _close(root, 1)
    _, title, blocks, sections = root[0]
    if len(sections) == 1 and not blocks:  # below its one title
        return sections[0]
    return Section(title, blocks, sections)


def tables_of(folder: Path) -> list[Table]:
    """Return the CSV files of a directory, to the letter and folded."""
    tables = []
    for file in sorted(folder.glob("*.csv")):
        try:
            with file.open(encoding="utf-8", newline="") as lines:
                header, *rows = list(csv.reader(lines)) or [[]]
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{file} cannot be read ({error}): put back a copy, or leave {folder} out") from error
        width = len(header)
        whole = [[*row[:width], *[""] * (width - len(row))] for row in rows if row]
        tables.append(table(file.name, header, [[Cell(text) for text in row] for row in whole], folded=True))
    return tables


def figures_of(folder: Path, shown: Section | None = None) -> list[Figure]:
    """Return the figures of a directory that its report does not show."""
    known = {figure.content for figure in _figures(shown)} if shown else set()
    found = []
    for file in sorted((folder / "figures").glob("*")):
        figure = _figure(file, file.stem.replace("_", " "))
        if figure is not None and figure.content not in known:
            found.append(figure)
    return found


def facts_of(result: Mapping[str, Any]) -> Table:
    """Return the numbers and words of a result, those within others under both names, as many as one reads."""
    leaves = list(_leaves(result))
    rows = [(Cell(name), cell(value)) for name, value in leaves[:_MOST_FACTS]]
    notes = [f"{len(leaves) - _MOST_FACTS} more are in result.json."] if len(leaves) > _MOST_FACTS else []
    return Table("Result", (Column("what"), Column("value")), rows, notes)


def table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str] = (),
    *,
    folded: bool = False,
) -> Table:
    """Return a table of texts, with the columns that hold numbers found."""
    numbered = [[each._replace(number=_number(each.text)) for each in row] for row in rows]
    columns = []
    for i, name in enumerate(header):
        cells = [row[i] for row in numbered if row[i].text not in _UNKNOWN]
        numeric = bool(cells) and all(each.number is not None or each.text == "never" for each in cells)
        columns.append(Column(name, numeric))
    kept = [
        [each if column.numeric else each._replace(number=None) for each, column in zip(row, columns, strict=True)]
        for row in numbered
    ]
    return Table(title, columns, kept, notes, folded)


def _number(text: str) -> float | None:
    found = _NUMBER.match(text)
    return float(found[1].replace(",", "").replace("−", "-")) if found else None


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{name}.")
        elif not isinstance(item, list):
            yield name, item
        elif all(not isinstance(each, (list, Mapping)) for each in item):
            yield name, ", ".join(map(str, item))


def _figures(section: Section) -> Iterator[Figure]:
    yield from (block for block in section.blocks if isinstance(block, Figure))
    for inner in section.sections:
        yield from _figures(inner)


def _figure(file: Path, title: str) -> Figure | None:
    try:
        figure = figure_of(file, title)
    except OSError as error:
        raise UserError(
            f"{file} cannot be read: {error.strerror}; put back a copy, or leave its directory out"
        ) from error
    if figure is not None and figure.kind == "png" and not figure.content.startswith(_PNG):
        return None
    return figure


def _close(open_sections: list[tuple[int, str, list[Block], list[Any]]], level: int) -> None:
    """End the sections that a heading of some level ends; their tables are called by it."""
    while open_sections[-1][0] >= level:
        _, title, blocks, sections = open_sections.pop()
        tables = [(i, block) for i, block in enumerate(blocks) if isinstance(block, Table)]
        for number, (i, block) in enumerate(tables, 1):
            called = title if len(tables) == 1 else f"{title}, {number} of {len(tables)}"
            blocks[i] = dataclasses.replace(block, title=called)
        open_sections[-1][3].append(Section(title, blocks, sections))


def _blocks(tokens: Sequence[Token], folder: Path) -> Iterator[tuple[int, str | Block]]:
    """Yield (level, text) of headings and (0, block) of all else."""
    i = 0
    while i < len(tokens):
        token = tokens[i]
        end = i + 1
        if token.type.endswith("_open"):
            close = token.type.removesuffix("_open") + "_close"
            end = next(j for j in range(i, len(tokens)) if tokens[j].type == close and tokens[j].level == token.level)
            inner = tokens[i + 1 : end]
            end += 1
            if token.type == "heading_open":
                yield int(token.tag[1:]), _text(inner[0].children)
            elif token.type == "table_open":
                yield 0, _table(inner)
            elif token.type in ("bullet_list_open", "ordered_list_open"):
                yield 0, Items([_text(each.children) for each in inner if each.type == "inline"])
            else:
                for each in inner:
                    if each.type == "inline":
                        yield from ((0, block) for block in _paragraph(each.children or [], folder))
        elif token.type in ("fence", "code_block"):
            yield 0, Text(token.content.rstrip("\n"), "code")
        i = end


def _paragraph(children: Sequence[Token], folder: Path) -> Iterator[Block]:
    text = _text(children)
    if text:
        yield Text(text)
    for child in children:
        if child.type == "image":
            file = (folder / str(child.attrs["src"])).resolve()
            # A report shows what lies in its directory, and nothing else of this machine.
            if file.is_relative_to(folder.resolve()):
                figure = _figure(file, _text(child.children))
                if figure is not None:
                    yield figure


def _table(tokens: Sequence[Token]) -> Table:
    rows: list[list[Cell]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(_cell(token.children or []))
    header, *body = rows
    return table("", [each.text for each in header], body)


def _cell(children: Sequence[Token]) -> Cell:
    kinds = [child.type for child in children if child.content or child.type != "text"]
    best = bool(kinds) and kinds[0] == "strong_open" and kinds[-1] == "strong_close"
    return Cell(_text(children), best=best, code=kinds == ["code_inline"])


def _text(children: Sequence[Token] | None) -> str:
    """Return the text of a line, images left out."""
    parts = []
    for child in children or ():
        if child.type in ("text", "code_inline"):
            parts.append(child.content)
        elif child.type in ("softbreak", "hardbreak"):
            parts.append(" ")
    return "".join(parts).strip()
