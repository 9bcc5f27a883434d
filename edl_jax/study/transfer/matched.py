"""The mixtures that would have matched a whole training, with the losses that they imply, as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml
from scipy.special import expit, softmax

from edl_jax import loss
from edl_jax.core.errors import command
from edl_jax.core.files import write_atomic
from edl_jax.pretrain import ObjectiveConfig
from edl_jax.study.transfer import fit
from edl_jax.study.transfer.fit import Fit
from edl_jax.study.transfer.predictions import Predictions, quantities
from edl_jax.synthetic import optimum
from edl_jax.synthetic.law import OF_P_T
from edl_jax.synthetic.mixture import MixtureConfig

_SAMPLE = 1 << 14  # predictions that the optimum over real ones is solved for


class Implied(NamedTuple):
    """A loss along the line on which the wrong classes are equal.

    Attributes:
      logit: `[P]` logit p_t, ascending.
      values: `[P]` of the loss, 0 at the last.
      pull: `[P]` on the true class's logit.
    """

    logit: np.ndarray
    values: np.ndarray
    pull: np.ndarray


class Matched(NamedTuple):
    """What would have matched the training images of a whole training.

    Attributes:
      num_classes: C.
      fit: of the weights.
      mixture: the mixture with these weights.
      artifact: the loss that is the optimum of ranking over it.
      designed: the mixture with the quantiles of the real ln p_t, which is the real law.
      implied: the optimum of ranking over the real predictions themselves.
    """

    num_classes: int
    fit: Fit
    mixture: MixtureConfig
    artifact: loss.Artifact
    designed: MixtureConfig
    implied: Implied


def match(recorded: Mapping[int, Predictions], objective: ObjectiveConfig, num_classes: int, *, seed: int) -> Matched:
    """Return what would have matched a training, each of its epochs counting alike.

    Args:
      recorded: epoch -> predictions of training images, ascending; each stands for the epochs nearest to it.
      objective: the mixture whose components are used, and the objective whose optimum is meant.
      num_classes: C.
      seed: of what is drawn.
    """
    found = [quantities(each) for each in recorded.values()]
    sizes = [len(each["log_p_t"]) for each in found]
    weights = np.repeat(fit.spans(list(recorded)) / sizes, sizes)
    log_p_t, logit_p_t = (np.concatenate([each[name] for each in found]) for name in ("log_p_t", "logit_p_t"))
    count = int(1.0 / np.sum(np.square(weights)))  # predictions of one epoch that would have as much noise
    fitted = fit.fit(fit.shares(logit_p_t, weights), objective.mixture, num_classes, count, seed=seed)
    mixture = fit.with_weights(objective.mixture, fitted.weights)
    return Matched(
        num_classes,
        fitted,
        mixture,
        fit.implied_loss(mixture, objective, num_classes, seed=seed),
        fit.by_quantiles(objective.mixture, log_p_t, weights),
        _implied(list(recorded.values()), logit_p_t, weights, objective),
    )


def _implied(
    recorded: Sequence[Predictions], logit_p_t: np.ndarray, weights: np.ndarray, objective: ObjectiveConfig
) -> Implied:
    """Return the optimum of ranking over real predictions, its gradients as large as cross-entropy's over them.

    Args:
      recorded: the predictions.
      logit_p_t: `[N]` of all of them.
      weights: `[N]`, sum 1.
      objective: its beta, margin and severity.
    """
    order = np.argsort(logit_p_t, kind="stable")
    at = np.cumsum(weights[order])
    sample = logit_p_t[order][np.searchsorted(at, (np.arange(_SAMPLE) + 0.5) / _SAMPLE * at[-1])]
    severity = fit.severity_of(objective)
    of_log_p = OF_P_T[severity][0]
    solved = optimum.from_severities(
        of_log_p(-np.logaddexp(0.0, -sample)), severity, beta=objective.beta, margin=objective.margin
    )
    edges = fit.COARSE
    values = solved.loss_of_severity(of_log_p(-np.logaddexp(0.0, -edges)))
    logit, pull = 0.5 * (edges[1:] + edges[:-1]), -np.diff(values) / np.diff(edges)
    # Both gradients are this pull, and 1 - p_t, times that of logit p_t.
    slopes = np.concatenate([_slope_norms(each) for each in recorded]) * weights
    scale = np.sum(slopes * expit(-logit_p_t)) / np.sum(slopes * np.interp(logit_p_t, logit, pull))
    middle = 0.5 * (values[1:] + values[:-1])
    return Implied(logit, scale * (middle - values[-1]), scale * pull)


def _slope_norms(given: Predictions) -> np.ndarray:
    """Return the norm of d logit p_t / d logits, `[N]`."""
    rows = np.arange(len(given.labels))
    others = given.log_p.copy()
    others[rows, given.labels] = -np.inf
    return np.sqrt(1.0 + np.sum(np.square(softmax(others, axis=1)), axis=1))


def write(folder: Path, run: str, matched: Matched, objective: ObjectiveConfig) -> list[Path]:
    """Write presets of pretrain, RUN-weights.yaml and RUN-quantiles.yaml, and a loss, RUN-weights.safetensors."""
    paths = []
    for name, mixture in (("weights", matched.mixture), ("quantiles", matched.designed)):
        path = folder / f"{run}-{name}.yaml"
        text = f"# Mixture with the {name} of {run}: {command('pretrain')} --config FILE"
        text = "".join(x if x.isprintable() else "?" for x in text)
        settings = yaml.safe_dump(fit.preset(mixture, objective, matched.num_classes), sort_keys=False)
        write_atomic(path, f"{text}\n{settings}".encode())
        paths.append(path)
    stored = folder / f"{run}-weights.safetensors"
    loss.save(matched.artifact, stored)
    return [*paths, stored]


def shares_by_epoch(recorded: Sequence[Predictions]) -> list[np.ndarray]:
    """Return the share of predictions in each coarse bin of logit p_t, `[B]` each."""
    return [fit.coarse(fit.shares(quantities(each)["logit_p_t"])) for each in recorded]
