"""A report as one HTML file that needs nothing else: style, script and figures are in it."""

import base64
import re
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from edl_jax.core.files import write_atomic
from edl_jax.study.report.page import Figure, Page, names

_ASSETS = Path(__file__).parent / "assets"
_MIME = {"svg": "image/svg+xml", "png": "image/png"}
_TO_CSS = {"pt": 96.0 / 72.0, "px": 1.0, "": 1.0}
_PNG_DOTS = 140.0 / 96.0  # of a figure's PNG to a CSS pixel: `plot.style` writes 140 to the inch
_DEEPEST = 6  # level of a heading


def write(path: Path, page: Page) -> None:
    """Write a page as HTML, whole or not at all."""
    write_atomic(path, render(page).encode())


def render(page: Page) -> str:
    """Return a page as HTML. All text of it is escaped; no address of it leads anywhere but into the page."""
    called = names(page)
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            page=page,
            style=Markup((_ASSETS / "page.css").read_text(encoding="utf-8")),
            script=Markup((_ASSETS / "page.js").read_text(encoding="utf-8")),
            name=lambda item: called[id(item)],
            kind=lambda block: type(block).__name__.lower(),
            source=_source,
            width=_width,
            heading=lambda level: f"h{min(level, _DEEPEST)}",
        )
    )


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(figure: Figure) -> str:
    """Return a figure as an address that holds it."""
    return f"data:{_MIME[figure.kind]};base64,{base64.b64encode(figure.content).decode()}"


def _width(figure: Figure) -> int | None:
    """Return the width of a figure in CSS pixels, as it was drawn; None where its file does not say it."""
    if figure.kind == "png":
        return round(int.from_bytes(figure.content[16:20], "big") / _PNG_DOTS) or None
    found = re.search(rb'<svg\b[^>]*?\swidth="([\d.]+)(pt|px|)"', figure.content)
    return round(float(found[1]) * _TO_CSS[found[2].decode()]) if found else None
