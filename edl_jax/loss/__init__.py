"""Losses that drop in where cross-entropy stood.

    from edl_jax import loss
    values = loss.get("edl")(logits, labels)      # one value per example

Everything public is listed in `__all__`; the underscored modules are private.
"""

from edl_jax.loss.adapters.linear import linear
from edl_jax.loss.adapters.multilabel import multilabel
from edl_jax.loss.adapters.nll import of_nll
from edl_jax.loss.artifacts.file import save
from edl_jax.loss.artifacts.formula import FormulaArtifact
from edl_jax.loss.artifacts.learned import Artifact, Calibration, check_num_classes, learned_loss
from edl_jax.loss.artifacts.named import NamedArtifact
from edl_jax.loss.artifacts.regression import load_regression
from edl_jax.loss.contract import Loss
from edl_jax.loss.expression import FormulaError, expression_loss
from edl_jax.loss.function import LossFunction, is_function_of_p_t
from edl_jax.loss.networks.kinds import NetworkConfig
from edl_jax.loss.properties.compute import Properties, margin_profile, properties
from edl_jax.loss.properties.describe import Description, describe, summary
from edl_jax.loss.properties.title import title
from edl_jax.loss.registry import artifact_of, canonical_name, get, load, load_artifact, names
from edl_jax.loss.zoo.active_passive import amse, anl_ce, anl_fl, jal_ce, jal_fl
from edl_jax.loss.zoo.classic import brier, cross_entropy, dual_focal, focal, label_smoothing, poly1
from edl_jax.loss.zoo.found import ace, baikal, sparse_lsr
from edl_jax.loss.zoo.imbalance import asymmetric, balanced_softmax, logit_adjustment
from edl_jax.loss.zoo.logits import logit_norm, squentropy
from edl_jax.loss.zoo.margin import additive_margin, crammer_singer, weston_watkins, zero_one
from edl_jax.loss.zoo.residual import barron, taylor_glo
from edl_jax.loss.zoo.robust import gce, mae, nce, nce_rce, reverse_cross_entropy, sce, taylor_cross_entropy
from edl_jax.loss.zoo.tempered import bi_tempered

__all__ = [
    "Artifact",
    "Calibration",
    "Description",
    "FormulaArtifact",
    "FormulaError",
    "Loss",
    "LossFunction",
    "NamedArtifact",
    "NetworkConfig",
    "Properties",
    "ace",
    "additive_margin",
    "amse",
    "anl_ce",
    "anl_fl",
    "artifact_of",
    "asymmetric",
    "baikal",
    "balanced_softmax",
    "barron",
    "bi_tempered",
    "brier",
    "canonical_name",
    "check_num_classes",
    "crammer_singer",
    "cross_entropy",
    "describe",
    "dual_focal",
    "expression_loss",
    "focal",
    "gce",
    "get",
    "is_function_of_p_t",
    "jal_ce",
    "jal_fl",
    "label_smoothing",
    "learned_loss",
    "linear",
    "load",
    "load_artifact",
    "load_regression",
    "logit_adjustment",
    "logit_norm",
    "mae",
    "margin_profile",
    "multilabel",
    "names",
    "nce",
    "nce_rce",
    "of_nll",
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
    "title",
    "weston_watkins",
    "zero_one",
]
