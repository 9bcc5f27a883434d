"""Losses of a study on one scale, no two of them the same, and what pretraining says of each."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edl_jax import loss
from edl_jax.core.errors import require
from edl_jax.loss import expression
from edl_jax.loss.expression import Record
from edl_jax.search.loss_tables import table_of_artifact
from edl_jax.search.program_tables import tables_of_expressions
from edl_jax.search.tables import signatures
from edl_jax.study.candidates import Candidate, folder_name, formula_of
from edl_jax.study.correlate import numbers
from edl_jax.study.correlate.config import FEWEST
from edl_jax.study.correlate.correlation import Measured
from edl_jax.study.correlate.numbers import Predictions
from edl_jax.study.correlate.sources import Source


class Collected(NamedTuple):
    """Losses of a study.

    Attributes:
      candidates: losses on the common scale, with names of their own.
      sources: where each comes from.
      scales: factor of each.
      dropped: (name, why) of losses that take no part.
    """

    candidates: list[Candidate]
    sources: list[Source]
    scales: list[float]
    dropped: list[tuple[str, str]]


def tables_of(sources: Sequence[Source], num_classes: int) -> np.ndarray:
    """Return the tables `[n, 2, K]` of losses as they are.

    Raises:
      UserError: a loss that has no table for C classes.
    """
    records = {i: x.stored.record for i, x in enumerate(sources) if isinstance(x.stored, loss.FormulaArtifact)}
    expressions = tables_of_expressions([r.expression for r in records.values()], [r.weights for r in records.values()])
    found = {
        i: -table if record.flip else table for (i, record), table in zip(records.items(), expressions, strict=True)
    }
    for i, source in enumerate(sources):
        if isinstance(source.stored, loss.Artifact):
            found[i] = table_of_artifact(source.stored, num_classes)
    return np.stack([found[i] for i in range(len(sources))])


def check(sources: Sequence[Source], tables: np.ndarray, predictions: Predictions) -> None:
    """Raise `UserError` for a loss that cannot be put on the common scale."""
    places = numbers.places_of(predictions)
    for source, table in zip(sources, tables, strict=True):
        flaw = _flaw(table, numbers.scale_of(table, places))
        require(not flaw, f"{source.name} ({source.origin}) {flaw}: leave it out")


def collect(sources: Sequence[Source], predictions: Predictions) -> Collected:
    """Return losses on the common scale; those that are equal to an earlier one, or unusable, are dropped.

    Args:
      sources: losses.
      predictions: on which the mean norm of their gradients becomes cross-entropy's.

    Raises:
      UserError: fewer than `FEWEST` are left.
    """
    places = numbers.places_of(predictions)
    kept = Collected([], [], [], [])
    seen: dict[str, str] = {}
    folders: set[str] = set()
    tables = tables_of(sources, predictions.objective.num_classes)
    for place, (source, table) in enumerate(zip(sources, tables, strict=True), 1):
        scale = numbers.scale_of(table, places)
        flaw = _flaw(table, scale)
        if flaw:
            kept.dropped.append((source.name, flaw))
            continue
        on_scale = (scale * table.astype(np.float64)).astype(np.float32)
        (key,) = signatures(on_scale[None])
        if key in seen:
            kept.dropped.append((source.name, f"is {seen[key]}, but for its scale"))
            continue
        name = source.name if folder_name(source.name) not in folders else f"{source.name}-{place}"
        folders.add(folder_name(name))
        seen[key] = name
        kept.candidates.append(Candidate(name, formula_of(source.stored), scaled(source.stored, scale), on_scale))
        kept.sources.append(source)
        kept.scales.append(scale)
    count = len(kept.candidates)
    require(
        count >= FEWEST,
        f"{count} different losses are left, expected at least {FEWEST}: a correlation of fewer says nothing; add "
        "losses, mixtures or runs",
    )
    return kept


def scaled(stored: loss.Artifact | loss.FormulaArtifact, factor: float) -> loss.Artifact | loss.FormulaArtifact:
    """Return a loss times a positive factor."""
    if isinstance(stored, loss.Artifact):
        c = stored.calibration
        scale, shift = (tuple(factor * x for x in values) for values in (c.scale, c.shift))
        return dataclasses.replace(stored, calibration=dataclasses.replace(c, scale=scale, shift=shift))
    record = stored.record
    tree = expression.weighted(record.expression, record.weights)
    product = expression.apply("mul", expression.constant(factor), tree)
    return dataclasses.replace(stored, record=Record(product, None, record.flip))


def measure(
    collected: Collected, predictions: Predictions, own: Mapping[str, Predictions], check: Callable[[], None]
) -> list[Measured]:
    """Return what pretraining says of each loss, without students.

    Args:
      collected: losses.
      predictions: of the mixture that all are measured on.
      own: name of a loss -> predictions of the mixture that it was evolved on.
      check: called after each loss.
    """
    places = numbers.places_of(predictions)
    own_places = {id(each): numbers.places_of(each) for each in own.values()}
    found = []
    for candidate, source, scale in zip(collected.candidates, collected.sources, collected.scales, strict=True):
        known = numbers.measure(candidate.table, predictions, places)
        known["own_fitness_ratio"] = math.nan
        if source.name in own:
            mixture = own[source.name]
            losses = own_places[id(mixture)].losses(candidate.table)
            known["own_fitness_ratio"] = numbers.fitness_of(losses, mixture)[0] / mixture.fitness
        found.append(Measured(candidate.name, source.family, source.origin, candidate.formula, scale, known))
        check()
    return found


def _flaw(table: np.ndarray, scale: float) -> str:
    """Return why a loss cannot be put on the common scale, or nothing."""
    if not np.isfinite(table).all():
        return "has slopes that are not finite"
    if not (math.isfinite(scale) and scale > 0.0):
        return "has no gradient"
    largest = np.finfo(np.float32).max
    return "" if scale * float(np.max(np.abs(table))) < largest else "has slopes that are not finite on a common scale"
