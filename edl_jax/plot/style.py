"""What the figures share: palette, size, axes without pyplot, writing. Colours are safe for colour-blind readers."""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edl_jax.core.errors import reason, unknown
from edl_jax.core.files import write_atomic
from edl_jax.plot.text import font_families

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette without its yellow.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
BLACK = "#000000"
PANEL = (4.8, 3.6)
SMALL = 8
_DPI = 140
FORMATS = ("png", "pdf", "svg")
AGAIN = "give the command with --out and --resume"
_log = logging.getLogger("edl_jax")
# Without the time of writing (and with a fixed salt for the names inside SVG), equal figures are equal files.
_METADATA: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}

__all__ = [
    "AGAIN",
    "BLACK",
    "BLUE",
    "COLOURS",
    "FORMATS",
    "GREEN",
    "GREY",
    "ORANGE",
    "PANEL",
    "SMALL",
    "check_format",
    "draw_all",
    "dress",
    "import_matplotlib",
    "log_numbers",
    "new_figure",
    "row_of_axes",
    "write",
]


def check_format(figure_format: str) -> None:
    """Raise `UserError` unless figures can be written in that format."""
    if figure_format not in FORMATS:
        raise unknown("figure_format", figure_format, FORMATS)


def import_matplotlib() -> None:
    """Import what `new_figure` and `write` need, so that a thread can do it ahead."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import matplotlib.ticker  # noqa: F401


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, sizes in inches."""
    # Figure without pyplot: no global state, no display, no figure left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def row_of_axes(figure: "Figure", columns: int = 1) -> Sequence[Any]:
    """Return axes side by side with shared limits."""
    axes = figure.subplots(1, columns, squeeze=False, sharex=True, sharey=True)[0]
    for axis in axes:
        dress(axis)
    return list(axes)


def dress(axis: Any) -> None:
    """Give axes a faint grid and no box."""
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def log_numbers(axis: Any) -> None:
    """Write 0.01 for 10^-2 on the x or y axis, and numbers between where few powers of ten are seen."""

    def between(x: float, _: int) -> str:
        low, high = axis.get_view_interval()
        return f"{x:.4g}" if high < 3 * low or (high < 30 * low and f"{x:e}"[0] in "235") else ""

    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(between)


def write(path: Path, figure: "Figure") -> None:
    """Write a figure as the suffix of its path says, one of `FORMATS`, whole or not at all; its folder is made."""
    from matplotlib import rc_context
    from matplotlib.text import Text

    families = font_families(figure)
    for text in figure.findobj(Text):
        text.set(usetex=False, fontfamily=families)
    kind = path.suffix[1:]
    content = io.BytesIO()
    # For the texts that are made while a figure is drawn.
    with rc_context({"svg.hashsalt": "edl_jax", "text.usetex": False, "font.family": families}):
        figure.savefig(content, format=kind, dpi=_DPI, metadata=_METADATA.get(kind))
    write_atomic(path, content.getvalue())


def draw_all(figures: Mapping[Path, Callable[[Path], None]], again: str = AGAIN) -> None:
    """Draw each of some figures; what goes wrong costs a line in the log "edl_jax", for no result hangs on a figure.

    Args:
      figures: path to the function that draws to it.
      again: what a person does to have them drawn once more.
    """
    failed: dict[Path, Exception] = {}
    for path, draw in figures.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(path)
        except Exception as error:  # Matplotlib's, of any kind, and the disk's
            _log.debug("figure %s", path, exc_info=error)
            failed[path] = error
    if failed:
        path, first = next(iter(failed.items()))
        names = ", ".join(each.name for each in failed)
        why = reason(first, kind=True)
        _log.warning(
            "not drawn in %s: %s (%s); all numbers are written; to draw again %s", path.parent, names, why, again
        )
