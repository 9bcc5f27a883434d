"""What a figure or a line of results calls a loss."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edl_jax.core.errors import UserError
from edl_jax.loss import expression, registry
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact
from edl_jax.loss.artifacts.named import NamedArtifact

_LONGEST = 40  # characters of a formula


def title(name: str | os.PathLike[str], parameters: Mapping[str, Any] | None = None) -> str:
    """Return what to call a loss in a figure, such as `focal (gamma=1)` or `per_class network of first`.

    Args:
      name: a name or path that `get` takes. A path whose file is gone or damaged is called by its folder and stem.
      parameters: hyper-parameters, as `get` takes them.
    """
    name = registry.canonical_name(os.fspath(name))
    if name in registry.names():
        return _named(name, parameters or {})
    path = Path(os.path.expanduser(name)).absolute()  # noqa: PTH111 - where there is no such user it is a name, too
    try:
        artifact = registry.load_artifact(path)
    except UserError:
        return f"{path.parent.name}/{path.stem}"
    if isinstance(artifact, NamedArtifact):
        return _named(artifact.name, artifact.parameters)
    return _formula(artifact) if isinstance(artifact, FormulaArtifact) else _network(artifact, path)


def _named(name: str, parameters: Mapping[str, Any]) -> str:
    """Return a name with its hyper-parameters."""
    shown = ", ".join(f"{key}={_number(value)}" for key, value in parameters.items())
    return f"{name} ({shown})" if shown else name


def _number(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(_number(item) for item in value)
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _formula(artifact: FormulaArtifact) -> str:
    """Return the text of a formula, cut where it is long."""
    record = artifact.record
    text = expression.to_text(record.expression, record.weights, digits=3)
    text = f"-({text})" if record.flip else text
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _network(artifact: Artifact, path: Path) -> str:
    """Return the kind of a network and where it lies: a run directory's own loss by the directory."""
    kind = artifact.network.kind
    place = path.parent.name if path.stem in ("loss", "optimum") else f"{path.parent.name}/{path.stem}"
    # Tables are made of optima alone.
    return f"optimum of {place}" if kind == "table" else f"{kind} network of {place}"
