"""The part of an artifact's file that holds a loss network: header, tensors, checks."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from edl_jax.core.errors import UserError, command
from edl_jax.loss.artifacts.learned import Artifact, Calibration
from edl_jax.loss.networks import kinds
from edl_jax.loss.networks.kinds import NetworkConfig

_HINT = f"make it again with `{command('pretrain')}`"


def parts(artifact: Artifact) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return (header, tensors) of an artifact."""
    tensors = {
        "params/" + "/".join(path): np.asarray(leaf, np.float32) for path, leaf in flatten_dict(artifact.params).items()
    }
    c = artifact.calibration
    header = {
        "network": {
            "kind": artifact.network.kind,
            "hidden": list(artifact.network.hidden),
            "activation": artifact.network.activation,
            "output": artifact.network.output,
        },
        "calibration": {
            "num_classes": list(c.num_classes),
            "scale": list(c.scale),
            "shift": list(c.shift),
            "tail_log_p": c.tail_log_p,
            "tail_slope": c.tail_slope,
        },
        "num_classes": artifact.num_classes,
        "metadata": dict(artifact.metadata),
    }
    return header, tensors


def from_parts(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], path: Path) -> Artifact:
    """Return the artifact of (header, tensors).

    Raises:
      UserError: what they hold cannot be used.
      LookupError, TypeError, ValueError, AttributeError: they are damaged.
    """
    network, calibration = header["network"], header["calibration"]
    try:
        config = NetworkConfig(
            network["kind"], tuple(network["hidden"]), network["activation"], network.get("output", "identity")
        )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    for name in tensors:
        if not name.startswith("params/"):
            raise ValueError(f"unexpected tensor {name}")
    flat = {tuple(name.split("/")[1:]): tensor for name, tensor in tensors.items()}
    artifact = Artifact(
        network=config,
        params=unflatten_dict(flat),
        calibration=Calibration(
            num_classes=tuple(calibration["num_classes"]),
            scale=tuple(calibration["scale"]),
            shift=tuple(calibration["shift"]),
            tail_log_p=float(calibration["tail_log_p"]),
            tail_slope=float(calibration["tail_slope"]),
        ),
        num_classes=header["num_classes"],
        metadata=header["metadata"],
    )
    check(artifact, path)
    return artifact


def check(artifact: Artifact, path: Path) -> None:
    """Raise `UserError` unless parameters and calibration are complete, of the right shapes and finite."""
    if artifact.network.kind == "joint" and artifact.num_classes is None:
        raise UserError(f"{path}: num_classes is None, expected the number of classes of its joint network: {_HINT}")
    expected = jax.eval_shape(lambda: kinds.init(jax.random.key(0), artifact.network, artifact.num_classes))
    want, have = _shapes(expected), _shapes(artifact.params)
    if want != have:
        wrong = sorted(name for name in {*want, *have} if want.get(name) != have.get(name))
        name = wrong[0]
        raise UserError(
            f"{path}: tensor {name} has shape {have.get(name)}, expected {want.get(name)} for this network: {_HINT}"
        )
    for name, leaf in flatten_dict(artifact.params).items():
        if not np.all(np.isfinite(np.asarray(leaf))):
            raise UserError(f"{path}: tensor {'/'.join(name)} holds NaN or infinity: {_HINT}")
    if artifact.network.kind == "table" and not float(artifact.params["log_p_min"]) < 0.0:
        raise UserError(f"{path}: the table starts at ln p = {artifact.params['log_p_min']}, expected below 0: {_HINT}")
    only = artifact.num_classes
    if only is not None and not (isinstance(only, int) and only >= 2):
        raise UserError(f"{path}: num_classes is {only!r}, expected null or a number from 2: {_HINT}")
    if not isinstance(artifact.metadata, Mapping):
        raise UserError(f"{path}: metadata is {artifact.metadata!r}, expected a mapping: {_HINT}")
    c = artifact.calibration
    complete = len(c.num_classes) == len(c.scale) == len(c.shift) > 0
    knots = np.asarray([c.num_classes, c.scale, c.shift] if complete else [], float)
    usable = (
        complete
        and np.all(np.isfinite(knots))
        and np.all(np.diff(knots[0]) > 0)
        and np.all(knots[:2] > 0)
        and np.isfinite(c.tail_log_p)
        and np.isfinite(c.tail_slope)
    )
    if not usable:
        raise UserError(f"{path}: the calibration is not finite, not positive or incomplete: {_HINT}")


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    leaves: dict[tuple[str, ...], Any] = dict(flatten_dict(params))
    return {"/".join(name): tuple(leaf.shape) for name, leaf in leaves.items()}
