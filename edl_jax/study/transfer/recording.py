"""A training that is made again, with what the network predicts after some of its epochs.

Training images are predicted as the loss sees them: with the weights of that moment, batch normalisation by the
statistics of the batch, and augmentation, but for mixup and CutMix, whose labels have no p_t. Test images are predicted
as in an evaluation. Images and augmentation are the same in all epochs.
"""

import dataclasses
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load, save

from edl_jax import training
from edl_jax.backend import compiler
from edl_jax.core import status
from edl_jax.core.errors import UserError
from edl_jax.core.files import write_atomic
from edl_jax.core.runs import Run
from edl_jax.core.stopping import Stop
from edl_jax.downstream.config import DownstreamConfig
from edl_jax.downstream.task import Task
from edl_jax.downstream.train import Extras, run_one
from edl_jax.downstream.trainer import Trainers
from edl_jax.study.transfer.predictions import Predictions

PARTS = ("train", "test")
_EVAL_BATCH = 500
_KEY = 11  # of the augmentation, folded into the seed's

Arrays = dict[str, np.ndarray]
Recorder = Callable[[training.TrainState], Arrays]


class Recording(Run):
    """The directory of a run that keeps predictions before each checkpoint: what a checkpoint follows is there."""

    recorder: Recorder | None = None
    epochs: Collection[int] = ()

    def save(self, step: int, state: Any) -> None:
        """Save predictions, where they are wanted after this epoch, and the checkpoint."""
        if self.recorder is not None and step in self.epochs:
            write_atomic(_file(self.path, step), save(self.recorder(state)))
        super().save(step, state)


def train(
    path: Path,
    config: DownstreamConfig,
    task: Task,
    trainers: Trainers,
    epochs: Collection[int],
    examples: int,
    stop: Stop,
    *,
    note: str = "",
) -> dict[str, Any]:
    """Train what is left of a run, record predictions, and return the run's result.

    Args:
      path: directory of the run.
      config: its settings.
      task: from `prepare_task`.
      trainers: compiles, or has compiled.
      epochs: after which predictions are recorded.
      examples: training images and test images at the most; of training, a multiple of a batch, at least one.
      stop: asks to stop, after the next step; predictions that are being recorded are recorded to their end.
      note: added to the line that a person sees.

    Raises:
      DivergedError, Stopped: as the training of a downstream run.
    """
    config = dataclasses.replace(config, checkpoint_every=1)
    directory = Recording.open("downstream", config, out=path, resume=path.is_dir(), inputs=task.inputs)
    assert isinstance(directory, Recording)
    if not (path / "result.json").is_file():
        directory.recorder, directory.epochs = _recorder(config, task, examples), epochs
    start = time.perf_counter()
    return run_one(directory, config, task, trainers, Extras(figures=False), stop, start=start, note=note)


def read(path: Path, epoch: int) -> dict[str, Predictions]:
    """Return what was recorded after an epoch of the run in `path`: a part of `PARTS` -> predictions.

    Raises:
      UserError: nothing was, or the file is damaged.
    """
    file = _file(path, epoch)
    try:
        arrays = load(file.read_bytes())
        return {part: Predictions.of_logits(arrays[f"{part}_logits"], arrays[f"{part}_labels"]) for part in PARTS}
    except Exception as error:  # whatever safetensors makes of a damaged file
        why = "is missing" if not file.exists() else "cannot be read"
        raise UserError(f"{file} {why}: remove {path}, and --resume trains that run again") from error


def _file(path: Path, epoch: int) -> Path:
    return path / "predictions" / f"epoch-{epoch:04d}.safetensors"


def _recorder(config: DownstreamConfig, task: Task, examples: int) -> Recorder:
    """Compile what records predictions."""
    status.say("compiling")
    dataset, seed = task.dataset, config.seed
    prepare = training.make_prepare(dataset, jnp.dtype(task.precision))
    augment = training.make_augment(dataset, dataclasses.replace(config.augment, mixup=0.0, cutmix=0.0))
    size = config.batch_size
    count = max(min(examples, len(task.images)) // size, 1) * size
    rows = _chosen(task.labels, count, dataset.num_classes, seed)
    images, labels = np.asarray(task.images[rows]), task.labels[rows]
    chosen = _chosen(dataset.test_labels, min(examples, len(dataset.test_labels)), dataset.num_classes, seed)
    test_images, test_labels = np.asarray(dataset.test_images[chosen]), np.asarray(dataset.test_labels)[chosen]
    test = training.make_eval_batches(test_images, test_labels, min(_EVAL_BATCH, len(chosen)))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), _KEY), count // size)

    def seen(variables: Any, key: jax.Array, images: jax.Array, labels: jax.Array) -> jax.Array:
        if augment is not None:
            images, _ = augment(key, images, labels)
        logits, _ = task.model.apply(variables, prepare(images), train=True, mutable=["batch_stats"])
        return jnp.asarray(logits).astype(jnp.float32)

    def evaluated(variables: Any, images: jax.Array) -> jax.Array:
        return jnp.asarray(task.model.apply(variables, prepare(images), train=False)).astype(jnp.float32)

    batches = [
        (keys[i], images[i * size : (i + 1) * size], labels[i * size : (i + 1) * size]) for i in range(len(keys))
    ]
    compiled: dict[str, Any] = {}

    def record(state: training.TrainState) -> Arrays:
        now, averaged = state.variables, state.averaged.variables
        if not compiled:
            compiled["seen"] = compiler.compile_lowered(jax.jit(seen).lower(now, *batches[0]))
            compiled["evaluated"] = compiler.compile_lowered(jax.jit(evaluated).lower(averaged, test[0].images))
        logits = [compiled["seen"](now, *batch) for batch in batches]
        test_logits = [compiled["evaluated"](averaged, batch.images)[np.asarray(batch.mask)] for batch in test]
        return {
            "train_logits": np.concatenate(jax.device_get(logits)),
            "train_labels": np.asarray(labels, np.int32),
            "test_logits": np.concatenate(jax.device_get(test_logits)),
            "test_labels": np.asarray(test_labels, np.int32),
        }

    return record


def _chosen(labels: np.ndarray, count: int, num_classes: int, seed: int) -> np.ndarray:
    """Return indices `[count]` of examples with each class's share kept, in random order: a batch has all classes."""
    rows = training.stratified_indices(np.asarray(labels), count, num_classes=num_classes, seed=seed)
    return np.random.default_rng([seed, _KEY]).permutation(rows)
