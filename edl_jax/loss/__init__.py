"""Losses that drop in where cross-entropy stood.

    from edl_jax import loss
    values = loss.get("edl")(logits, labels)      # one value per example

Everything public is listed in `__all__`; the underscored modules are private.
"""

from edl_jax.loss._artifact import save
from edl_jax.loss._base import Loss
from edl_jax.loss._classic import brier, cross_entropy, label_smoothing
from edl_jax.loss._learned import Artifact, Calibration, check_num_classes, learned_loss
from edl_jax.loss._network import NetworkConfig
from edl_jax.loss._registry import get, load, load_artifact, names

__all__ = [
    "Artifact",
    "Calibration",
    "Loss",
    "NetworkConfig",
    "brier",
    "check_num_classes",
    "cross_entropy",
    "get",
    "label_smoothing",
    "learned_loss",
    "load",
    "load_artifact",
    "names",
    "save",
]
