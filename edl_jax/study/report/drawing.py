"""Figures drawn for a report, as SVG, which is sharp on any screen and in print."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from edl_jax.plot.style import draw_all
from edl_jax.study.report.page import Figure

_AGAIN = "give the command again with --overwrite"


def drawn(figures: Mapping[tuple[str, str], Callable[[Path], None]]) -> list[Figure]:
    """Return figures; one that cannot be drawn costs a line in the log "edl_jax".

    Args:
      figures: (title, caption) -> function that draws to a path.
    """
    with tempfile.TemporaryDirectory(prefix="edl-jax-") as folder:
        paths = {Path(folder) / f"{i}.svg": draw for i, draw in enumerate(figures.values())}
        draw_all(paths, _AGAIN)
        return [
            Figure(title, path.read_bytes(), "svg", caption)
            for (title, caption), path in zip(figures, paths, strict=True)
            if path.is_file()
        ]
