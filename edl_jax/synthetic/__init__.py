"""Synthetic supervision: predictions from a mixture, severity, and the ranking objective."""

from edl_jax.synthetic.drop_in import calibrate, draw_samples, gradient_norm_ratio
from edl_jax.synthetic.mixture import COMPONENTS, MixtureConfig, draw_predictions, sample, sample_labels
from edl_jax.synthetic.ranking import kendall_tau, ranking_accuracy
from edl_jax.synthetic.severity import SEVERITIES
from edl_jax.synthetic.shape import pull_report, shape_report

__all__ = [
    "COMPONENTS",
    "SEVERITIES",
    "MixtureConfig",
    "calibrate",
    "draw_predictions",
    "draw_samples",
    "gradient_norm_ratio",
    "kendall_tau",
    "pull_report",
    "ranking_accuracy",
    "sample",
    "sample_labels",
    "shape_report",
]
