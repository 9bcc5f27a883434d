"""What a report is before it is written: sections of text, tables and figures, as plain data.

Three writers make files of it: `html`, `markdown` and `tables`. Nothing in here is markup: all text is to the letter.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

NONE = "–"
"""What stands for a number that is not known."""
SEVERAL_REVISIONS = "†"
_LONGEST_NAME = 120  # characters


class Mark(NamedTuple):
    """A sign beside a number, explained in the legend.

    Attributes:
      sign: a character or two.
      meaning: in a few words.
      kind: for the colour, which is never the only sign: good, bad, none.
    """

    sign: str
    meaning: str
    kind: str = "none"


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
      text: what is shown, and what the CSV holds.
      number: what the cell is sorted by, where that is a number.
      best: whether it is the best of its column.
      mark: a sign beside it.
      code: whether it is something to type.
    """

    text: str
    number: float | None = None
    best: bool = False
    mark: Mark | None = None
    code: bool = False


class Column(NamedTuple):
    """A column of a table.

    Attributes:
      title: its heading.
      numeric: whether it holds numbers, which stand at the right.
      hint: what the heading means, in some words.
    """

    title: str
    numeric: bool = False
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      title: what it is of.
      columns: headings.
      rows: as many cells as columns each.
      notes: lines below it.
      folded: whether a reader opens it first, for it holds more than one reads.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    folded: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"a row of {self.title!r} has {len(row)} cells, expected {len(self.columns)}")


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
      title: what it shows, also for who cannot see it.
      content: of its file.
      kind: svg or png.
      caption: how to read it.
    """

    title: str
    content: bytes
    kind: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
      text: of it.
      kind: plain, warning, or code, whose lines are kept.
    """

    text: str
    kind: str = "plain"


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of lines."""

    lines: Sequence[str]


Block = Text | Items | Table | Figure


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading with what stands below it.

    Attributes:
      title: the heading.
      blocks: in this order.
      sections: smaller ones, after the blocks.
      folded: whether a reader opens it first.
    """

    title: str
    blocks: Sequence[Block] = ()
    sections: Sequence["Section"] = ()
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
      title: of it.
      warnings: what a reader must know before all else.
      sections: the report.
      legend: sign -> meaning.
    """

    title: str
    sections: Sequence[Section]
    warnings: Sequence[str] = ()
    legend: Mapping[str, str] = dataclasses.field(default_factory=dict)


def walk(sections: Iterable[Section]) -> Iterator[Section]:
    """Yield sections and those in them, in the order of reading."""
    for section in sections:
        yield section
        yield from walk(section.sections)


def names(page: Page) -> dict[int, str]:
    """Return the name of each section, table and figure of a page, by its `id`: for files, and for places on the page.

    Names are made of the titles on the way to the item, so that they stay when something else is added; no two are the
    same. They are in the order of reading.
    """
    found: dict[int, str] = {}
    used: set[str] = set()

    def give(item: object, titles: Sequence[str]) -> None:
        stem = "-".join(filter(None, map(slug, titles)))[-_LONGEST_NAME:].strip("-") or "part"
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        found[id(item)] = next(name for name in itertools.chain([stem], numbered) if name not in used)
        used.add(found[id(item)])

    def visit(section: Section, above: tuple[str, ...]) -> None:
        titles = (*above, section.title)
        give(section, titles)
        for block in section.blocks:
            if isinstance(block, (Table, Figure)):
                give(block, (*titles, block.title))
        for inner in section.sections:
            visit(inner, titles)

    for section in page.sections:
        visit(section, ())
    return found


def slug(text: str) -> str:
    """Return what a file or an anchor may be called for some text: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60].strip("-")


def cell(value: Any, form: str = "", *, unit: float = 1.0, **options: Any) -> Cell:
    """Return a cell of a value: text, a number in a format, or none.

    Args:
      value: text, number, truth or None.
      form: format of a number; as Python writes it by default.
      unit: factor from the value to what is shown.
      **options: of the cell.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell(NONE, **options)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", **options)
    if isinstance(value, (int, float)):
        shown = value * unit if unit != 1.0 else value
        text = f"{shown:{form}}"
        return Cell(text, float(shown), **options)
    return Cell(str(value), **options)


def interval(
    value: float | None, low: float | None, high: float | None, *, unit: float, digits: int, sign: str = ""
) -> Cell:
    """Return a cell of a number with its 95 % interval: `92.96 (91.30 to 94.63)`."""

    def show(x: float) -> str:
        return f"{round(unit * x, digits) + 0.0:{sign}.{digits}f}"  # no negative zero

    if value is None:
        return Cell(NONE)
    text = show(value) if low is None or high is None else f"{show(value)} ({show(low)} to {show(high)})"
    return Cell(text, unit * value)


def best_of(rows: Sequence[Sequence[Cell]], column: int, better: str) -> list[list[Cell]]:
    """Return rows with the best number of a column marked; equal texts are equally good.

    Args:
      rows: of a table, or those that are compared with each other.
      column: its place.
      better: `higher` or `lower`.
    """
    numbers = [row[column].number for row in rows]
    known = [number for number in numbers if number is not None]
    if len(known) < 2:
        return [list(row) for row in rows]
    best = (max if better == "higher" else min)(known)
    texts = {row[column].text for row, number in zip(rows, numbers, strict=True) if number == best}
    return [[*row[:column], row[column]._replace(best=row[column].text in texts), *row[column + 1 :]] for row in rows]


def facts(title: str, values: Mapping[str, Any], notes: Sequence[str] = ()) -> Table:
    """Return a table of names and values."""
    rows = [(Cell(str(name)), cell(value)) for name, value in values.items()]
    return Table(title, (Column("what"), Column("value")), rows, notes)


def figure_of(path: Path, title: str, caption: str = "") -> Figure | None:
    """Return the figure that a file holds; None where it is not there or no kind that a page shows.

    Raises:
      OSError: it cannot be read.
    """
    kind = path.suffix[1:].lower()
    return Figure(title, path.read_bytes(), kind, caption) if kind in ("svg", "png") and path.is_file() else None
