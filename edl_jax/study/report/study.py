"""One page of what commands have left in their directories: `python run.py report DIR... --out report.html`."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edl_jax.core import status
from edl_jax.core.errors import UserError, local_path, require
from edl_jax.core.files import read_json, write_json
from edl_jax.study.report import claims, grid, html, markdown, sections, sources, tables
from edl_jax.study.report.page import SEVERAL_REVISIONS, Cell, Column, Page, Section, Table, cell, walk
from edl_jax.study.report.sources import Source

_FILES = "files.json"  # what a report has written, so that the next one removes it and nothing else


def run(
    directories: Sequence[str | Path],
    *,
    out: str | Path,
    title: str = "Results",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a report of some directories.

    All is read before anything is written. No network is trained; the losses alone are computed, on the CPU.

    Args:
      directories: those of commands, or folders that contain some.
      out: HTML file to write. Beside it are written the same as Markdown, `report.md` of `report.html`, and a folder,
        `report_files`, with a CSV file for each table and the figures.
      title: of the page.
      overwrite: replace an earlier report.

    Returns:
      `page`, `markdown` and `folder`, the paths; `tables` and `figures`, their numbers; `lines`, what to tell a person.

    Raises:
      UserError: nothing to report, files that are damaged, or a place that may not be written to.
    """
    page_file = local_path(out).absolute()
    text_file = page_file.with_suffix(".md")
    folder = page_file.with_name(f"{page_file.stem}_files")
    _check(page_file, text_file, folder, overwrite)
    status.say("reading the directories")
    found, left = sources.read(directories)
    page = make_page(found, left, title)
    status.say("writing the page")
    try:
        _clear(folder)
        written = [*markdown.write(text_file, folder / "figures", page), *tables.write(folder, page)]
        write_json(folder / _FILES, {"files": [path.relative_to(folder).as_posix() for path in written]})
        html.write(page_file, page)  # last: where it is, all is
    except OSError as error:
        raise UserError(f"cannot write {error.filename or page_file}: {error.strerror}; give another --out") from error
    count = len(tables.tables(page))
    return {
        "page": str(page_file),
        "markdown": str(text_file),
        "folder": str(folder),
        "tables": count,
        "figures": len(written) - count,
        "lines": [f"{source.command}: {source.name}" for source in found] + list(page.warnings),
    }


def make_page(found: Sequence[Source], left: Sequence[str], title: str) -> Page:
    """Return the page of some directories.

    Args:
      found: the directories.
      left: a line for each that is left out.
      title: of the page.

    Raises:
      UserError: a file of them is damaged.
    """
    grids = [grid.read(source) for source in found if source.command == sections.COMPARE]
    by_path = {each.source.path: each for each in grids}
    told = []
    for source in found:
        known = by_path.get(source.path)
        try:
            told.append(sections.of_source(source) if known is None else sections.of_grid(known))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{source.path} holds what this release does not write ({type(error).__name__}: {error}): make it "
                "again, or leave it out"
            ) from error
    warnings = [f"Left out: {line}" for line in left]
    warnings += [line for each in grids if (line := grid.missing(each)) is not None]
    warnings += [
        sections.unfinished(each) for each in found if each.result is None and each.command != sections.COMPARE
    ]
    blocks = [_overview(found, grids)]
    pages = [Section("Directories", blocks), claims.section(grids, found), *told]
    return Page(title, pages, warnings, _legend(pages))


def _overview(found: Sequence[Source], grids: Sequence[grid.Grid]) -> Table:
    complete = {each.source.path: grid.missing(each) is None for each in grids}
    rows = []
    for source in found:
        versions = source.environment.get("versions")
        device = source.environment.get("device")
        rows.append(
            [
                Cell(source.name),
                Cell(source.command),
                Cell("yes" if complete.get(source.path, source.result is not None) else "no"),
                cell(source.environment.get("started")),
                cell(str(device.get("kind")) if isinstance(device, dict) else None),
                cell(str(versions.get("edl-jax")) if isinstance(versions, dict) else None),
                cell(source.environment.get("git_revision"), code=True),
            ]
        )
    headings = ("directory", "command", "complete", "started", "device", "edl_jax", "git revision")
    return Table("What is reported", [Column(heading) for heading in headings], rows)


def _legend(shown: Sequence[Section]) -> dict[str, str]:
    """Return the signs that occur, with what they mean."""
    cells = [
        each
        for section in walk(shown)
        for block in section.blocks
        if isinstance(block, Table)
        for row in block.rows
        for each in row
    ]
    legend = {}
    if any(each.best for each in cells):
        legend["bold"] = "the best of its column"
    used = {each.mark for each in cells if each.mark is not None}
    marks = (*grid.MARKS.values(), *claims.MARKS.values())
    legend |= {mark.sign: mark.meaning for mark in marks if mark in used}
    if any(each.text.endswith(SEVERAL_REVISIONS) for each in cells):
        legend[SEVERAL_REVISIONS] = "its runs, or those of the baseline, were made by several revisions of the code"
    return legend


def _check(page: Path, text: Path, folder: Path, overwrite: bool) -> None:
    """Raise UserError unless a report may be written there."""
    require(page.suffix in (".html", ".htm"), f"--out is {page}, expected a name ending in .html")
    require(not page.is_dir(), f"{page} is a directory, expected a file: give another --out")
    parent = next(each for each in page.parents if each.exists())
    require(parent.is_dir(), f"{parent} is a file, expected a folder: give another --out")
    require(os.access(parent, os.W_OK), f"{parent} cannot be written to: give another --out")
    for path in (page, text, folder):
        require(overwrite or not path.exists(), f"{path} exists: give --overwrite to replace it, or another --out")
    if folder.exists():
        require(
            (folder / _FILES).is_file() or not any(folder.iterdir()),
            f"{folder} is not of a report (it has no {_FILES}): refusing to write there; give another --out",
        )


def _clear(folder: Path) -> None:
    """Remove what an earlier report has written into its folder."""
    listed: Any = []
    with contextlib.suppress(OSError, ValueError, LookupError):
        listed = read_json(folder / _FILES)["files"]
    for name in listed if isinstance(listed, list) else []:
        path = (folder / str(name)).resolve()
        if path.is_relative_to(folder.resolve()) and path.suffix in (".csv", ".svg", ".png"):
            path.unlink(missing_ok=True)
