"""A report as Markdown, with its figures in a folder beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from edl_jax.core import markdown
from edl_jax.core.files import write_atomic
from edl_jax.core.markdown import escaped
from edl_jax.study.report.page import Block, Cell, Figure, Items, Page, Section, Table, names, walk

_DEEPEST = 6  # level of a heading


def write(path: Path, folder: Path, page: Page) -> list[Path]:
    """Write a page as Markdown and its figures into a folder; return the files of these.

    Args:
      path: file of the report.
      folder: of the figures, beside the file.
      page: what to write.
    """
    called = names(page)
    figures = {
        called[id(block)]: block
        for section in walk(page.sections)
        for block in section.blocks
        if isinstance(block, Figure)
    }
    files = {name: folder / f"{name}.{figure.kind}" for name, figure in figures.items()}
    for name, file in files.items():
        write_atomic(file, figures[name].content)
    places = {name: quote(file.relative_to(path.parent).as_posix()) for name, file in files.items()}
    parts = [f"# {escaped(page.title)}"]
    parts += [f"**{escaped(line)}**" for line in page.warnings]
    if page.legend:
        parts.append("\n".join(f"- {sign} {escaped(meaning)}" for sign, meaning in page.legend.items()))
    for section in page.sections:
        parts += _section(section, 2, called, places)
    write_atomic(path, ("\n\n".join(parts) + "\n").encode())
    return list(files.values())


def _section(section: Section, level: int, called: Mapping[int, str], places: Mapping[str, str]) -> Iterator[str]:
    yield f"{'#' * min(level, _DEEPEST)} {escaped(section.title)}"
    for block in section.blocks:
        yield from _block(block, called, places)
    for inner in section.sections:
        yield from _section(inner, level + 1, called, places)


def _block(block: Block, called: Mapping[int, str], places: Mapping[str, str]) -> Iterator[str]:
    match block:
        case Table():
            yield f"**{escaped(block.title)}**"
            yield markdown.table(
                [escaped(column.title) for column in block.columns],
                [[_cell(cell) for cell in row] for row in block.rows],
            )
            yield from (escaped(note) for note in block.notes)
        case Figure():
            yield f"![{escaped(block.title)}]({places[called[id(block)]]})"
            if block.caption:
                yield escaped(block.caption)
        case Items():
            yield "\n".join(f"- {escaped(line)}" for line in block.lines)
        case _ if block.kind == "code":
            yield "\n".join(["```sh", *block.text.replace("```", "'''").splitlines(), "```"])
        case _:
            yield f"**{escaped(block.text)}**" if block.kind == "warning" else escaped(block.text)


def _cell(cell: Cell) -> str:
    text = markdown.code(cell.text) if cell.code else escaped(cell.text)
    text = f"**{text}**" if cell.best else text
    return f"{text} {cell.mark.sign}" if cell.mark else text
