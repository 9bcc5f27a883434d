"""A loss of the zoo with its hyper-parameters as an artifact, and the part of its file that holds it."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edl_jax.core.errors import UserError, require, unknown
from edl_jax.loss.function import LossFunction
from edl_jax.loss.zoo.bind import bound
from edl_jax.loss.zoo.catalogue import ZOO


@dataclasses.dataclass(frozen=True, eq=False)
class NamedArtifact:
    """A stored loss of the zoo: its values are those of the release that loads it.

    Attributes:
      name: its name in the zoo.
      parameters: hyper-parameters, name -> number or tuple of numbers; the others are at their defaults.
      metadata: JSON-serialisable facts.
    """

    name: str
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def loss(self) -> LossFunction:
        """Return the loss function of the artifact."""
        return bound(self.name, **self.parameters)


def parts(artifact: NamedArtifact) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return (header, no tensors) of an artifact."""
    header = {
        "name": artifact.name,
        "parameters": {key: list(x) if isinstance(x, tuple) else x for key, x in artifact.parameters.items()},
        "metadata": dict(artifact.metadata),
    }
    return header, {}


def from_parts(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: Path) -> NamedArtifact:
    """Return the artifact of (header, tensors).

    Raises:
      UserError: its name or hyper-parameters cannot be used.
      LookupError, TypeError, ValueError, AttributeError: they are damaged.
    """
    parameters = {key: tuple(x) if isinstance(x, list) else x for key, x in header["parameters"].items()}
    artifact = NamedArtifact(header["name"], parameters, header["metadata"])
    check(artifact, path)
    return artifact


def check(artifact: NamedArtifact, path: Path) -> None:
    """Raise `UserError` unless the zoo has this loss with these hyper-parameters."""
    try:
        if artifact.name not in ZOO:
            raise unknown("loss", str(artifact.name), ZOO)
        for key, value in artifact.parameters.items():
            numbers = value if isinstance(value, tuple) else (value,)
            usable = all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers)
            require(usable, f"{key} is {value!r}, expected a finite number or several")
        artifact.loss()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    require(isinstance(artifact.metadata, Mapping), f"{path}: metadata is {artifact.metadata!r}, expected a mapping")
