"""The tables of a report as CSV, a file each."""

from collections.abc import Sequence
from pathlib import Path

from edl_jax.core.files import write_csv
from edl_jax.study.report.page import Page, Table, names, walk


def tables(page: Page) -> list[Table]:
    """Return the tables of a page in the order of reading."""
    return [block for section in walk(page.sections) for block in section.blocks if isinstance(block, Table)]


def lines(table: Table) -> tuple[list[str], Sequence[Sequence[str]]]:
    """Return header and rows of a table: the text of its cells, as it stands on the page, without signs."""
    return [column.title for column in table.columns], [[cell.text for cell in row] for row in table.rows]


def write(folder: Path, page: Page) -> list[Path]:
    """Write the tables of a page into a folder, and return the files."""
    called = names(page)
    paths = []
    for table in tables(page):
        paths.append(folder / f"{called[id(table)]}.csv")
        write_csv(paths[-1], *lines(table))
    return paths
