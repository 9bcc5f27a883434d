"""The report of a search: report.md with the best formulas, what they look like, and what they cost to find."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edl_jax.core.errors import command
from edl_jax.core.files import write_atomic
from edl_jax.core.markdown import code, escaped, images, settings, table
from edl_jax.search.formulas import Formula
from edl_jax.search.shape import Shape, profile
from edl_jax.training.progress import format_duration

_LONGEST = 160  # characters of a formula in the table
_FATES = (
    ("known", "known before"),
    ("rejected", "rejected"),
    ("diverged", "diverged"),
    ("hopeless", "ended early as hopeless"),
)
_ALWAYS = {"known", "rejected", "diverged"}  # shown where there are none, too
_LEGEND = (
    "Scale: the multiple of cross-entropy's pull on the true class's logit that is nearest to the loss's, which acts "
    "on the learning rate. R²: the share of the squared pull that it is. Minimum: the p_t at which the loss is least, "
    "where that is below 1. Groups are those of EvoMAL (arXiv 2209.08907), by the rules of `edl_jax/search/shape.py`."
)


class Winner(NamedTuple):
    """A candidate as a report shows it.

    Attributes:
      fitness: the smaller, the better.
      generation: when it was found, from 1.
      formula: in writing.
      shape: what it looks like; None for a regression.
    """

    fitness: float
    generation: int
    formula: Formula
    shape: Shape | None = None


def write(
    path: Path,
    title: str,
    facts: Mapping[str, Any],
    winners: Sequence[Winner],
    counts: Mapping[str, int],
    time: Mapping[str, float],
    figures: Sequence[Path] = (),
) -> None:
    """Write the report of a search as Markdown.

    Args:
      path: file to write, `OUT/report.md`; the command at its end names `OUT/loss.safetensors`.
      title: of the report.
      facts: what to know of the search, in words: name -> value.
      winners: distinct candidates, the best first; none where the search found no loss.
      counts: candidates by what became of them: `evaluated` (those refused included), of which `rejected`, `diverged`
        and `hopeless`, and `known`, which were evaluated before.
      time: part of the search -> seconds.
      figures: files below the folder of `path`, embedded in this order.
    """
    parts = [f"# {escaped(title)}"]
    if facts:
        parts.append(settings(facts))
    parts.append("## The best losses")
    parts += _best(winners) if winners else ["No candidate has a finite fitness."]
    parts += ["## The search", _counts(counts), _time(time)]
    parts += images(figures, path.parent)
    if winners:
        loss = shlex.quote(str(path.parent / "loss.safetensors"))
        parts += ["## Train with the best", f"```\n{command(f'downstream --loss {loss}')}\n```"]
    write_atomic(path, ("\n\n".join(part for part in parts if part) + "\n").encode())


def curve(label: str, table: np.ndarray, num_classes: int, shape: Shape) -> tuple[str, np.ndarray, np.ndarray]:
    """Return (scale and label, gap, pull over the scale): a winner as `plot.search.gradient_profile` takes it.

    Args:
      label: the formula, or a name.
      table: `[2, K]` slopes.
      num_classes: C.
      shape: what `shape.describe` found; where its scale is 0 or not finite, the pull is as it is.
    """
    gap, pull = profile(table, num_classes)
    size = abs(shape.scale)
    return f"scale {shape.scale:.3g}: {label}", gap, pull / size if 0.0 < size < np.inf else pull


def _best(winners: Sequence[Winner]) -> list[str]:
    """Return the table of the best losses, and the formula of the best."""
    shaped = any(winner.shape is not None for winner in winners)
    of_shape = ("group", "scale", "R²", "minimum") if shaped else ()
    rows = []
    for rank, (fitness, generation, formula, shape) in enumerate(winners, 1):
        looks = [] if not shaped else ["-"] * len(of_shape) if shape is None else _looks(shape)
        formula_code = code(formula.simplified, _LONGEST)
        rows.append((rank, f"{fitness:.4g}", *looks, formula.complexity, generation, formula_code))
    parts = [table(("", "fitness", *of_shape, "nodes", "generation", "formula"), rows)]
    if shaped:
        parts.append(_LEGEND)
    best = winners[0].formula
    if best.latex:
        parts.append(f"The best:\n\n$$\n{best.latex}\n$$")
    return [*parts, f"In full: {code(best.text)}"]


def _looks(shape: Shape) -> list[str]:
    minimum = "-" if shape.minimum is None else f"{shape.minimum:.3f}"
    return [shape.group, f"{shape.scale:.3g}", f"{shape.r_squared:.3f}", minimum]


def _counts(counts: Mapping[str, int]) -> str:
    """Return which shares of the candidates cost how much."""
    every = counts.get("evaluated", 0) + counts.get("known", 0)
    if not every:
        return ""
    shown = [fate for fate in _FATES if counts.get(fate[0], 0) or fate[0] in _ALWAYS & counts.keys()]
    rows = [(name, counts[key], f"{100.0 * counts[key] / every:.1f} %") for key, name in shown]
    return table(("candidates", "number", "share"), [("all", every, "100 %"), *rows])


def _time(time: Mapping[str, float]) -> str:
    total = sum(time.values())
    if not total > 0.0:
        return ""
    parts = [(escaped(name), format_duration(s), f"{100.0 * s / total:.1f} %") for name, s in time.items() if s > 0.0]
    return table(("where the time went", "", "share"), [*parts, ("all", format_duration(total), "100 %")])
