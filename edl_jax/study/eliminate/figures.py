"""The figures of an elimination, from its stages and finals."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from edl_jax import loss
from edl_jax.loss.expression.nlfs import binary_phenotype
from edl_jax.plot import elimination as plot, nlfs
from edl_jax.plot.style import draw_all
from edl_jax.study.candidates import Candidate, Stored
from edl_jax.study.eliminate.finals import MEASURES
from edl_jax.study.eliminate.report import Ranks, Round

_SHOWN = ("test_accuracy", "accuracy_gap")


def draw(
    folder: Path,
    rounds: Sequence[Round],
    correlations: Sequence[Ranks],
    table: Mapping[str, Mapping[str, Any]],
    figure_format: str = "png",
) -> list[Path]:
    """Draw ranks, phenotypes and finals into a folder; return the paths of those that are there.

    A figure that cannot be drawn costs a line in the log "edl_jax".

    Args:
      folder: where to draw.
      rounds: the stages.
      correlations: `report.ranks` of them.
      table: from `finals.compared`.
      figure_format: png, pdf or svg.
    """
    last = rounds[-1]
    survivors = [candidate for name in last.survivors for candidate in last.candidates if candidate.name == name]
    survives = {each.name: each.survivors for each in rounds}
    pairs = [
        plot.Ranks(
            each.x_label,
            each.y_label,
            each.x,
            each.y,
            np.isin(each.names, survives[each.y_label]),
            each.spearman,
        )
        for each in correlations
    ]
    figures: dict[str, Callable[[Path], None]] = {
        "phenotypes": lambda path: nlfs.phenotypes(path, _curves(survivors)),
        "finals": partial(plot.draw_finals, panels=[(MEASURES[name], _finalists(table, name)) for name in _SHOWN]),
    }
    if pairs:
        figures["ranks"] = partial(plot.draw_ranks, pairs=pairs)
    paths = {folder / f"{name}.{figure_format}": function for name, function in figures.items()}
    draw_all(paths)
    return [path for path in paths if path.exists()]


def phenotype(stored: Stored) -> np.ndarray:
    """Return the values `[1000]` float64 of a loss with two classes, p of the true one from 1 - 1e-7 down to 1e-7.

    Raises:
      ValueError: the loss is one of another number of classes.
    """
    if isinstance(stored, loss.FormulaArtifact) and stored.record.weights is None:
        _, value = binary_phenotype(stored.record.expression)
        return -value if stored.record.flip else value
    wrong = np.linspace(1e-7, 1.0 - 1e-7, 1000)
    logits = jnp.asarray(np.log(np.stack([wrong, 1.0 - wrong], axis=-1)), jnp.float32)
    function = loss.learned_loss(stored) if isinstance(stored, loss.Artifact) else stored.loss()
    return np.asarray(function(logits, jnp.ones(len(wrong), jnp.int32)), np.float64)


def _curves(candidates: Sequence[Candidate]) -> list[tuple[str, np.ndarray]]:
    """Return label and values of the losses that there are of two classes."""
    found = []
    for candidate in candidates:
        try:
            found.append((f"{candidate.name}: {candidate.formula}", phenotype(candidate.loss)))
        except ValueError:  # a network for another number of classes
            continue
    return found


def _finalists(table: Mapping[str, Mapping[str, Any]], number: str) -> list[plot.Finalist]:
    found = []
    for name, numbers in table.items():
        row = numbers[number]
        mean, low, high = (math.nan if row[key] is None else row[key] for key in ("mean", "low", "high"))
        found.append(plot.Finalist(name, row["values"], mean, low, high))
    return found
