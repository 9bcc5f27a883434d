"""Losses by name or path.

Case, hyphens, underscores, spaces and a last word "loss" do not matter in a name: `EDL`, `cross-entropy` and
`FocalLoss` are names as well. `SYNONYMS` has the other usual ones. What is stored and printed is `canonical_name`.
"""

import dataclasses
import functools
import hashlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

from edl_jax.core.errors import UserError, canonical, fold, local_path, require, unknown
from edl_jax.loss.artifacts.file import RUN_FILENAME, locate, read
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact, learned_loss
from edl_jax.loss.artifacts.named import NamedArtifact
from edl_jax.loss.artifacts.regression import is_regression
from edl_jax.loss.function import LossFunction
from edl_jax.loss.zoo.bind import bound
from edl_jax.loss.zoo.catalogue import ZOO

SYNONYMS = {
    "categorical_cross_entropy": "cross_entropy",
    "ce": "cross_entropy",
    "log_loss": "cross_entropy",
    "nll": "cross_entropy",
    "softmax_cross_entropy": "cross_entropy",
    "xent": "cross_entropy",
    "generalized_cross_entropy": "gce",
    "mean_absolute_error": "mae",
    "normalized_cross_entropy": "nce",
    "rce": "reverse_cross_entropy",
    "symmetric_cross_entropy": "sce",
}
_SUFFIX = ".safetensors"
_PRIORS = resources.files("edl_jax.loss.artifacts") / "priors"


def names() -> list[str]:
    """Return the names that `get` knows: the classic losses and the shipped priors."""
    return sorted([*ZOO, *_priors()])


def canonical_name(name: str) -> str:
    """Return what is stored of a loss as a person types it: its name in `names()`, or the path of its file.

    Of a run directory that is `RUN/loss.safetensors`, of a `file://` URL the path. What is unknown is returned as it
    is, for `get` to refuse.
    """
    if name in ZOO:
        return name
    known = names()
    for spelled in (name, fold(name).removesuffix("loss")):
        found = canonical(spelled, known, SYNONYMS)
        if found in known:
            return found
    if not _is_path(name):
        return name
    try:
        path = local_path(name)
    except UserError:
        return name
    text = os.fspath(path) if "file:/" in name else name
    return os.path.join(text, RUN_FILENAME) if os.path.isdir(path) else text  # noqa: PTH112, PTH118 - keeps `~`, `./`


def get(name: str | os.PathLike[str], **hyper_parameters: Any) -> LossFunction:
    """Return the loss of a name, or of an artifact's path.

    Args:
      name: one of `names()`, or the path of a `.safetensors` artifact or of a run directory that holds
        loss.safetensors; `~` is the home directory.
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
    name = canonical_name(name)
    if name in ZOO:
        return bound(name, **hyper_parameters)
    if name not in _priors() and not _is_path(name):
        hint = f"; for the run in that folder write ./{name}" if os.path.isdir(name) else ""  # noqa: PTH112
        raise UserError(f"{unknown('loss', name, [*names(), 'PATH.safetensors'])}{hint}")
    _refuse(name, hyper_parameters)
    return load(name)


def load(path: str | os.PathLike[str]) -> LossFunction:
    """Return the loss stored at `path` (or the shipped prior of that name), equal to any other with its content.

    Raises:
      UserError: the artifact is missing, damaged, of another version, not finite, or a loss of regression.
    """
    artifact = load_artifact(path)
    require(
        not is_regression(artifact),
        f"{os.fspath(path)} is a loss of regression, of predictions and targets, and a classifier has logits and "
        "labels: load it with loss.load_regression, or give a loss of classification",
    )
    loss = learned_loss(artifact) if isinstance(artifact, Artifact) else artifact.loss()
    if isinstance(artifact, NamedArtifact):
        return loss
    return dataclasses.replace(loss, name=os.fspath(path))


def load_artifact(path: str | os.PathLike[str]) -> Artifact | FormulaArtifact | NamedArtifact:
    """Return the artifact stored at `path` (or the shipped prior of that name), with its metadata.

    Raises:
      UserError: as `load`.
    """
    if isinstance(path, str):
        path = canonical_name(path)
        if path in _priors():
            return _shipped(path)
    return read(path)


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
        content = locate(name).read_bytes()
    return hashlib.sha256(content).hexdigest()


def artifact_of(name: str, **hyper_parameters: Any) -> Artifact | FormulaArtifact | NamedArtifact:
    """Return what stores the loss that `get` gives for the same arguments.

    Raises:
      UserError: as `get`.
    """
    name = canonical_name(name)
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
    return name.endswith(_SUFFIX) or os.sep in name or name in (".", "..", "~")
