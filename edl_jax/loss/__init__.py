"""Losses that drop in where cross-entropy stood.

    from edl_jax import loss
    values = loss.get("edl")(logits, labels)      # one value per example

Everything public is listed in `__all__`; the underscored modules are private.
"""

from edl_jax.loss._artifact import save
from edl_jax.loss._base import Loss
from edl_jax.loss._classic import brier, cross_entropy, focal, label_smoothing, poly1
from edl_jax.loss._describe import Description, describe, summary
from edl_jax.loss._formula_file import FormulaArtifact
from edl_jax.loss._found import ace, baikal, sparse_lsr
from edl_jax.loss._learned import Artifact, Calibration, check_num_classes, learned_loss
from edl_jax.loss._logits import logit_norm, squentropy
from edl_jax.loss._margin import additive_margin, crammer_singer, weston_watkins, zero_one
from edl_jax.loss._network import NetworkConfig
from edl_jax.loss._properties import Properties, margin_profile, properties
from edl_jax.loss._registry import get, load, load_artifact, names
from edl_jax.loss._residual import barron, taylor_glo
from edl_jax.loss._robust import gce, mae, nce, nce_rce, reverse_cross_entropy, sce, taylor_cross_entropy
from edl_jax.loss._tempered import bi_tempered
from edl_jax.loss.expression import FormulaError, expression_loss

__all__ = [
    "Artifact",
    "Calibration",
    "Description",
    "FormulaArtifact",
    "FormulaError",
    "Loss",
    "NetworkConfig",
    "Properties",
    "ace",
    "additive_margin",
    "baikal",
    "barron",
    "bi_tempered",
    "brier",
    "check_num_classes",
    "crammer_singer",
    "cross_entropy",
    "describe",
    "expression_loss",
    "focal",
    "gce",
    "get",
    "label_smoothing",
    "learned_loss",
    "load",
    "load_artifact",
    "logit_norm",
    "mae",
    "margin_profile",
    "names",
    "nce",
    "nce_rce",
    "poly1",
    "properties",
    "reverse_cross_entropy",
    "save",
    "sce",
    "sparse_lsr",
    "squentropy",
    "summary",
    "taylor_cross_entropy",
    "taylor_glo",
    "weston_watkins",
    "zero_one",
]
