"""Losses by name or path."""

import functools
import os
from importlib import resources
from pathlib import Path
from typing import Any

from edl_jax.core.errors import UserError, unknown
from edl_jax.loss.artifacts.file import read
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact, learned_loss
from edl_jax.loss.artifacts.named import NamedArtifact
from edl_jax.loss.contract import Loss
from edl_jax.loss.zoo.bind import bound
from edl_jax.loss.zoo.catalogue import ZOO

_SUFFIX = ".safetensors"


def names() -> list[str]:
    """Return the names that `get` knows: the classic losses and the shipped priors."""
    return sorted([*ZOO, *_priors()])


def get(name: str, **hyper_parameters: Any) -> Loss:
    """Return the loss of a name, or of an artifact's path.

    Args:
      name: one of `names()`, or the path of a `.safetensors` artifact.
      **hyper_parameters: keyword-only hyper-parameters of that loss, e.g. `alpha` of label_smoothing.

    Returns:
      A function `f(logits, labels, *, axis=-1, where=None)`: see `Loss`.

    Raises:
      UserError: unknown name or hyper-parameter (closest listed), a value that the hyper-parameter cannot take, or
        an artifact that cannot be used.
    """
    if name in ZOO:
        return bound(name, **hyper_parameters)
    if name not in _priors() and not _is_path(name):
        raise unknown("loss", name, [*names(), "PATH.safetensors"])
    if hyper_parameters:
        raise UserError(f"loss {name} is an artifact and takes no hyper-parameters, got {', '.join(hyper_parameters)}")
    return load(name)


def load(path: str | os.PathLike[str]) -> Loss:
    """Return the loss stored at `path` (or the shipped prior of that name).

    Raises:
      UserError: the artifact is missing, damaged, of another version or not finite.
    """
    artifact = load_artifact(path)
    return learned_loss(artifact) if isinstance(artifact, Artifact) else artifact.loss()


def load_artifact(path: str | os.PathLike[str]) -> Artifact | FormulaArtifact | NamedArtifact:
    """Return the artifact stored at `path` (or the shipped prior of that name), with its metadata.

    Raises:
      UserError: as `load`.
    """
    name = os.fspath(path)
    if name in _priors():
        return _shipped(name)
    return read(name)


def artifact_of(name: str, **hyper_parameters: Any) -> Artifact | FormulaArtifact | NamedArtifact:
    """Return what stores the loss that `get` gives for the same arguments.

    Raises:
      UserError: as `get`.
    """
    get(name, **hyper_parameters)
    return NamedArtifact(name, hyper_parameters) if name in ZOO else load_artifact(name)


@functools.cache
def _shipped(name: str) -> Artifact | FormulaArtifact | NamedArtifact:
    with resources.as_file(resources.files("edl_jax.loss.artifacts") / "priors" / f"{name}{_SUFFIX}") as path:
        return read(path)


@functools.cache
def _priors() -> tuple[str, ...]:
    folder = resources.files("edl_jax.loss.artifacts") / "priors"
    if not folder.is_dir():
        return ()
    return tuple(sorted(Path(f.name).stem for f in folder.iterdir() if f.name.endswith(_SUFFIX)))


def _is_path(name: str) -> bool:
    return name.endswith(_SUFFIX) or os.sep in name
