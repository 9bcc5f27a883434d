"""Losses by name or path."""

import functools
import inspect
import os
from importlib import resources
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp

from edl_jax.core.errors import UserError, closest, unknown
from edl_jax.loss.artifacts.file import read
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact, learned_loss
from edl_jax.loss.contract import Loss
from edl_jax.loss.zoo.catalogue import ZOO

_CONTRACT = ("axis", "where", "class_weights")
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
        function, known = ZOO[name].function, list(hyper_parameters_of(name))
        for parameter in hyper_parameters:
            if parameter not in known:
                hint = closest(parameter, known) if known else "it has none"
                raise UserError(f"unknown hyper-parameter {parameter!r} of loss {name}: {hint}")
        if not hyper_parameters:
            return cast(Loss, function)
        chosen = functools.partial(function, **hyper_parameters)
        # A loss checks its hyper-parameters when it is traced: trace it here, where the bad value is.
        jax.eval_shape(chosen, jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32))
        return cast(Loss, chosen)
    if name not in _priors() and not _is_path(name):
        raise unknown("loss", name, [*names(), "PATH.safetensors"])
    if hyper_parameters:
        raise UserError(f"loss {name} is an artifact and takes no hyper-parameters, got {', '.join(hyper_parameters)}")
    return load(name)


def hyper_parameters_of(name: str) -> dict[str, Any]:
    """Return the hyper-parameters of a loss of the zoo, name -> default."""
    signature = inspect.signature(ZOO[name].function).parameters.values()
    return {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY and p.name not in _CONTRACT}


def load(path: str | os.PathLike[str]) -> Loss:
    """Return the loss stored at `path` (or the shipped prior of that name).

    Raises:
      UserError: the artifact is missing, damaged, of another version or not finite.
    """
    artifact = load_artifact(path)
    return artifact.loss() if isinstance(artifact, FormulaArtifact) else learned_loss(artifact)


def load_artifact(path: str | os.PathLike[str]) -> Artifact | FormulaArtifact:
    """Return the artifact stored at `path` (or the shipped prior of that name), with its metadata.

    Raises:
      UserError: as `load`.
    """
    name = os.fspath(path)
    if name in _priors():
        return _shipped(name)
    return read(name)


@functools.cache
def _shipped(name: str) -> Artifact | FormulaArtifact:
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
