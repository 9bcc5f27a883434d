"""Artifacts on disk: one safetensors file, tensors plus JSON metadata; nothing is ever unpickled.

Compatibility: a release reads every format version that an earlier release wrote, with the same values (the tests keep
a file of each), and refuses a later one by name. A file has the lowest version that can say what it holds: version 1
is a per_class network without an output transform, version 2 any network, version 3 a formula, version 4 the name of
a loss of the zoo with its hyper-parameters.
"""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as safetensors_bytes

from edl_jax.core.errors import UserError, command, local_path, reason
from edl_jax.loss.artifacts import formula, named, network
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact
from edl_jax.loss.artifacts.named import NamedArtifact

FORMAT = "edl_jax.loss"
RUN_FILENAME = "loss.safetensors"  # in the directory of a run that evolves a loss
_NETWORK_VERSIONS = ("1", "2")
_FORMULA_VERSIONS = ("3",)
_NAMED_VERSIONS = ("4",)
# Format version -> module with `from_parts`.
_KINDS = (
    dict.fromkeys(_NETWORK_VERSIONS, network)
    | dict.fromkeys(_FORMULA_VERSIONS, formula)
    | dict.fromkeys(_NAMED_VERSIONS, named)
)
_HINT = f"make it again with `{command('pretrain')}`, or `{command('losses --formula')}` for a formula"


def to_bytes(artifact: Artifact | FormulaArtifact | NamedArtifact) -> bytes:
    """Return the artifact as the content of a safetensors file."""
    if isinstance(artifact, FormulaArtifact):
        (header, tensors), version = formula.parts(artifact), _FORMULA_VERSIONS[-1]
    elif isinstance(artifact, NamedArtifact):
        (header, tensors), version = named.parts(artifact), _NAMED_VERSIONS[-1]
    else:
        (header, tensors), version = network.parts(artifact), _NETWORK_VERSIONS[-1]
    metadata = {"format": FORMAT, "format_version": version, "loss": json.dumps(header)}
    return safetensors_bytes(tensors, metadata=metadata)


def save(artifact: Artifact | FormulaArtifact | NamedArtifact, path: str | os.PathLike[str]) -> None:
    """Write the artifact to `path`, atomically.

    Raises:
      UserError: its parameters do not fit its network, expression or name, or are not finite.
      OSError: the file cannot be written; an older file at `path` is left as it was.
    """
    path = local_path(path)
    if isinstance(artifact, FormulaArtifact):
        formula.check(artifact, path)
    elif isinstance(artifact, NamedArtifact):
        named.check(artifact, path)
    else:
        network.check(artifact, path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(to_bytes(artifact))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def locate(path: str | os.PathLike[str]) -> Path:
    """Return the file of an artifact: that of the path, or the one in the run directory that it is.

    Raises:
      UserError: as `local_path`.
    """
    path = local_path(path)
    return path / RUN_FILENAME if path.is_dir() else path


def read(path: str | os.PathLike[str]) -> Artifact | FormulaArtifact | NamedArtifact:
    """Return the artifact stored at `path`, or in the run directory that it is.

    Raises:
      UserError: missing, truncated or damaged file, another format version, parameters that do not fit the
        network, expression or name, or are not finite.
    """
    path = local_path(path)
    # Those of os.path are false where Path's own raise, such as of a name too long.
    if os.path.isdir(path):  # noqa: PTH112
        path = path / RUN_FILENAME
    if not os.path.isfile(path):  # noqa: PTH113
        raise UserError(f"no loss artifact at {path}: check the path, or {_HINT}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}): {_HINT}") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path} is a safetensors file but no loss artifact of edl_jax: {_HINT}")
    version = metadata.get("format_version")
    if version not in _KINDS:
        *readable, last = _KINDS
        raise UserError(
            f"{path} has format version {version}, expected {', '.join(readable)} or {last}: "
            "use the release of edl-jax that wrote it, or " + _HINT
        )
    try:
        return _KINDS[version].from_parts(json.loads(metadata["loss"]), tensors, path)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise UserError(f"{path} has damaged metadata ({reason(error, kind=True)}): {_HINT}") from error
