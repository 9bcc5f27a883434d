"""Stage 2: train an image classifier with a loss, learned or classic.

    python run.py downstream --arch resnet18 --dataset cifar10 --loss edl

`run` is what the command calls, `run_seeds` what it calls for several seeds; `RunSequence` makes runs of any settings
one after another. Nothing here knows which loss it is: learned losses get cross-entropy's learning rate, schedule and
weight decay. What a run has trained is used with `predict`, `export` or, in Python, `load_classifier`.
"""

from edl_jax.downstream.classifier import Classifier, load_classifier
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.exported import export
from edl_jax.downstream.prediction import Prediction, predict, write_predictions
from edl_jax.downstream.seeds import require_finite, run_seeds, seeds_line
from edl_jax.downstream.sequence import RunSequence
from edl_jax.downstream.single import run, summary_line

__all__ = [
    "Classifier",
    "DownstreamConfig",
    "Prediction",
    "RunSequence",
    "export",
    "load_classifier",
    "predict",
    "require_finite",
    "run",
    "run_seeds",
    "seeds_line",
    "summary_line",
    "write_predictions",
]
