"""Losses by name or path."""

import dataclasses
import functools
import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

from edl_jax.core.errors import UserError, unknown
from edl_jax.loss.artifacts.file import read
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact, learned_loss
from edl_jax.loss.artifacts.named import NamedArtifact
from edl_jax.loss.function import LossFunction
from edl_jax.loss.zoo.bind import bound
from edl_jax.loss.zoo.catalogue import ZOO

_SUFFIX = ".safetensors"
_PRIORS = resources.files("edl_jax.loss.artifacts") / "priors"


def names() -> list[str]:
    """Return the names that `get` knows: the classic losses and the shipped priors."""
    return sorted([*ZOO, *_priors()])


def get(name: str | os.PathLike[str], **hyper_parameters: Any) -> LossFunction:
    """Return the loss of a name, or of an artifact's path.

    Args:
      name: one of `names()`, or the path of a `.safetensors` artifact; `~` is the home directory.
      **hyper_parameters: keyword-only hyper-parameters of that loss, e.g. `alpha` of label_smoothing. One that is
        traced works inside its trace; a loss with it has no hash.

    Returns:
      A function with the arguments of `Loss`, equal to any other that computes the same from the same content.

    Raises:
      UserError: unknown name or hyper-parameter (closest listed), a value that the hyper-parameter cannot take, or
        an artifact that cannot be used.
    """
    if not isinstance(name, str):
        _refuse(name, hyper_parameters)
        return load(name)
    if name in ZOO:
        return bound(name, **hyper_parameters)
    if name not in _priors() and not _is_path(name):
        raise unknown("loss", name, [*names(), "PATH.safetensors"])
    _refuse(name, hyper_parameters)
    return load(name)


def load(path: str | os.PathLike[str]) -> LossFunction:
    """Return the loss stored at `path` (or the shipped prior of that name), equal to any other with its content.

    Raises:
      UserError: the artifact is missing, damaged, of another version or not finite.
    """
    artifact = load_artifact(path)
    loss = learned_loss(artifact) if isinstance(artifact, Artifact) else artifact.loss()
    if isinstance(artifact, NamedArtifact):
        return loss
    return dataclasses.replace(loss, name=os.fspath(path))


def load_artifact(path: str | os.PathLike[str]) -> Artifact | FormulaArtifact | NamedArtifact:
    """Return the artifact stored at `path` (or the shipped prior of that name), with its metadata.

    Raises:
      UserError: as `load`.
    """
    return _shipped(path) if isinstance(path, str) and path in _priors() else read(path)


def digest(name: str | os.PathLike[str]) -> str | None:
    """Return the SHA-256 of the file that the loss of a name or path is read from, or None where it is code.

    Raises:
      OSError: the file cannot be read.
    """
    if name in ZOO:
        return None
    if isinstance(name, str) and name in _priors():
        content = (_PRIORS / f"{name}{_SUFFIX}").read_bytes()
    else:
        content = Path(name).expanduser().read_bytes()
    return hashlib.sha256(content).hexdigest()


def artifact_of(name: str, **hyper_parameters: Any) -> Artifact | FormulaArtifact | NamedArtifact:
    """Return what stores the loss that `get` gives for the same arguments.

    Raises:
      UserError: as `get`.
    """
    get(name, **hyper_parameters)
    return NamedArtifact(name, hyper_parameters) if name in ZOO else load_artifact(name)


@functools.cache
def _shipped(name: str) -> Artifact | FormulaArtifact | NamedArtifact:
    with resources.as_file(_PRIORS / f"{name}{_SUFFIX}") as path:
        return read(path)


@functools.cache
def _priors() -> tuple[str, ...]:
    if not _PRIORS.is_dir():
        return ()
    return tuple(sorted(Path(f.name).stem for f in _PRIORS.iterdir() if f.name.endswith(_SUFFIX)))


def _refuse(name: str | os.PathLike[str], hyper_parameters: dict[str, Any]) -> None:
    if hyper_parameters:
        raise UserError(f"loss {name} is an artifact and takes no hyper-parameters, got {', '.join(hyper_parameters)}")


def _is_path(name: str) -> bool:
    return name.endswith(_SUFFIX) or os.sep in name
