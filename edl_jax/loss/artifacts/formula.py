"""An expression loss as an artifact, and the part of its file that holds it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core.errors import UserError
from edl_jax.loss import expression
from edl_jax.loss.function import LossFunction


@dataclasses.dataclass(frozen=True, eq=False)
class FormulaArtifact:
    """A stored expression loss.

    Attributes:
      record: expression, edge weights and sign: the arguments of `expression_loss`.
      metadata: JSON-serialisable facts: how it was found, versions, command.
    """

    record: expression.Record
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_formula(cls, formula: str, metadata: Mapping[str, Any] | None = None) -> "FormulaArtifact":
        """Return the artifact of a formula such as `"-y * ln(p)"`; see `expression.parse`.

        Raises:
          FormulaError: the formula does not parse.
        """
        return cls(expression.Record(expression.parse(formula)), metadata or {})

    def loss(self) -> LossFunction:
        """Return the loss function of the artifact."""
        return self.record.loss()


def parts(artifact: FormulaArtifact) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return (header, no tensors) of an artifact: its weights are numbers of the header."""
    header = {"expression": artifact.record.to_dict(), "metadata": dict(artifact.metadata)}
    return header, {}


def from_parts(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: Path) -> FormulaArtifact:
    """Return the artifact of (header, tensors).

    Raises:
      UserError: its expression or weights cannot be used.
      LookupError, TypeError, ValueError, AttributeError: they are damaged.
    """
    try:
        record = expression.Record.from_dict(header["expression"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    artifact = FormulaArtifact(record, header["metadata"])
    check(artifact, path)
    return artifact


def check(artifact: FormulaArtifact, path: Path) -> None:
    """Raise `UserError` unless the weights fit the expression and the metadata is a mapping."""
    try:
        artifact.record.to_dict()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if not isinstance(artifact.metadata, Mapping):
        raise UserError(f"{path}: metadata is {artifact.metadata!r}, expected a mapping")
