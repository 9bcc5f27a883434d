"""Stages of training: many losses, each trained by the same network on the same batches from the same first weights.

A stage is a line of text, such as `convnet:steps=300,batch_size=64`; `train` gives the validation error of every
loss. Test images are not read.
"""

from edl_jax.study.stages.results import Result, count
from edl_jax.study.stages.stage import Stage
from edl_jax.study.stages.train import check, train

__all__ = ["Result", "Stage", "check", "count", "train"]
