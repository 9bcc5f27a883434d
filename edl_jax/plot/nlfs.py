"""Figures of neural loss function search: the population over time, the best losses, the ancestors of the best."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax.plot.style import BLUE, COLOURS, GREEN, GREY, ORANGE, PANEL, SMALL, draw_all, dress, new_figure, write
from edl_jax.plot.text import literal

MOST_CURVES = 5
"""Phenotypes of a figure."""
MOST_ANCESTORS = 12
"""Formulas that stand below a genealogy."""
_WIDTHS = (3.0, 2.5, 2.0, 1.5, 1.2)
_LONGEST = 80  # characters of a formula


class Life(NamedTuple):
    """A loss of a search, as a genealogy shows it.

    Attributes:
      birth: iteration that tried it; 0 for the first losses.
      fitness: error rate, finite.
      formula: in writing.
    """

    birth: int
    fitness: float
    formula: str


def draw(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    curves: Sequence[tuple[str, np.ndarray]],
    lives: np.ndarray,
    line: Sequence[Life],
    figure_format: str = "png",
) -> list[Path]:
    """Write population, phenotypes and genealogy into `folder`; return the paths of those that are there.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to write.
      rows: the metrics; see `population`.
      curves: the best losses; see `phenotypes`.
      lives: every loss that was trained to the end; see `genealogy`.
      line: the ancestors of the best; see `genealogy`.
      figure_format: png, pdf or svg.
    """
    figures: dict[str, Callable[[Path], None]] = {
        "population": lambda path: population(path, rows),
        "phenotypes": lambda path: phenotypes(path, curves),
        "genealogy": lambda path: genealogy(path, lives, line),
    }
    paths = {folder / f"{name}.{figure_format}": function for name, function in figures.items()}
    draw_all(paths)
    return [path for path in paths if path.exists()]


def population(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the error rates of the population against iterations: best, quartiles, median, and the best ever.

    Args:
      path: file to write, as its suffix says.
      rows: mappings with `iteration`, `best` and `population_` best, median, lower, upper; those without a population
        are left out.
    """
    alive = [row for row in rows if row.get("population_best") is not None]
    iteration, best, *quartiles = (
        np.array([np.nan if row.get(name) is None else row[name] for row in alive], float)
        for name in (
            "iteration",
            "best",
            "population_best",
            "population_lower",
            "population_median",
            "population_upper",
        )
    )
    own, lower, median, upper = quartiles
    figure = new_figure(1.35 * PANEL[0], PANEL[1])
    axis = figure.subplots()
    dress(axis)
    axis.fill_between(iteration, lower, upper, color=BLUE, alpha=0.2, lw=0, label="half of the population")
    axis.plot(iteration, median, color=BLUE, lw=1.6, label="median of the population")
    axis.plot(iteration, own, color=GREEN, lw=1.6, label="best of the population")
    axis.plot(iteration, best, color=ORANGE, lw=1.6, ls="--", label="best that was ever tried")
    axis.set(xlabel="iteration", ylabel="error rate of the student", title="The population over time")
    axis.legend(fontsize=SMALL, frameon=False)
    write(path, figure)


def phenotypes(path: Path, curves: Sequence[tuple[str, np.ndarray]]) -> None:
    """Draw phenotypes beside that of cross-entropy, each scaled to 0..1 between p_t = 0.01 and 0.99: poles aside.

    Args:
      path: file to write, as its suffix says.
      curves: (label, `[N]` values at equal steps of p_t from 1 down to 0) of losses, the first 5 of which are drawn.
    """
    shown = curves[:MOST_CURVES]
    figure = new_figure(1.35 * PANEL[0], PANEL[1] + 0.22 * (len(shown) + 1))
    axis = figure.subplots()
    dress(axis)
    for i, (label, curve) in enumerate(shown):
        colour = [colour for colour in COLOURS if colour != ORANGE][i % 5]
        axis.plot(*_scaled(curve), color=colour, lw=_WIDTHS[i], label=literal(label, _LONGEST))
    axis.plot(
        *_scaled(-np.log(np.linspace(1.0 - 1e-7, 1e-7, 1000))), color=ORANGE, ls="--", lw=1.6, label="cross-entropy"
    )
    axis.set(
        xlabel="$p_t$, probability of the true class of two",
        ylabel="loss, scaled to 0..1",
        title="Phenotypes of the best losses",
        xlim=(0.0, 1.0),
        ylim=(-0.06, 1.2),
    )
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=1, fontsize=SMALL, frameon=False)
    write(path, figure)


def _scaled(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (p_t, curve scaled to 0..1 between p_t = 0.01 and 0.99)."""
    p_t = np.linspace(1.0 - 1e-7, 1e-7, len(curve))
    curve = np.asarray(curve, np.float64)
    inside = curve[(p_t >= 0.01) & (p_t <= 0.99)]
    low, size = inside.min(), np.ptp(inside)
    return p_t, (curve - low) / (size if size > 0.0 else 1.0)


def genealogy(path: Path, lives: np.ndarray, line: Sequence[Life]) -> None:
    """Draw every loss where it was born and how good it is, and the line of ancestors of the best.

    Ancestors that were better than all before them in the line are numbered, and stand below in writing.

    Args:
      path: file to write, as its suffix says.
      lives: `[N, 2]` birth and error rate of every loss that was trained to the end.
      line: the ancestors of the best, a first loss the first, the best itself the last.
    """
    records = [i for i, life in enumerate(line) if all(life.fitness < before.fitness for before in line[:i])]
    shown = records[-MOST_ANCESTORS:]
    figure = new_figure(1.35 * PANEL[0], PANEL[1] + 0.2 * len(shown))
    axis = figure.subplots()
    dress(axis)
    axis.scatter(lives[:, 0], lives[:, 1], s=4, color=GREY, alpha=0.35, lw=0, label="every loss", rasterized=True)
    births, fitness = [life.birth for life in line], [life.fitness for life in line]
    axis.plot(births, fitness, color=BLUE, lw=1.2, marker=".", ms=4.0, label="ancestors of the best")
    for number, i in enumerate(shown, 1):
        place: dict[str, Any] = {"xytext": (0, -9), "textcoords": "offset points", "ha": "center", "va": "top"}
        axis.plot(births[i], fitness[i], color=BLUE, marker="o", ms=5.5)
        axis.annotate(str(number), (births[i], fitness[i]), fontsize=SMALL, color=BLUE, **place)
    low, high = np.min(lives[:, 1]), np.quantile(lives[:, 1], 0.95)
    room = 0.12 * max(high - low, 1e-3)
    axis.set(
        xlabel="iteration of birth",
        ylabel="error rate of the student",
        title="The ancestors of the best loss",
        ylim=(low - room, max(high, *fitness) + room),
    )
    axis.legend(fontsize=SMALL, loc="upper right", edgecolor="none", framealpha=0.9)
    text = "\n".join(
        literal(f"{number}  {line[i].fitness:.4f}  {line[i].formula}", _LONGEST + 12)
        for number, i in enumerate(shown, 1)
    )
    figure.supxlabel(text, fontsize=SMALL, x=0.02, ha="left")
    write(path, figure)
