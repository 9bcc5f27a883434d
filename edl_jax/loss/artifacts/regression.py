"""Losses of regression: artifacts whose metadata say so, as functions of predictions and targets."""

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from edl_jax.core.errors import UserError, require
from edl_jax.loss.artifacts.file import read
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact
from edl_jax.loss.artifacts.named import NamedArtifact
from edl_jax.loss.expression import Inputs, compile_function
from edl_jax.loss.networks import kinds

TASK = "regression"
"""Value of `task` in the metadata of such an artifact."""


def is_regression(artifact: Artifact | FormulaArtifact | NamedArtifact) -> bool:
    """Return whether an artifact is a loss of regression."""
    return artifact.metadata.get("task") == TASK


def load_regression(path: str | os.PathLike[str]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return the loss of regression stored at `path`, which `search` found.

    Args:
      path: a `.safetensors` artifact, or a run directory that holds loss.safetensors.

    Returns:
      (predictions `[...]`, targets `[...]`) -> values `[...]`, in the units that it was found in: predictions and
      targets standardised by the mean and standard deviation of the training targets.

    Raises:
      UserError: the artifact cannot be used, or is a loss of classification.
    """
    artifact = read(path)
    require(
        is_regression(artifact),
        f"{os.fspath(path)} is a loss of classification, of logits and labels: load it with loss.load",
    )
    if isinstance(artifact, FormulaArtifact):
        expression, weights, flip = artifact.record
        function = compile_function(expression, None if weights is None else np.asarray(weights))
        sign = -1.0 if flip else 1.0
        return lambda predictions, targets: sign * function(_inputs(predictions, targets))
    if isinstance(artifact, Artifact) and artifact.network.kind == "ml3":
        network, params = artifact.network, artifact.params
        return lambda predictions, targets: kinds.ml3.h(network, params, *jnp.broadcast_arrays(predictions, targets))
    raise UserError(f"{os.fspath(path)} holds no loss that regression can use: expected a formula or an ml3 network")


def _inputs(predictions: jax.Array, targets: jax.Array) -> Inputs:
    predictions, targets = jnp.broadcast_arrays(predictions, targets)
    nothing = jnp.full_like(predictions, jnp.nan)  # a prediction has no logarithms as a probability has
    return Inputs(targets.astype(predictions.dtype), predictions, nothing, nothing)
